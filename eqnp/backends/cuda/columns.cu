// The columns of a convolution and their adjoint: eqnp/ops/conv.py.
//
// (H, W) input size, C channels, (KH, KW) kernel, S stride, D padding, (P, Q) output size.

// col[n, p, q, i, j, c] = x[n, p S + i - D, q S + j - D, c], zero outside.  One thread per entry of col.
KERNEL columns(const REAL *x, REAL *col, index_t count)
{
  EACH(e, count)
  {
    index_t c = e % C, j = e / C % KW, i = e / (C * KW) % KH;
    index_t q = e / (C * KW * KH) % Q, p = e / (C * KW * KH * Q) % P, n = e / (C * KW * KH * Q * P);
    int h = int(p) * S + int(i) - D, w = int(q) * S + int(j) - D;
    bool inside = h >= 0 && h < H && w >= 0 && w < W;
    col[e] = inside ? x[((size_t(n) * H + h) * W + w) * C + c] : REAL(0);
  }
}

// The sum of all entries of col that are copies of entry e of x.
INLINE REAL gathered(const REAL *col, index_t e)
{
  index_t c = e % C, n = e / (C * W * H);
  int w = e / C % W, h = e / (C * W) % H;
  REAL sum = 0;
  for (int i = 0; i < KH; i++) {
    int p = h + D - i;
    if (p < 0 || p % S || p / S >= P) continue;
    for (int j = 0; j < KW; j++) {
      int q = w + D - j;
      if (q < 0 || q % S || q / S >= Q) continue;
      sum += col[((((size_t(n) * P + p / S) * Q + q / S) * KH + i) * KW + j) * C + c];
    }
  }
  return sum;
}

// The adjoint of columns: x[n, h, w, c] = the sum of its copies in col.  One thread per entry of x.
KERNEL gather(const REAL *col, REAL *x, index_t count)
{
  EACH(e, count) x[e] = gathered(col, e);
}

// The same followed by the state update: s' for u = first + second + third + gathered.
KERNEL gather_and_update(const REAL *col, const REAL *first, const REAL *second, const REAL *third, const REAL *old,
                         REAL *out, REAL *moved, index_t count)
{
  Moved far;
  EACH(e, count)
  {
    REAL s = moved_to(added(first, second, third, e) + gathered(col, e), old, e);
    out[e] = s;
    if (moved) far.see(s, old[e]);
  }
  far.write(moved);
}
