"""Statements of docs/derivations.md that no other test measures."""

from __future__ import annotations

import nets
import numpy as np
import pytest
from tolerances import DIRECTIONAL, ORDER

from eqnp.analysis.diagnostics import minus, total_norm
from eqnp.analysis.energy import energy
from eqnp.contrasts import symmetric_contrast
from eqnp.derivatives import field_gradient, field_jvp
from eqnp.dynamics import Phase, Phases, relax
from eqnp.estimators import estimate
from eqnp.reference import implicit_gradient
from eqnp.stencils import four_point, one_sided, symmetric
from eqnp.step import vector_field

SETTLED, STEP = Phase(2000, 1e-15), 1e-5


def nudged(case, beta, parameters=None):
    """Return the energy under nudging at its steady state, E + beta l, summed over samples, and that state."""
    case = nets.Case(case.network, parameters or case.parameters, case.x, case.target)
    states = relax(case.prepare(), case.settle().states, SETTLED, beta, case.target).states
    loss = case.network.loss_value(case.parameters, states, case.target)
    return (energy(case.network, case.parameters, case.x, states) + beta * loss).sum(), loss.sum(), states


@pytest.mark.parametrize("loss", nets.LOSSES)
@pytest.mark.parametrize("shape", ["max", "residual"])
def test_only_explicit_dependence_counts(shape, loss):
    """dG/dbeta = l(s_beta) and dG/dtheta = -dPhi_beta/dtheta(s_beta), at a beta that is not 0."""
    case, beta = nets.make_settling(shape, loss), 0.02
    _, value, states = nudged(case, beta)
    by_beta = (nudged(case, beta + STEP)[0] - nudged(case, beta - STEP)[0]) / (2 * STEP)
    assert by_beta == pytest.approx(value, rel=DIRECTIONAL)
    along = nets.direction(case.parameters)
    ends = [nudged(case, beta, nets.moved(case.parameters, along, step))[0] for step in (STEP, -STEP)]
    explicit = symmetric_contrast(case.prepare(), states, [(1.0, beta, states)], case.target)
    assert (ends[0] - ends[1]) / (2 * STEP) == pytest.approx(nets.dot(explicit, along), rel=DIRECTIONAL)


def test_the_moments_of_the_table():
    beta, m = 0.3, np.arange(8)
    odd = m % 2 == 1
    expected = {
        "one-sided": np.where(m == 0, 0, beta ** (m - 1.0)),
        "symmetric": odd * beta ** (m - 1.0),
        "four-point": odd * beta ** (m - 1.0) * (8 - 2.0**m) / 6,
    }
    for make in (one_sided, symmetric, four_point):
        stencil = make(beta)
        moments = [sum(c * b**k for b, c in stencil.points) for k in m]
        np.testing.assert_allclose(moments, expected[stencil.name], atol=1e-14)


def test_an_unsettled_free_phase_cancels_in_the_symmetric_estimate():
    """After two free steps, a tenth of beta makes the error of the one-sided estimate ten times as large."""
    case, errors = nets.make("deep dense"), {}
    exact = implicit_gradient(case.prepare(), case.settle().states, case.target, 2000, 1e-15).gradient
    for make in (one_sided, symmetric):
        for beta in (1e-3, 1e-4):
            found = estimate(case.network, case.parameters, case.x, case.target, make(beta), Phases(2, 8))
            errors[make, beta] = total_norm(minus(found.gradient, exact))
    assert errors[one_sided, 1e-4] / errors[one_sided, 1e-3] == pytest.approx(10, rel=ORDER)
    assert errors[symmetric, 1e-4] / errors[symmetric, 1e-3] == pytest.approx(1, rel=ORDER)
    assert errors[one_sided, 1e-4] > 1000 * errors[symmetric, 1e-4]


def test_what_plain_nudging_misses_in_a_vector_field():
    """v of plain phases, v of the exact gradient, and their difference by A - A^T, of one sample."""
    case = nets.make_settling("deep dense", "squared_error", kind="own winners", samples=1)
    prepared, free = case.prepare(), case.settle().states
    sizes = [s.size for s in free]

    def joined(states):
        return np.concatenate([s.ravel() for s in states])

    def apart(vector):
        return [part.reshape(s.shape) for part, s in zip(np.split(vector, np.cumsum(sizes)[:-1]), free, strict=True)]

    places = [None] * len(case.network.edges)
    unit = np.eye(sum(sizes))
    A = np.stack([joined(field_jvp(prepared, apart(column), places, places)) for column in unit], axis=1)
    u = [un.copy() for un in vector_field(prepared, free)]
    D = np.diag(joined([sigma.derivative(un) for sigma, un in zip(case.network.activations, u, strict=True)]))
    g = joined([*(0 * s for s in free[:-1]), case.network.dl_ds(case.parameters, free, case.target)])
    v = -np.linalg.solve(unit - D @ A, D @ g)
    exact = -np.linalg.solve(unit - D @ A.T, D @ g)

    ends = [joined(relax(prepared, free, SETTLED, beta, case.target).states) for beta in (STEP, -STEP)]
    np.testing.assert_allclose((ends[0] - ends[1]) / (2 * STEP), v, atol=DIRECTIONAL * abs(v).max())
    np.testing.assert_allclose(v - exact, np.linalg.solve(unit - D @ A, D @ (A - A.T) @ exact), atol=1e-14)
    assert abs(v - exact).max() > 0.01 * abs(v).max()
    reference = implicit_gradient(prepared, free, case.target, 2000, 1e-15).gradient
    for name, of in field_gradient(prepared, free, apart(-exact), places, places).items():
        np.testing.assert_allclose(of, reference[name], atol=1e-13, err_msg=name)
