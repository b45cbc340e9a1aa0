// The state update of a layer in one pass, eqnp/ops/moves.py: drive + feedback - nudge, the activation, the residual.

// s' for u = drive + feedback - nudge.  `feedback`, `nudge` and `moved` may be null, and `old` if it is not needed.
KERNEL update(const REAL *drive, const REAL *feedback, const REAL *nudge, const REAL *old, REAL *out, REAL *moved,
              index_t count)
{
  Moved far;
  EACH(e, count)
  {
    REAL u = drive[e];
    if (feedback) u += feedback[e];
    if (nudge) u -= nudge[e];
    REAL s = moved_to(u, old, e);
    out[e] = s;
    if (moved) far.see(s, old[e]);
  }
  far.write(moved);
}
