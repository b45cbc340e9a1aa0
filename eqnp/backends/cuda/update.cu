// The state update of a layer: drive, feedback and nudge summed, the activation, the residual, in one pass.

// s' for u = drive + feedback - nudge.  `feedback`, `nudge`, `moved` may be missing, `old` where nobody reads it.
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
