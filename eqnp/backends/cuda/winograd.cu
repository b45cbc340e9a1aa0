// Winograd's F(M x M, r x r) with the pooling after it, and the adjoint: eqnp/ops/winograd.py.
//
// (H, W) input size, C channels, K output channels, D padding; (P, Q) tiles, T = M + r - 1 inputs of a tile along an
// axis; SIDE values of a tile after pooling along an axis, (OH, OW) size of the state above.  POOL is NONE, MAX or
// AVERAGE.  AT (M, T) and BT (T, T) are the transforms along one axis, A and B their transposes, as initialisers.
//
// cuBLAS computes the t^2 products V_i U_i between the two kernels of a direction.  V is (T^2, N P Q, C), M is
// (T^2, N P Q, K), with the tiles in the order n, p, q.  One thread computes all entries of one tile in one channel.

#define NONE 0
#define MAX 1
#define AVERAGE 2

// y = left x left^T. Sizes and `left` are compile-time constants: zeros cost nothing, and all values stay in registers.
template <int R, int S> INLINE void both_axes(const REAL (&left)[R][S], const REAL (&x)[S][S], REAL (&y)[R][R])
{
  REAL half[R][S];
#pragma unroll
  for (int i = 0; i < R; i++)
#pragma unroll
    for (int j = 0; j < S; j++) {
      half[i][j] = 0;
#pragma unroll
      for (int k = 0; k < S; k++)
        if (left[i][k] != 0) half[i][j] += left[i][k] * x[k][j];
    }
#pragma unroll
  for (int i = 0; i < R; i++)
#pragma unroll
    for (int j = 0; j < R; j++) {
      y[i][j] = 0;
#pragma unroll
      for (int k = 0; k < S; k++)
        if (left[j][k] != 0) y[i][j] += half[i][k] * left[j][k];
    }
}

// The sample n, the position (p, q) and the channel of entry e of an array (N, P, Q, channels).
INLINE void tile_of(index_t e, index_t channels, index_t &n, int &p, int &q, index_t &channel)
{
  channel = e % channels;
  index_t tile = e / channels;
  q = tile % Q, p = tile / Q % P, n = tile / (Q * P);
}

INLINE void read_tile(const REAL *from, index_t e, index_t count, REAL (&x)[T][T])
{
#pragma unroll
  for (int i = 0; i < T; i++)
#pragma unroll
    for (int j = 0; j < T; j++) x[i][j] = from[size_t(i * T + j) * count + e];
}

INLINE void write_tile(REAL *to, index_t e, index_t count, const REAL (&x)[T][T])
{
#pragma unroll
  for (int i = 0; i < T; i++)
#pragma unroll
    for (int j = 0; j < T; j++) to[size_t(i * T + j) * count + e] = x[i][j];
}

// V = (B^T x B^T) d, with d the inputs of every tile, zero outside the input.
KERNEL transform_inputs(const REAL *x, REAL *v, index_t count)
{
  const REAL transform[T][T] = BT;
  EACH(e, count)
  {
    index_t n, c;
    int p, q;
    tile_of(e, C, n, p, q, c);
    REAL d[T][T], y[T][T];
#pragma unroll
    for (int i = 0; i < T; i++)
#pragma unroll
      for (int j = 0; j < T; j++) {
        int h = p * M + i - D, w = q * M + j - D;
        bool inside = h >= 0 && h < H && w >= 0 && w < W;
        d[i][j] = inside ? x[((size_t(n) * H + h) * W + w) * C + c] : REAL(0);
      }
    both_axes(transform, d, y);
    write_tile(v, e, count, y);
  }
}

INLINE bool above_at(index_t n, int p, int q, int a, int b, index_t k, size_t &at)
{
  int h = p * SIDE + a, w = q * SIDE + b;
  at = ((size_t(n) * OH + h) * OW + w) * K + k;
  return h < OH && w < OW; // false where the tile exceeds the state
}

INLINE void outputs_of(const REAL *m, index_t e, index_t count, REAL (&y)[M][M])
{
  const REAL transform[M][T] = AT;
  REAL products[T][T];
  read_tile(m, e, count, products);
  both_axes(transform, products, y);
}

// The state above = pooling((A^T x A^T) M) + bias, and its winners.  A later place wins only if it is larger by more
// than |x| spread[k], with |x| of the tile, so the first of equal outputs wins: eqnp/ops/ties.py.  `bias` may be null.
// With POOL MAX, `above` may be null; with another POOL, `reached`, `spread` and `winner` may be null.
KERNEL pool_outputs(const REAL *m, const REAL *bias, const REAL *reached, const REAL *spread, REAL *above, place_t *winner,
                    index_t count)
{
  EACH(e, count)
  {
    index_t n, k;
    int p, q;
    tile_of(e, K, n, p, q, k);
    REAL y[M][M];
    outputs_of(m, e, count, y);
    REAL shift = bias ? bias[k] : REAL(0);
#if POOL == MAX
    REAL margin = norm_of(reached, e / K) * spread[k];
#endif
#pragma unroll
    for (int a = 0; a < SIDE; a++)
#pragma unroll
      for (int b = 0; b < SIDE; b++) {
        size_t at;
        if (!above_at(n, p, q, a, b, k, at)) continue;
#if POOL == NONE
        above[at] = y[a][b] + shift;
#else
        REAL first = y[2 * a][2 * b], second = y[2 * a][2 * b + 1];
        REAL third = y[2 * a + 1][2 * b], fourth = y[2 * a + 1][2 * b + 1];
#if POOL == MAX
        REAL best;
        winner[at] = winner_of(first, second, third, fourth, margin, best);
        if (above) above[at] = best + shift;
#else
        above[at] = REAL(0.25) * (first + second + third + fourth) + shift;
#endif
#endif
      }
  }
}

