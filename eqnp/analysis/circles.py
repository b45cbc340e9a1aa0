"""The bias of points on a circle against the exact gradient, by their number and the radius: how ``eqnp check`` fits N.

In theory the bias of N points is of order r^N in the radius r, for a holomorphic network (``eqnp.holomorphic``).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from eqnp.analysis.diagnostics import total_norm
from eqnp.analysis.steady import SettledPhases
from eqnp.analysis.theorem import biases_of, fitted_slope
from eqnp.errors import ConfigurationError
from eqnp.holomorphic import require_holomorphic
from eqnp.networks import Network
from eqnp.stencils import circle

POINTS = (2, 4, 8)
RADII = tuple(2.0 ** (k / 2) for k in (2, 1, 0, -1, -2, -3))  # in units of beta; N = 8 is soon below rounding
STAGES = 5 * len(RADII)  # of ``measure_circles``: the points of N = 8 are those of N = 2 and 4, too


def is_holomorphic(network: Network) -> bool:
    """Return whether points on a circle make the gradient of a network exact."""
    try:
        require_holomorphic(network)
    except ConfigurationError:
        return False
    return True


def measure_circles(phases: SettledPhases, beta: float) -> dict[str, Any]:
    """Measure the bias |estimate - exact| / |exact| of N = 2, 4 and 8 points, all phases settled.

    It is measured at six radii, 2 ``beta`` and each smaller than the one before by the root of 2, over the samples that
    settle freely and at all points of all radii.

    Returns ``samples`` (how many settle; 0 if the exact gradient is zero) and ``of`` (how many there are). If there are
    any, also ``radii`` (6,), and by the number of points, ``2``, ``4`` and ``8``: ``bias`` and ``rounding`` (6,),
    ``slope``, ``slope_error`` and ``fitted`` as ``theorem.measure_bias`` has them, and ``order``, which is N.
    """
    radii = [float(beta * r) for r in RADII]
    good = phases.settled()
    for radius in radii:
        for point, _ in circle(radius, POINTS[-1]).points:
            good = good & phases.settled(point)
    result: dict[str, Any] = {"samples": int(good.sum()), "of": len(phases)}
    if not good.any():
        return result
    exact = phases.exact(good).gradient
    if not (size := total_norm(exact)):
        return result | {"samples": 0}
    result["radii"] = np.array(radii)
    for count in POINTS:
        stencils = list(map(partial(circle, points=count), radii))
        biases = biases_of(phases, stencils, good, exact)
        rounding = np.array([phases.rounding(stencil, good) / size for stencil in stencils])
        result[str(count)] = {
            "bias": biases,
            "rounding": rounding,
            "order": count,
            **fitted_slope(radii, biases, rounding),
        }
    return result
