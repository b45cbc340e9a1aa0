// The norm |x| of the inputs of each window, for the margins of ties: eqnp/ops/ties.py.
//
// (H, W) input size, C channels, (P, Q) windows or tiles. A window starts at STEP p - D and has SPAN_H x SPAN_W inputs.
// LANES neighbouring threads share the channels of one place, so they read neighbouring numbers.

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

// reached[n, p, q] = |x| over the inputs of the window.  One thread per window.
KERNEL reach(const REAL *partial, REAL *reached, index_t count)
{
  EACH(e, count)
  {
    int q = e % Q, p = e / Q % P;
    size_t n = e / (Q * P);
    REAL sum = 0;
    for (int i = 0; i < SPAN_H; i++) {
      int h = p * STEP + i - D;
      if (h < 0 || h >= H) continue;
      for (int j = 0; j < SPAN_W; j++) {
        int w = q * STEP + j - D;
        if (w < 0 || w >= W) continue;
        const REAL *at = partial + ((n * H + h) * W + w) * LANES;
        for (int lane = 0; lane < LANES; lane++) sum += at[lane];
      }
    }
    reached[e] = sqrt(sum);
  }
}
