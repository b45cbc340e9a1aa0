// The state update of a layer: drive, feedback and nudge summed, the activation, the residual, in one pass.

// s'[e] = sigma(drive[e] + feedback[e] - nudge[e]).  `feedback`, `nudge`, and `old` with `moved` may be missing.
KERNEL update(const REAL *drive, const REAL *feedback, const REAL *nudge, const REAL *old, REAL *out, REAL *moved,
              index_t count)
{
  Moved far;
  EACH(e, count)
  {
    REAL u = drive[e];
    if (feedback) u += feedback[e];
    if (nudge) u -= nudge[e];
    REAL s = SIGMA(u);
    out[e] = s;
    if (old) far.see(s, old[e]);
  }
  far.write(moved);
}
