// The state update of a layer in one pass, eqnp/ops/moves.py: drives + feedbacks - nudge, the activation, the residual.

// s' for u = first + second + third + feedback - nudge.  `first` is a drive, `second` and `third` are further drives or
// feedbacks. All but `first` and `out` may be null; `old` if it is not needed.
KERNEL update(const REAL *feedback, const REAL *nudge, const REAL *first, const REAL *second, const REAL *third,
              const REAL *old, REAL *out, REAL *moved, index_t count)
{
  Moved far;
  EACH(e, count)
  {
    REAL u = added(first, second, third, e);
    if (feedback) u += feedback[e];
    if (nudge) u -= nudge[e];
    REAL s = moved_to(u, old, e);
    out[e] = s;
    if (moved) far.see(s, old[e]);
  }
  far.write(moved);
}