// The state above = the outputs at given winners, which is linear in M.
KERNEL pick_outputs(const REAL *m, const place_t *winner, REAL *above, index_t count)
{
#if POOL == MAX
  EACH(e, count)
  {
    index_t n, k;
    int p, q;
    tile_of(e, K, n, p, q, k);
    REAL y[M][M];
    outputs_of(m, e, count, y);
#pragma unroll
    for (int a = 0; a < SIDE; a++)
#pragma unroll
      for (int b = 0; b < SIDE; b++) {
        size_t at;
        if (!above_at(n, p, q, a, b, k, at)) continue;
        int place = winner[at];
        REAL top = place % 2 ? y[2 * a][2 * b + 1] : y[2 * a][2 * b];
        REAL bottom = place % 2 ? y[2 * a + 1][2 * b + 1] : y[2 * a + 1][2 * b];
        above[at] = place / 2 ? bottom : top;
      }
  }
#endif
}

// M = (A x A) Y with Y the values of the state above unpooled: the adjoint of pool_outputs at fixed winners.
KERNEL spread_values(const REAL *above, const place_t *winner, REAL *m, index_t count)
{
  const REAL transform[T][M] = A;
  EACH(e, count)
  {
    index_t n, k;
    int p, q;
    tile_of(e, K, n, p, q, k);
    REAL y[M][M], products[T][T];
#pragma unroll
    for (int a = 0; a < SIDE; a++)
#pragma unroll
      for (int b = 0; b < SIDE; b++) {
        size_t at;
        bool inside = above_at(n, p, q, a, b, k, at);
        REAL value = inside ? above[at] : REAL(0);
#if POOL == NONE
        y[a][b] = value;
#else
#if POOL == MAX
        int place = inside ? winner[at] : 0;
#pragma unroll
        for (int other = 0; other < 4; other++)
          y[2 * a + other / 2][2 * b + other % 2] = other == place ? value : REAL(0);
#else
#pragma unroll
        for (int other = 0; other < 4; other++) y[2 * a + other / 2][2 * b + other % 2] = REAL(0.25) * value;
#endif
#endif
      }
    // M is even in F(2x2) and F(4x4). With pooling and an odd M, some outputs of a tile would be in no window.
    both_axes(transform, y, products);
    write_tile(m, e, count, products);
  }
}

// d = (B x B) V in place: the adjoint of the transform in transform_inputs.
KERNEL transform_back(REAL *v, index_t count)
{
  const REAL transform[T][T] = B;
  EACH(e, count)
  {
    REAL x[T][T], d[T][T];
    read_tile(v, e, count, x);
    both_axes(transform, x, d);
    write_tile(v, e, count, d);
  }
}

// The sum over all tiles that contain entry e of the input; each of the T^2 parts of V has `count` entries.
INLINE REAL gathered(const REAL *d, index_t e, index_t count)
{
  index_t c = e % C, n = e / (C * W * H);
  int w = e / C % W + D, h = e / (C * W) % H + D;
  REAL sum = 0;
  // Tile p has row h as its entry i = h - p M if 0 <= i < T. These are at most MOST tiles, the last of them h / M.
  constexpr int MOST = (T + M - 1) / M;
#pragma unroll
  for (int a = MOST - 1; a >= 0; a--)
#pragma unroll
    for (int b = MOST - 1; b >= 0; b--) {
      int p = h / M - a, q = w / M - b, i = h - p * M, j = w - q * M;
      bool inside = p >= 0 && p < P && i < T && q >= 0 && q < Q && j < T;
      sum += inside ? d[size_t(i * T + j) * count + ((size_t(n) * P + p) * Q + q) * C + c] : REAL(0);
    }
  return sum;
}

// x = the sum over all tiles: the adjoint of the copies in transform_inputs.
KERNEL gather_tiles(const REAL *d, REAL *x, index_t numbers, index_t count)
{
  EACH(e, count) x[e] = gathered(d, e, numbers);
}

// The same followed by the state update: s' for u = first + second + third + gathered.
KERNEL gather_tiles_and_update(const REAL *d, const REAL *first, const REAL *second, const REAL *third, const REAL *old,
                               REAL *out, REAL *moved, index_t numbers, index_t count)
{
  Moved far;
  EACH(e, count)
  {
    REAL s = moved_to(added(first, second, third, e) + gathered(d, e, numbers), old, e);
    out[e] = s;
    if (moved) far.see(s, old[e]);
  }
  far.write(moved);
}
