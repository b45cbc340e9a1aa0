// 2x2 pooling after a convolution, with the bias, and the adjoint: eqnp/ops/pooling.py.
//
// (P, Q) size before and (P / 2, Q / 2) after pooling, K channels.  An odd last row or column belongs to no window.

#define HALF_P (P / 2)
#define HALF_Q (Q / 2)

// The index, before pooling, of the first place of window e; e is an index after pooling.
INLINE size_t first_place(index_t e)
{
  index_t k = e % K, q = e / K % HALF_Q, p = e / (K * HALF_Q) % HALF_P, n = e / (K * HALF_Q * HALF_P);
  return ((size_t(n) * P + 2 * p) * Q + 2 * q) * K + k;
}

// pooled = the maximum of the window + bias, winner = its place. A later place wins only if it is larger by more than
// |x| spread[k], with |x| of the window, so the first of equal values wins: eqnp/ops/ties.py.  `pooled` and `bias` may
// be null.
KERNEL max_pool(const REAL *u, const REAL *bias, const REAL *reached, const REAL *spread, REAL *pooled, place_t *winner,
                index_t count)
{
  EACH(e, count)
  {
    size_t at = first_place(e), below = at + size_t(Q) * K;
    REAL best, margin = norm_of(reached, e / K) * spread[e % K];
    winner[e] = winner_of(u[at], u[at + K], u[below], u[below + K], margin, best);
    if (pooled) pooled[e] = bias ? best + bias[e % K] : best;
  }
}

// pooled = u at the winner of the window: max_pool at given winners, the adjoint of max_unpool.
KERNEL pick_winners(const REAL *u, const place_t *winner, REAL *pooled, index_t count)
{
  EACH(e, count) pooled[e] = u[first_place(e) + (size_t(winner[e] / 2) * Q + winner[e] % 2) * K];
}

// The window of entry e of an array before pooling, and the place of e in the window; false if e is in no window.
INLINE bool window_of(index_t e, size_t &window, int &place)
{
  index_t k = e % K, q = e / K % Q, p = e / (K * Q) % P, n = e / (K * Q * P);
  window = ((size_t(n) * HALF_P + p / 2) * HALF_Q + q / 2) * K + k;
  place = p % 2 * 2 + q % 2;
  return p / 2 < HALF_P && q / 2 < HALF_Q;
}

// u = v at the winner of its window, zero elsewhere.  One thread per entry of u.
KERNEL max_unpool(const REAL *v, const place_t *winner, REAL *u, index_t count)
{
  EACH(e, count)
  {
    size_t window;
    int place;
    bool inside = window_of(e, window, place);
    u[e] = inside && winner[window] == place ? v[window] : REAL(0);
  }
}

// pooled = the mean of the window + bias.  `bias` may be null.
KERNEL average_pool(const REAL *u, const REAL *bias, REAL *pooled, index_t count)
{
  EACH(e, count)
  {
    size_t at = first_place(e);
    REAL mean = REAL(0.25) * (u[at] + u[at + K] + u[at + size_t(Q) * K] + u[at + (size_t(Q) + 1) * K]);
    pooled[e] = bias ? mean + bias[e % K] : mean;
  }
}

// u = a quarter of the value of its window: the adjoint of average_pool without bias.
KERNEL average_unpool(const REAL *v, REAL *u, index_t count)
{
  EACH(e, count)
  {
    size_t window;
    int place;
    u[e] = window_of(e, window, place) ? REAL(0.25) * v[window] : REAL(0);
  }
}

// out = u + bias, without pooling.
KERNEL add_bias(const REAL *u, const REAL *bias, REAL *out, index_t count)
{
  EACH(e, count) out[e] = u[e] + bias[e % K];
}
