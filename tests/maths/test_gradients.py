"""The gradient oracle: every kind of network, loss, estimator and dropout against derivatives found in another way.

BPTT against finite differences of the unrolled net; implicit differentiation against finite differences of the settled
one; Equilibrium Propagation against implicit differentiation with its order in beta, and against BPTT step by step.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import derivatives
import nets
import numpy as np
import pytest

from eqnp.contrasts import common_contrast
from eqnp.dynamics import Phases
from eqnp.errors import OutOfMemoryError
from eqnp.estimators import estimate
from eqnp.networks import SymmetricNetwork
from eqnp.ops.activations import ACTIVATIONS
from eqnp.prepared import PreparedNetwork
from eqnp.reference import plan_segments
from eqnp.stencils import one_sided, symmetric
from eqnp.step import step, vector_field

DROPOUT = pytest.mark.parametrize("dropout", [False, "weights", "states"], ids=["", "dropout", "scaled states"])
KINDS = pytest.mark.parametrize("kind", nets.KINDS)
NETS = pytest.mark.parametrize(("shape", "loss"), nets.NETS)
FEW = pytest.mark.parametrize(
    ("shape", "loss"), [("max", "cross_entropy_readout"), ("deep dense", "squared_error"), ("strided", "cross_entropy")]
)


@DROPOUT
@KINDS
@NETS
def test_bptt_is_the_derivative_of_the_unrolled_net(shape, loss, kind, dropout):
    derivatives.check_bptt(nets.make(shape, loss, kind=kind, dropout=dropout, activation="tanh", gain=0.7))


@KINDS
@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "tanh"])
def test_bptt_with_every_activation(activation, kind):
    derivatives.check_bptt(nets.make("max", "squared_error", activation, gain=1.0, kind=kind))


@DROPOUT
@KINDS
@FEW
def test_bptt_in_segments_and_through_the_last_steps(shape, loss, kind, dropout):
    derivatives.check_truncation(nets.make(shape, loss, kind=kind, dropout=dropout, activation="tanh", gain=0.7))


@DROPOUT
@KINDS
@NETS
def test_implicit_differentiation_is_exact_and_the_limit_of_bptt(shape, loss, kind, dropout):
    derivatives.check_implicit(nets.make_settling(shape, loss, kind=kind, dropout=dropout))


@DROPOUT
@NETS
def test_the_order_of_every_estimator(shape, loss, dropout):
    case = nets.make_settling(shape, loss, dropout=dropout)
    derivatives.check_order(case, exact=derivatives.implicit_derivative, orders=derivatives.ALL_ORDERS)


@DROPOUT
@NETS
def test_a_vector_field_with_tied_weights_is_a_symmetric_network(shape, loss, dropout):
    """Its estimator has the same orders, for forward and backward weights each; KP-VF learns the sum of both."""
    case = nets.make_settling(shape, loss, kind="own winners", tied=True, dropout=dropout)
    derivatives.check_order(case, exact=derivatives.implicit_derivative, orders=derivatives.ALL_ORDERS)
    exact = derivatives.implicit(case).gradient
    arguments = (case.network, case.parameters, case.x, case.target, symmetric(1e-4), Phases(2000, 2000, 1e-15))
    common = estimate(*arguments, contrast=common_contrast, masks=case.masks).gradient
    for forward, backward in ((f"{e.name}.weight", f"{e.backward}.weight") for e in case.network.edges if e.lower):
        both = exact[forward] + exact[backward]
        for name in (forward, backward):
            np.testing.assert_allclose(common[name], both, atol=1e-6 * np.abs(both).max())


@DROPOUT
@NETS
def test_ep_step_by_step_is_bptt(shape, loss, dropout):
    derivatives.check_steps(nets.make(shape, loss, dropout=dropout))


@FEW
def test_ep_step_by_step_is_bptt_in_a_tied_vector_field(shape, loss):
    derivatives.check_steps(nets.make(shape, loss, kind="own winners", tied=True))


def test_untied_weights_make_another_gradient():
    """Without symmetry EP is not the gradient: the test above would notice."""
    with pytest.raises(AssertionError):
        derivatives.check_steps(nets.make("max", "squared_error", kind="own winners"))


@KINDS
def test_where_the_feedback_unpools(kind):
    """Own winners are those of the backward weights, forward winners those of the drive."""
    case = nets.make("max", kind=kind)
    prepared, states = case.prepare(), case.random_states()
    _, winners = prepared.drives(states)
    forward = winners[1].copy()
    w = case.parameters["backward.1.weight" if kind == "own winners" else "forward.1.weight"]
    _, expected = case.network.connections[1].drive(case.network.connections[1].prepare(w), 0.0, states[0])
    np.testing.assert_array_equal(prepared.feedback_winners(states, winners)[1], expected)
    assert (expected != forward).any() == (kind == "own winners")


@DROPOUT
@KINDS
def test_jointly_is_apart(kind, dropout):
    case = nets.make("max", "cross_entropy_readout", kind=kind, dropout=dropout)
    arguments = (case.network, case.parameters, case.x, case.target, symmetric(0.1), Phases(20, 10))
    apart, joint = (estimate(*arguments, joint=joint, masks=case.masks) for joint in (False, True))
    for name, g in apart.gradient.items():
        np.testing.assert_allclose(joint.gradient[name], g, atol=1e-12)


# ---- dropout


def test_masked_units_stay_at_zero_through_all_phases():
    case = nets.make("max", "cross_entropy_readout", dropout=True)
    result = estimate(
        case.network, case.parameters, case.x, case.target, one_sided(0.5), Phases(9, 5), masks=case.masks
    )
    for phase in (result.free, *result.nudged):
        for s, mask in zip(phase.states, case.masks, strict=True):
            assert not s[mask == 0].any() and s[mask == 1].any()


def test_dropout_of_no_unit_changes_nothing_but_the_scale():
    """With all units kept a layer drives the one above 1 / keep times as strongly: the weights are those, scaled."""
    case = nets.make("max", "cross_entropy_readout", dropout=True)
    ones = [None if m is None else np.ones_like(m) for m in case.masks]
    scaled = {k: w / 0.7 if k in ("forward.1.weight", "readout.weight") else w for k, w in case.parameters.items()}
    masked = PreparedNetwork(case.network, case.parameters, case.x, ones)
    plain = PreparedNetwork(case.network, scaled, case.x)
    states = case.random_states()
    for a, b in zip(step(masked, states, 0.1, case.target), step(plain, states, 0.1, case.target), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-14)


def test_the_mean_drive_over_masks_is_the_drive_of_evaluation():
    case = nets.make("max", "cross_entropy_readout", dropout=True)
    states, generator = case.random_states(), np.random.default_rng(0)
    total = 0.0
    for _ in range(4000):
        masks = [(generator.random(s.shape) < 0.7).astype(float) for s in states]
        prepared = PreparedNetwork(case.network, case.parameters, case.x, masks)
        total = total + case.network.outputs(prepared.parameters, [s * m for s, m in zip(states, masks, strict=True)])
    expected = case.network.outputs(case.parameters, states)
    np.testing.assert_allclose(total / 4000, expected, atol=0.02 * np.abs(expected).max())


def mean_paths(scaling):
    """Return, relative to no dropout, the drive that s^2 gives, the feedback that it gets, and the one that it gives.

    Means over all masks of s^2, whose layer alone has dropout, by their probabilities.
    """
    case, q = nets.make("deep dense", "squared_error"), 0.7
    architecture = case.network.architecture
    layers = tuple(replace(layer, keep=q if n == 1 else 1.0) for n, layer in enumerate(architecture.layers))
    network = SymmetricNetwork(replace(architecture, layers=layers, dropout_scaling=scaling))
    states = case.random_states()

    def paths(masks):
        prepared = PreparedNetwork(network, case.parameters, case.x, masks)
        shown = [s if m is None else s * m for s, m in zip(states, prepared.masks or [None] * 4, strict=True)]
        drives = [d.copy() for d in prepared.drives(shown)[0]]
        fed_back = [u - d for u, d in zip(vector_field(prepared, shown), drives, strict=True)]
        return np.array(
            [drives[2].mean() - case.parameters["forward.2.bias"].mean(), fed_back[1].mean(), fed_back[0].mean()]
        )

    mean = 0.0
    for bits in product((0.0, 1.0), repeat=states[1].shape[1]):
        mask = np.ones_like(states[1]) * bits
        mean = mean + np.prod([q if bit else 1 - q for bit in bits]) * paths([None, mask, None, None])
    return mean / paths(None)


def test_what_the_two_ways_of_dropout_do_to_drive_and_feedback():
    """Scaled states keep all at its size without dropout; scaled weights send less down and get more back."""
    np.testing.assert_allclose(mean_paths("states"), (1, 1, 1), rtol=1e-12)
    np.testing.assert_allclose(mean_paths("weights"), (1, 1 / 0.7, 0.7), rtol=1e-12)


# ---- memory


def test_segments_are_planned_for_the_memory():
    assert plan_segments(30, 100, None) == 30
    assert plan_segments(30, 100, 3000) == 30
    assert plan_segments(30, 100, 2999) == 6
    assert plan_segments(30, 100, 1100) == 6  # 6 in a segment and 5 starts
    with pytest.raises(OutOfMemoryError, match=r"30 steps needs 3e-06 GB .* 1\.1e-06 GB .* training\.batch_size"):
        plan_segments(30, 100, 1099)
