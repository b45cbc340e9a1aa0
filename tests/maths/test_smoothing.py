"""Label smoothing: the target, the losses with it, and the update of a learner that has it."""

from __future__ import annotations

import numpy as np
import pytest
from learners import batch, learner
from tolerances import ORACLE

from eqnp.backends.sharding import serial_map
from eqnp.losses import CrossEntropy, SquaredError, one_hot, smooth, softmax
from eqnp.prepared import PreparedWeights
from eqnp.training import evaluate, initial_state, train_batch

SMOOTHING, CLASSES = 0.3, 4


def case():
    generator = np.random.default_rng(0)
    return generator.standard_normal((5, CLASSES)), one_hot(np.array([0, 3, 1, 1, 2]), CLASSES, np.float64)


def test_a_smoothed_target_by_hand():
    y = smooth(np.array([[0.0, 1.0, 0.0, 0.0]], np.float32), 0.2)
    np.testing.assert_allclose(y, [[0.05, 0.85, 0.05, 0.05]], rtol=1e-6)
    assert y.dtype == np.float32


def test_smoothed_cross_entropy_is_a_mean_over_labels():
    o, y = case()
    every = [CrossEntropy().value(o, np.broadcast_to(np.eye(CLASSES)[k], o.shape)) for k in range(CLASSES)]
    expected = (1 - SMOOTHING) * CrossEntropy().value(o, y) + SMOOTHING * np.mean(every, axis=0)
    np.testing.assert_allclose(CrossEntropy().value(o, smooth(y, SMOOTHING)), expected, atol=ORACLE[np.float64])


@pytest.mark.parametrize("loss", [CrossEntropy(), SquaredError()], ids=["cross-entropy", "squared error"])
def test_the_gradient_of_a_smoothed_loss_is_its_slope(loss):
    o, y = case()
    target, h = smooth(y, SMOOTHING), 1e-6
    slopes = np.empty_like(o)
    for k in range(CLASSES):
        step = h * np.eye(CLASSES)[k]
        slopes[:, k] = (loss.value(o + step, target) - loss.value(o - step, target)) / (2 * h)
    np.testing.assert_allclose(loss.gradient(o, target), slopes, rtol=1e-6, atol=1e-8)


def test_the_smoothed_losses_are_least_at_the_smoothed_target():
    _, y = case()
    target = smooth(y, SMOOTHING)
    assert np.abs(CrossEntropy().gradient(np.log(target), target)).max() < ORACLE[np.float64]
    np.testing.assert_allclose(softmax(np.log(target)), target, atol=ORACLE[np.float64])
    assert not SquaredError().value(target, target).any()


@pytest.mark.parametrize("algorithm", ["ep", "bptt"])
def test_an_update_learns_the_smoothed_target_and_an_evaluation_does_not_see_it(algorithm):
    options = ["optimizer.momentum=0", "optimizer.rates=1.0", f"training.algorithm={algorithm}"]
    plain, smoothed = (learner([*options, f"training.label_smoothing={e}"], dtype="float64") for e in (0.0, SMOOTHING))
    state, (x, labels) = initial_state(plain, 1.0, "float64"), batch(8, np.float64)
    target = smooth(one_hot(labels, 10, x.dtype), SMOOTHING)
    expected = plain.gradient(
        PreparedWeights(plain.network, state.parameters), x, target, plain.stencil(0, 0), None
    ).gradient
    after = train_batch(smoothed, state, x, labels, serial_map).parameters
    for name, g in expected.items():
        np.testing.assert_allclose(state.parameters[name] - after[name], g / len(x), atol=ORACLE[np.float64])
    data = Once(x, labels)
    one, two = (evaluate(each, state.parameters, data, serial_map) for each in (plain, smoothed))
    assert one == two


class Once:
    """One batch as a whole split."""

    count = 1

    def __init__(self, x, labels):
        self.x, self.labels, self.samples, self.batch_size = x, labels, len(x), len(x)

    def batch(self, epoch, index, first=None):
        return self.x, self.labels
