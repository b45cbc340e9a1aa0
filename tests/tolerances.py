"""The only numbers that say how close is close, each with its reason."""

import numpy as np

ADJOINT = {
    np.float64: 1e-12,  # two inner products of a few thousand terms, 2.2e-16 each
    np.float32: 2e-5,  # the same with 1.2e-7 each
}
ORACLE = {
    np.float64: 1e-12,  # the same sums in another order
    np.float32: 1e-5,
}
WINOGRAD_FORM = {
    np.float64: 1e-11,  # transforms that grow numbers and cancel: up to 1e3 roundings' worth for 8 points
    np.float32: 5e-5,  # seen: 2e-6 for 6 points, 1e-5 for 8
}
PUBLISHED = 1e-10  # the issue's: the authors' float64 arrays after up to 80 + 15 steps, relative to the largest entry
SETTLED = 1e-9  # the same at steady states that another order of updates reached, both to a residual of 1e-15
DIRECTIONAL = 1e-7  # central difference of step 1e-5: truncation 1e-10, cancellation 1e-16 / 1e-5, times a margin
ORDER = 0.08  # how far the ratio of two biases may be from 2 or 4 (seen: 1.95 to 1.98, 4.00 to 4.01)
ASYMMETRIC = 1e-6  # of a gradient at beta 1e-4: beta^2 times third derivatives, and rounding 1e-15 / beta (seen: 2e-9)
ONE_FILE = 1e-12  # engine and eqnp/from_scratch.py, float64: the same sums in another order, in all steps (seen: 2e-13)
ROUNDING_ESTIMATE = 4.0  # a factor: a share estimated from random rounding (seen: 0.37 to 2.7)
HOLOMORPHIC = 1e-10  # the issue's: many points on a large circle against the exact gradient (seen: 3e-14)
EXACT = 0.0  # the same operations in the same order


def relative_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Return max |actual - expected| relative to max |expected|."""
    scale = float(np.abs(expected).max()) or 1.0
    return float(np.abs(np.asarray(actual) - expected).max()) / scale
