"""KP-VF: forward and backward weights under one update come together by the law, and do not without it."""

from __future__ import annotations

import nets
import numpy as np
import pytest

from eqnp.analysis.diagnostics import alignment_angles, angle
from eqnp.contrasts import common_contrast
from eqnp.dynamics import Phases
from eqnp.estimators import estimate
from eqnp.optim import SGD
from eqnp.runs.experiment import per_parameter
from eqnp.stencils import symmetric


def train(case, steps, momentum=0.0, rate=0.05, decay=0.02, contrast=common_contrast):
    """Return the parameters after every update."""
    optimizer, parameters = SGD(momentum), case.parameters
    rates = {name: rate * (1 + n) for n, name in enumerate(case.network.architecture.connection_names)}
    rates = per_parameter(case.network.architecture, tuple(rates.values()))
    decays = dict.fromkeys(parameters, decay)
    state = optimizer.init(parameters)
    for _ in range(steps):
        result = estimate(
            case.network,
            parameters,
            case.x,
            case.target,
            symmetric(0.3),
            Phases(8, 4),
            contrast=contrast,
            masks=case.masks,
        )
        parameters, state = optimizer.update(result.gradient, state, parameters, rates, decays)
        yield parameters


@pytest.mark.parametrize("loss", nets.LOSSES)
@pytest.mark.parametrize("shape", ["max", "deep dense"])
def test_the_difference_only_decays(shape, loss):
    """theta_f(t) - theta_b(t) = (1 - eta lambda)^t (theta_f(0) - theta_b(0)) over 1,000 steps of plain SGD."""
    case = nets.make(shape, loss, kind="own winners")
    rates = [0.05 * (1 + n) for n in range(len(case.network.connections))]
    for t, parameters in enumerate(train(case, 1000), start=1):
        if t % 100 and t > 3:
            continue
        for n in range(1, len(rates)):
            f, b = f"forward.{n}.weight", f"backward.{n}.weight"
            expected = (1 - rates[n] * 0.02) ** t * (case.parameters[f] - case.parameters[b])
            np.testing.assert_allclose(parameters[f] - parameters[b], expected, atol=t * 1e-15)
    assert any((parameters[name] != case.parameters[name]).any() for name in parameters)


def test_with_momentum_both_sides_still_move_alike():
    case = nets.make("max", "cross_entropy_readout", kind="own winners")
    *_, parameters = train(case, 50, momentum=0.9, decay=0.0)
    kept = case.parameters["forward.1.weight"] - case.parameters["backward.1.weight"]
    np.testing.assert_allclose(parameters["forward.1.weight"] - parameters["backward.1.weight"], kept, atol=1e-13)


def test_angles_fall_with_the_common_update_and_less_without():
    case = nets.make("deep dense", "cross_entropy_readout", kind="own winners")
    assert set(alignment_angles(case.parameters)) == {"backward.1", "backward.2"}
    *_, together = train(case, 300)
    *_, apart = train(case, 300, contrast=None)
    for name, degrees in alignment_angles(together).items():
        assert degrees < 20 and degrees < 0.5 * alignment_angles(apart)[name]


def test_angle_by_hand():
    a = np.array([[1.0, 0.0]])
    assert angle(a, 3 * a) == 0 and angle(a, -a) == 180
    assert angle(a, np.array([[0.0, 2.0]])) == 90 and angle(a, 0 * a) == 90
    assert angle(a, np.array([[1.0, 1.0]])) == pytest.approx(45)
