"""The counted FLOPs of steps and gradients are those of the products that are computed."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from eqnp.analysis.costs import Costs, connections_of, form_costs, form_of
from eqnp.backends.backend import get_backend
from eqnp.dynamics import Phase, relax
from eqnp.learner import BPTT
from eqnp.losses import one_hot
from eqnp.prepared import PreparedNetwork, PreparedWeights
from eqnp.runs.configfile import load
from eqnp.runs.experiment import make_learner

SHAPE, N = (12, 12, 2), 3
CHAIN = "{conv=3,kernel=3,padding=1,pool='%s'},{conv=4,kernel=[3,2],pool='%s'},{dense=7},{dense=10}"


class Counter:
    """Counts the multiplications of NumPy's products, those for the margins of ties left out."""

    def __init__(self, monkeypatch):
        self.total, plain = 0, np.matmul

        def matmul(a, b, out=None):
            if not sys._getframe(1).f_code.co_filename.endswith("ties.py"):
                self.total += math.prod(a.shape) * b.shape[-1]
            return plain(a, b, out=out)

        monkeypatch.setattr(np, "matmul", matmul)

    def of(self, work):
        self.total = 0
        work()
        return 2 * self.total


def learner_of(*settings, pools=("max", "max")):
    chosen = [f"model.layers=[{CHAIN % pools}]", "training.convolution=direct", "dynamics.T1=7", "dynamics.T2=4"]
    return make_learner(load("digits", [*chosen, *settings]), SHAPE, 10, get_backend("numpy"))


def work_of(learner):
    rng = np.random.default_rng(0)
    parameters = learner.network.architecture.initial_parameters(rng, 1.0, np.float32)
    x, labels = rng.random((N, *SHAPE), dtype=np.float32), rng.integers(0, 10, N)
    weights, target = PreparedWeights(learner.network, parameters), one_hot(labels, 10, np.float32)
    return weights, x, target


SEGMENTS = "states computed twice"
WAYS = [
    [],
    ["training.estimator=one-sided"],
    ["training.estimator=four-point", "model.loss=squared_error"],
    ["dynamics.schedule=even-odd"],
    ["dynamics.schedule=up-down"],
    ["dynamics.schedule=up-down", "dynamics.T2=1"],
    ["dynamics.schedule=up-down", "dynamics.T2=1", "training.estimator=one-sided"],
    ["model.kind=vector-field", "dynamics.schedule=up-down"],
    ["model.kind=vector-field", "training.nudging=asymmetric", "dynamics.schedule=up-down"],
    ["model.kind=vector-field"],
    ["model.kind=vector-field", "model.feedback_winners=forward", "dynamics.schedule=even-odd"],
    ["model.kind=vector-field", "training.common_update=true"],
    ["model.kind=vector-field", "training.nudging=asymmetric"],
    ["model.kind=vector-field", "training.nudging=asymmetric", "dynamics.schedule=even-odd"],
    ["model.kind=vector-field", "training.nudging=asymmetric", "model.feedback_winners=forward"],
    ["training.algorithm=bptt"],
    ["training.algorithm=bptt", "dynamics.T2=7", SEGMENTS],
    ["training.algorithm=bptt", "model.kind=vector-field", "model.loss=squared_error"],
]


@pytest.mark.parametrize("settings", WAYS, ids=" ".join)
@pytest.mark.parametrize("pools", [("max", "max"), ("average", "none")])
def test_counted_is_what_is_computed(monkeypatch, settings, pools):
    learner = learner_of(*(each for each in settings if each != SEGMENTS), pools=pools)
    if SEGMENTS in settings:
        learner = replace(learner, bptt=BPTT(segment=3))
    weights, x, target = work_of(learner)
    costs, count = Costs(learner), Counter(monkeypatch)
    gradient = count.of(lambda: learner.gradient(weights, x, target, learner.stencil(0, 0), None))
    assert gradient == N * costs.gradient

    def settled(steps, nudged=False):
        prepared = PreparedNetwork(learner.network, weights, x)
        beta = (0.1, target) if nudged else ()
        start = prepared.zero_states() if nudged else None
        return relax(prepared, start, Phase(steps, schedule=learner.phases.schedule), *beta).states

    for nudged, expected in ((False, costs.step), (True, costs.nudged_step)):
        assert count.of(partial(settled, 5, nudged)) - count.of(partial(settled, 4, nudged)) == N * expected
    whole = count.of(lambda: learner.network.outputs(weights.parameters, settled(7)))
    assert whole == N * costs.evaluation


@pytest.mark.parametrize("points", [2, 4, 8])
@pytest.mark.parametrize("schedule", ["synchronous", "even-odd", "up-down"])
def test_a_complex_state_counts_as_two(monkeypatch, points, schedule):
    settings = ["training.estimator=circle", f"dynamics.points={points}", f"dynamics.schedule={schedule}"]
    learner = learner_of(*settings, "model.activation=tanh", pools=("average", "none"))
    weights, x, target = work_of(learner)
    gradient = Counter(monkeypatch).of(lambda: learner.gradient(weights, x, target, learner.stencil(0, 0), None))
    assert gradient == N * Costs(learner).gradient


def test_edges_of_a_chain_and_their_forms():
    learner = make_learner(load("digits"), (28, 28, 1), 10, get_backend("numpy"))
    first, second, last = connections_of(learner.network)
    assert [(e.name, e.lower, e.upper) for e in (first, second, last)] == [
        ("forward.0", 0, 1),
        ("forward.1", 1, 2),
        ("readout", 2, 3),
    ]
    assert (first.below, first.above, last.above) == ((28, 28, 1), (12, 12, 16), (10,))
    assert second.products == 8 * 8 * 25 * 16 * 32 and last.products == 512 * 10
    for edge in (first, second):
        costs = form_costs(edge)
        assert form_of(edge.connection) == min(costs, key=costs.get)
    assert form_of(last.connection) == "" and form_costs(last) == {}
