// Common to all sources. REAL (float or double), SIGMA (an activation below) and all sizes are macros, so divisions by
// them are cheap; only the number of samples N is known at run time.
//
// A kernel has one thread for each of its `count` outputs, or for a few neighbouring outputs. No two threads write the
// same output and there are no atomics, so results are bitwise reproducible. Channels are the last axis of all arrays,
// so neighbouring threads read and write neighbouring numbers. The tests compile the same text with a C++ compiler and
// run the threads of a grid one after the other.

typedef unsigned char place_t; // the place of a pooling window's winner, 0 1 / 2 3
typedef unsigned int index_t;

#define KERNEL extern "C" __global__ void
#define EACH(e, count) \
  for (index_t e = blockIdx.x * blockDim.x + threadIdx.x; e < (count); e += gridDim.x * blockDim.x)

// ---- the activations of eqnp/ops/activations.py, with the same names

#define INLINE static __device__ __forceinline__

[[maybe_unused]] INLINE REAL clipped(REAL u, REAL low, REAL high) { return u < low ? low : (u > high ? high : u); }
[[maybe_unused]] INLINE REAL linear(REAL u) { return u; }
[[maybe_unused]] INLINE REAL sigmoid(REAL u) { return REAL(0.5) * (tanh(2 * u - 1) + 1); } // 1 / (1 + exp(-4 (u - 1/2)))

// The clip to the range of each activation, also for a state that over-relaxation moved out of the range.
[[maybe_unused]] INLINE REAL linear_range(REAL s) { return s; }
[[maybe_unused]] INLINE REAL sigmoid_range(REAL s) { return clipped(s, 0, 1); }
[[maybe_unused]] INLINE REAL hard_sigmoid_range(REAL s) { return clipped(s, 0, 1); }
[[maybe_unused]] INLINE REAL half_hard_sigmoid_range(REAL s) { return clipped(s, 0, 1); }
[[maybe_unused]] INLINE REAL centered_hard_sigmoid_range(REAL s) { return clipped(s, REAL(-0.5), REAL(0.5)); }
[[maybe_unused]] INLINE REAL tanh_range(REAL s) { return clipped(s, -1, 1); }
[[maybe_unused]] INLINE REAL relu_range(REAL s) { return s < 0 ? REAL(0) : s; } // NaN stays NaN, unlike with fmax
[[maybe_unused]] INLINE REAL relu6_range(REAL s) { return clipped(s, 0, 6); }

[[maybe_unused]] INLINE REAL hard_sigmoid(REAL u) { return hard_sigmoid_range(u); }
[[maybe_unused]] INLINE REAL half_hard_sigmoid(REAL u) { return half_hard_sigmoid_range(REAL(0.5) * u); }
[[maybe_unused]] INLINE REAL centered_hard_sigmoid(REAL u) { return centered_hard_sigmoid_range(u); }
[[maybe_unused]] INLINE REAL relu(REAL u) { return relu_range(u); }
[[maybe_unused]] INLINE REAL relu6(REAL u) { return relu6_range(u); }

// ---- the maximum of a pooling window: eqnp/ops/pooling.py

#ifdef LANES
// |x| of the inputs of a window, from what `reach` in ties.cu wrote: sums of squares (windows, LANES).
[[maybe_unused]] INLINE REAL norm_of(const REAL *reached, index_t window)
{
  REAL sum = 0;
  for (index_t lane = 0; lane < LANES; lane++) sum += reached[size_t(window) * LANES + lane];
  return sqrt(sum);
}
#endif

[[maybe_unused]] INLINE REAL larger(REAL a, REAL b) { return b > a || b != b ? b : a; } // NaN if any is NaN

// The place of the maximum of four values; a later place wins only if it is larger by more than `margin`.
[[maybe_unused]] INLINE place_t winner_of(REAL first, REAL second, REAL third, REAL fourth, REAL margin, REAL &best)
{
  REAL top = larger(first, second), bottom = larger(third, fourth);
  place_t right_above = second - margin > first, right_below = fourth - margin > third;
  best = larger(top, bottom);
  return bottom - margin > top ? place_t(2 + right_below) : right_above;
}

// ---- the state update: eqnp/ops/moves.py

// The sum of up to three arrays' entries: the drives of a state, and its feedbacks that other kernels computed.
[[maybe_unused]] INLINE REAL added(const REAL *first, const REAL *second, const REAL *third, index_t e)
{
  REAL u = first[e];
  if (second) u += second[e];
  if (third) u += third[e];
  return u;
}

// s' = s + omega (sigma(u) - s), clipped to the range of sigma. OMEGA is a macro; at 1, the old state is not read.
[[maybe_unused]] INLINE REAL moved_to(REAL u, const REAL *old, index_t e)
{
  if (OMEGA == 1) return SIGMA(u);
  return SIGMA_RANGE(old[e] + REAL(OMEGA) * (SIGMA(u) - old[e]));
}

// The largest |s' - s| of one thread; NaN if any is NaN.
struct Moved {
  REAL most;
  __device__ __forceinline__ Moved() : most(0) {}
  __device__ __forceinline__ void see(REAL now, REAL before)
  {
    REAL by = fabs(now - before);
    if (by > most || by != by) most = by;
  }
  // Each thread of the grid writes its own entry of `moved`, which may be null.
  __device__ __forceinline__ void write(REAL *moved) const
  {
    if (moved) moved[blockIdx.x * blockDim.x + threadIdx.x] = most;
  }
};
