// What the margins of ties need: the norm |x| of the inputs of each window, and how weights spread rounding errors:
// eqnp/ops/ties.py.
//
// (H, W) input size, C channels, K output channels, TAPS = KH KW; (P, Q) windows or tiles. A window starts at
// STEP p - D and has SPAN_H x SPAN_W inputs.  LANES neighbouring threads share the channels of one place, so they read
// neighbouring numbers and there are enough threads. `norm_of` in common.cu adds their sums.

// partial[n, h, w, lane] = the sum of x^2 over the channels lane, lane + LANES, ...
KERNEL squares(const REAL *x, REAL *partial, index_t count)
{
  EACH(e, count)
  {
    const REAL *at = x + size_t(e / LANES) * C;
    REAL sum = 0;
    for (index_t c = e % LANES; c < C; c += LANES) sum += at[c] * at[c];
    partial[e] = sum;
  }
}

// reached[n, p, q, lane] = the sum of x^2 over the inputs of the window in the channels of the lane.
KERNEL reach(const REAL *partial, REAL *reached, index_t count)
{
  EACH(e, count)
  {
    index_t lane = e % LANES;
    int q = e / LANES % Q, p = e / (LANES * Q) % P;
    size_t n = e / (LANES * Q * P);
    REAL sum = 0;
#pragma unroll
    for (int i = 0; i < SPAN_H; i++)
#pragma unroll
      for (int j = 0; j < SPAN_W; j++) {
        int h = p * STEP + i - D, w = q * STEP + j - D;
        bool inside = h >= 0 && h < H && w >= 0 && w < W;
        sum += inside ? partial[((n * H + h) * W + w) * LANES + lane] : REAL(0);
      }
    reached[e] = sum;
  }
}

// spread[k] = MULTIPLE eps r_k(w) for weights w (TAPS, C, K).  One thread per output channel.
KERNEL spreads(const REAL *w, REAL *spread, index_t count)
{
  const REAL eps = sizeof(REAL) == 4 ? REAL(1.1920928955078125e-7) : REAL(2.220446049250313e-16);
  EACH(k, count)
  {
    REAL largest = 0;
    for (index_t i = 0; i < TAPS * C; i++) {
      REAL size = fabs(w[size_t(i) * K + k]);
      if (size > largest) largest = size;
    }
    REAL unit = largest > 0 ? largest : REAL(1); // so that no square overflows
    // With n lanes, the running sum at row i is that at row i - n, plus the weight.  `tap` starts anew at every tap.
    REAL one = 0, two[2] = {0, 0}, four[4] = {0, 0, 0, 0}, tap = 0;
    REAL ones = 0, twos = 0, fours = 0, taps = 0; // sums of their squares
#pragma unroll 4
    for (index_t i = 0; i < TAPS * C; i++) {
      REAL x = w[size_t(i) * K + k] / unit;
      one += x;
      ones += one * one;
      REAL next = two[1] + x;
      two[1] = two[0], two[0] = next;
      twos += next * next;
      next = four[3] + x;
      four[3] = four[2], four[2] = four[1], four[1] = four[0], four[0] = next;
      fours += next * next;
      tap = i % C == 0 ? x : tap + x;
      taps += tap * tap;
    }
    REAL most = ones;
    if (C % 2 == 0 && 2 * twos > most) most = 2 * twos;
    if (C % 4 == 0 && 4 * fours > most) most = 4 * fours;
    spread[k] = REAL(MULTIPLE) * eps * largest * sqrt(most / (TAPS * C) + taps / C);
  }
}
