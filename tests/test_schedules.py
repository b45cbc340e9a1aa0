"""Even/odd sweeps: against layer by layer, to steady states and gradients of the net, in fewer steps of equal cost."""

from __future__ import annotations

import nets
import numpy as np
import pytest

from eqnp.dynamics import relax, residual
from eqnp.estimators import estimate
from eqnp.stencils import symmetric

DROPOUT = pytest.mark.parametrize("dropout", [False, True], ids=["", "dropout"])


def naive_sweep(case, states, beta, target):
    """Even layers one by one, each as a whole synchronous step would move it; then the odd ones."""
    new = [s.copy() for s in states]
    for first in (1, 0):
        for n in range(first, len(new), 2):
            new[n] = case.prepare().step(new, beta, target)[n].copy()
    return new


@DROPOUT
@pytest.mark.parametrize("kind", nets.KINDS)
@pytest.mark.parametrize(("shape", "loss"), nets.NETS)
def test_sweeps_against_layer_by_layer(shape, loss, kind, dropout):
    case = nets.make(shape, loss, "half_hard_sigmoid", gain=2.0, kind=kind, dropout=dropout)
    for beta, target in ((0.0, None), (0.3, case.target)):
        states = case.random_states()
        swept = relax(case.prepare(), states, 5, beta, target, schedule="even-odd").states
        for _ in range(5):
            states = naive_sweep(case, states, beta, target)
        for a, b in zip(swept, states, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.parametrize(("shape", "loss"), nets.NETS)
def test_sweeps_settle_in_fewer_steps(shape, loss):
    """To a steady state of the synchronous step; with a maximum there are several, without it is the same one."""
    case = nets.make(shape, loss)
    arguments = (case.network, case.parameters, case.x, case.target, symmetric(0.05), 500, 500, 1e-14)
    both = {name: estimate(*arguments, schedule=name) for name in ("synchronous", "even-odd")}
    sweeps, steps = both["even-odd"], both["synchronous"]
    assert sweeps.free.steps <= steps.free.steps
    assert residual(case.prepare().step(sweeps.free.states), sweeps.free.states) <= 1e-13
    if shape in ("dense", "deep dense", "average"):
        for a, b in zip(sweeps.free.states, steps.free.states, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12)
        for name, g in steps.gradient.items():
            np.testing.assert_allclose(sweeps.gradient[name], g, atol=1e-10)


def test_jointly_is_apart():
    case = nets.make("max", "cross_entropy_readout")
    arguments = (case.network, case.parameters, case.x, case.target, symmetric(0.1), 9, 5)
    apart, joint = (estimate(*arguments, joint=joint, schedule="even-odd").gradient for joint in (False, True))
    for name, g in apart.items():
        np.testing.assert_allclose(joint[name], g, atol=1e-12)


def test_a_sweep_computes_what_a_step_does(monkeypatch):
    """Counted: every drive once, every feedback once."""
    case = nets.make("deep dense")
    counts = {}

    def count(name):
        original = getattr(type(case.network.connections[1]), name)

        def counted(self, *args):
            counts[name] = counts.get(name, 0) + 1
            return original(self, *args)

        monkeypatch.setattr(type(case.network.connections[1]), name, counted)

    prepared = case.prepare()
    for name in ("drive", "feedback"):
        count(name)
    found = {}
    for schedule in ("synchronous", "even-odd"):
        for steps in (10, 20):
            counts.clear()
            relax(prepared, prepared.zero_states(), steps, schedule=schedule)
            found[schedule, steps] = dict(counts)
    for name in ("drive", "feedback"):
        per_step = {s: found[s, 20][name] - found[s, 10][name] for s in ("synchronous", "even-odd")}
        assert per_step["synchronous"] == per_step["even-odd"] == 30
