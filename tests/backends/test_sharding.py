"""A batch cut over threads: the cut, the order of the sum, and the same gradient."""

from __future__ import annotations

import time

import nets
import numpy as np
import pytest

from eqnp.backends.blocks import blocks, cache_of_a_core
from eqnp.backends.sharding import add_gradients, cut, thread_map
from eqnp.dynamics import Phases
from eqnp.estimators import estimate
from eqnp.stencils import symmetric


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("samples", [1, 2, 7, 32, 33, 100, 257])
def test_the_cut_covers_every_sample_once_and_evenly(samples, threads):
    shards = cut(samples, threads)
    assert [i for shard in shards for i in range(samples)[shard]] == list(range(samples))
    sizes = [len(range(samples)[shard]) for shard in shards]
    assert len(shards) == min(samples, threads) and max(sizes) - min(sizes) <= 1


def test_results_come_in_the_order_of_the_shards_whoever_is_first():
    def work(shard):
        time.sleep(0.02 if shard.start == 0 else 0)
        return shard.start

    for threads in (1, 3):
        with thread_map(threads) as run:
            assert run(work, cut(100, 3)) == [shard.start for shard in cut(100, 3)]


def test_an_error_in_a_shard_comes_out():
    def work(shard):
        raise MemoryError("too large")

    with thread_map(2) as run, pytest.raises(MemoryError, match="too large"):
        run(work, cut(10, 2))


def test_the_sum_runs_in_the_order_given():
    gradients = [{"w": np.array([g], np.float32)} for g in (1e8, 1.0, -1e8)]
    expected = (gradients[0]["w"] + gradients[1]["w"]) + gradients[2]["w"]
    assert add_gradients(gradients)["w"] == expected


@pytest.mark.parametrize(("shape", "loss"), nets.NETS)
def test_shards_make_the_gradient_of_the_whole_batch(shape, loss):
    case = nets.make(shape, loss, samples=7)

    def gradient(shard):
        return estimate(
            case.network, case.parameters, case.x[shard], case.target[shard], symmetric(0.1), Phases(20, 10)
        ).gradient

    whole = gradient(slice(0, 7))
    with thread_map(3) as run:
        once, again = (add_gradients(run(gradient, cut(7, 3))) for _ in range(2))
    for name, g in whole.items():
        np.testing.assert_allclose(once[name], g, atol=1e-12)
        np.testing.assert_array_equal(once[name], again[name])


@pytest.mark.parametrize("shape", ["max", "average", "strided"])
def test_blocks_for_the_cache_change_nothing(monkeypatch, shape):
    """A cache so small that every sample is a block gives the states and the gradient of one block."""
    case = nets.make(shape, "squared_error")
    whole = estimate(case.network, case.parameters, case.x, case.target, symmetric(0.1), Phases(5, 3))
    monkeypatch.setattr("eqnp.backends.blocks.cache_of_a_core", lambda: 1)
    assert len(blocks(case.x, 1)) == len(case.x)
    parts = estimate(case.network, case.parameters, case.x, case.target, symmetric(0.1), Phases(5, 3))
    for a, b in zip(whole.free.states, parts.free.states, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-14)
    for name, g in whole.gradient.items():
        np.testing.assert_allclose(parts.gradient[name], g, atol=1e-12)
    assert parts.free.residual == pytest.approx(whole.free.residual)


def test_a_block_fills_a_third_of_the_cache_and_a_device_gets_one(monkeypatch, backend):
    monkeypatch.setattr("eqnp.backends.blocks.cache_of_a_core", lambda: 2**20)
    s = backend.xp.zeros((10, 3))
    cut_up = blocks(s, 2**18 // 3)  # 4 fit in a third
    assert [len(range(10)[k]) for k in cut_up] == ([3, 3, 4] if backend.name == "numpy" else [10])
    assert cache_of_a_core() > 0
