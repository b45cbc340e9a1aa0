"""Rounding over beta: the estimate against a measurement, and who is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from commands import overrides, run, train_small
from learners import batch, learner, trained
from tolerances import ROUNDING_ESTIMATE

from eqnp.analysis.precision import ENOUGH, Rounding, estimate_rounding, rounding_warning
from eqnp.backends.backend import get_backend
from eqnp.estimators import estimate
from eqnp.losses import one_hot
from eqnp.prepared import PreparedNetwork
from eqnp.stencils import make_stencil
from eqnp.step import vector_field
from eqnp.training import initial_state
from eqnp.watching import squared_norm

NUMPY = get_backend("numpy")
KINDS = {
    "symmetric": [],
    "one-sided": ["training.estimator=one-sided", "model.loss=squared_error"],
    "vector field": ["model.kind=vector-field", "model.activation=hard_sigmoid"],
    "common": ["model.kind=vector-field", "training.common_update=true"],
    "asymmetric": ["model.kind=vector-field", "training.nudging=asymmetric"],
    "four-point": ["training.estimator=four-point", "dynamics.schedule=even-odd", "dynamics.omega=1.6"],
    "up-down": ["dynamics.schedule=up-down", "model.feedback=0.3"],
    "one-sided, up-down": ["dynamics.schedule=up-down", "model.feedback=0.3", "training.estimator=one-sided"],
    "smooth": ["model.activation=sigmoid", "model.layers.0.pool=average", "model.loss=cross_entropy"],
}


def estimates(made, parameters, x, labels):
    """Return the estimate of each dtype with the activity pattern of all its phases, (N, units)."""
    found = []
    for dtype in (np.float32, np.float64):
        cast = {name: p.astype(np.float32).astype(dtype) for name, p in parameters.items()}
        target, stencil = one_hot(labels, 10, dtype), make_stencil(made.estimator, made.beta, [made.seed])
        result = estimate(made.network, cast, x.astype(dtype), target, stencil, made.phases, contrast=made.contrast)
        prepared = PreparedNetwork(made.network, cast, x.astype(dtype))
        betas = [0.0, *(beta for beta, _ in stencil.points if beta)]
        phases = zip((result.free, *result.nudged), betas, strict=True)
        patterns = [pattern(prepared, phase.states, beta, target) for phase, beta in phases]
        found.append((result.gradient, np.concatenate(patterns, axis=1)))
    return found


def pattern(prepared, states, beta, target):
    winners = [w.copy() for w in prepared.drives(states)[1] if w is not None]
    field = vector_field(prepared, states, beta, target)
    clips = [sigma.derivative(u) == 0 for sigma, u in zip(prepared.network.activations, field, strict=True)]
    return np.concatenate([a.reshape(len(a), -1) for a in (*winners, *clips)], axis=1)


@pytest.mark.parametrize("updates", [0, 12], ids=["initial", "trained"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_estimate_is_what_float32_differs_from_float64_by(kind, updates):
    """Over three powers of beta, on the samples whose activity pattern is the same in both."""
    made = learner(KINDS[kind])
    parameters, (x, labels) = trained(made, updates), batch()
    for beta in (1e-2, 1e-3, 1e-4):
        at = replace(made, beta=beta)
        (_, single), (_, double) = estimates(at, parameters, x, labels)
        same = (single == double).all(axis=1)
        assert same.sum() >= 4, same
        (single, _), (double, _) = estimates(at, parameters, x[same], labels[same])
        found = estimate_rounding(at, parameters, x[same], labels[same])
        g = double[found.name]
        measured = np.sqrt(squared_norm(single[found.name] - g) / squared_norm(g))
        assert measured / ROUNDING_ESTIMATE <= found.share <= measured * ROUNDING_ESTIMATE, (beta, found, measured)


def test_rounding_grows_as_beta_falls_and_the_smallest_beta_is_where_it_is_small():
    made = learner()
    parameters, (x, labels) = trained(made, 0), batch()
    found = [estimate_rounding(replace(made, beta=beta), parameters, x, labels) for beta in (1e-4, 1e-8, 1e-30)]
    for one in found[1:]:
        assert one.share * one.beta == pytest.approx(found[0].share * found[0].beta, rel=0.02)
    at = replace(made, beta=found[0].smallest_beta)
    assert estimate_rounding(at, parameters, x, labels).share == pytest.approx(ENOUGH, rel=0.02)


def test_nothing_is_said_of_rounding_while_states_grow_without_limit():
    """Its cure would be a large beta, which cures nothing."""
    made = learner(["model.activation=relu", "model.layers=[{dense=30},{dense=30},{dense=10}]"])
    x, labels = batch()
    wide = {name: 20 * p for name, p in trained(made, 0).items()}
    assert estimate_rounding(made, wide, x, labels).warning == rounding_warning(made, wide, x, labels) == ""
    assert rounding_warning(replace(made, beta=1e-9), trained(made, 0), x, labels)


def test_float64_takes_a_beta_that_is_smaller_by_the_ratio_of_the_spacings():
    smallest = []
    for dtype in ("float32", "float64"):
        made = replace(learner(dtype=dtype), beta=1e-5)
        parameters, (x, labels) = trained(made, 0, dtype), batch(dtype=np.dtype(dtype))
        smallest.append(estimate_rounding(made, parameters, x, labels))
    assert [each.precision for each in smallest] == ["float32", "float64"]
    assert smallest[1].smallest_beta / smallest[0].smallest_beta == pytest.approx(2.0**-29, rel=0.1)
    tiny = replace(made, beta=1e-14)
    assert "rounding in float64" in rounding_warning(tiny, parameters, x, labels)
    assert rounding_warning(replace(made, beta=1e-8), parameters, x, labels) == ""


@pytest.mark.parametrize(
    ("share", "beta", "words"),
    [
        (
            0.35,
            1e-4,
            ["35 % of the gradient of forward.0.weight", "beta = 0.0007 or more", "float64", "at dynamics.beta"],
        ),
        (2e5, 1e-8, ["2e+05 times the gradient", "beta = 0.04 or more", "float64"]),
        (2e25, 1e-30, ["2e+25 times", "beta = 0.0004 or more\n"]),  # which float64 does not cure
    ],
)
def test_the_warning_names_the_smallest_beta(share, beta, words):
    warning = Rounding(beta, share, "forward.0.weight", "float32", 2.0**-23).warning
    assert "\n" not in warning
    for word in words:
        assert word in warning + "\n"


def test_with_weak_feedback_more_of_it_is_the_cure():
    """A beta in the millions would end every phase at the bounds."""
    small, large = (Rounding(1.0, share, "forward.0.weight", "float32", 2.0**-23, 1e-3).warning for share in (0.1, 1e5))
    assert "take a model.feedback above 0.001, or dynamics.beta = 2 or more" in small
    assert "take a model.feedback above 0.001, or training.dtype" in large and "dynamics.beta = 2" not in large


def test_products_in_tf32_have_a_cure_of_their_own():
    warning = Rounding(1e-2, 0.35, "forward.0.weight", "TF32", 2.0**-23).warning
    assert "rounding in TF32" in warning and warning.endswith("or training.tf32 = false")


def test_who_is_not_warned():
    assert Rounding(0.5, ENOUGH, "forward.0.weight", "float32", 2.0**-23).warning == ""
    assert Rounding(0.5, np.nan, "", "float32", 2.0**-23).warning == ""
    made = learner(["training.algorithm=bptt", "dynamics.beta=1e-8"])
    assert rounding_warning(made, trained(made, 0), *batch()) == ""
    parameters = {name: 0 * p for name, p in trained(learner(), 0).items()}  # every gradient but the readout's is zero
    assert rounding_warning(learner(["dynamics.beta=1e-8"]), parameters, *batch()) == ""


def test_a_run_without_memory_for_the_estimate_says_nothing_of_it(monkeypatch):
    def exhausted(*arguments):
        raise MemoryError

    monkeypatch.setattr("eqnp.analysis.precision.estimate_rounding", exhausted)
    made = learner(["dynamics.beta=1e-8"])
    assert rounding_warning(made, trained(made, 0), *batch()) == ""


@pytest.mark.parametrize("kind", ["symmetric", "common", "four-point"])
def test_the_estimate_on_any_backend(tier, kind):
    """The rounding of other products is another, of the same size."""
    x, labels = batch(4)
    shares = []
    for place in (tier, NUMPY):
        made = replace(learner(KINDS[kind], place), beta=1e-4)
        shares.append(estimate_rounding(made, initial_state(made, 1.0, "float32").parameters, x, labels).share)
    assert shares[1] / ROUNDING_ESTIMATE <= shares[0] <= shares[1] * ROUNDING_ESTIMATE


def test_train_and_check_warn_of_a_beta_that_is_too_small(capsys, tmp_path):
    small, tiny = overrides("training.epochs=1"), overrides("dynamics.beta=1e-7")
    words = ("warning: at dynamics.beta = 1e-07 rounding in float32 is about ", "take dynamics.beta = ", "float64")
    result = train_small(capsys, tmp_path / "run", *small, *tiny)
    assert result.code == 0 and all(word in result.err for word in words)
    result = run(capsys, "check", tmp_path / "run", "--samples", "0:4", "--steps", "50")
    assert result.code == 0 and all(word in result.err for word in words) and "warning" not in result.out
    assert "warning" not in train_small(capsys, tmp_path / "usual", *small).err
    double = overrides("training.dtype=float64")
    assert "warning" not in train_small(capsys, tmp_path / "double", *small, *tiny, *double).err
