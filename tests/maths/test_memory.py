"""An EP step needs the same memory however long its phases are."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import nets
import numpy as np
import pytest

from eqnp.backends.workspace import Workspace
from eqnp.dynamics import Phases
from eqnp.estimators import estimate
from eqnp.reference import bptt_gradient, trajectory
from eqnp.stencils import symmetric
from eqnp.step import step


def peak(case, T1, T2, joint) -> int:
    """Return the peak of allocated bytes (NumPy reports its buffers to tracemalloc) of one gradient."""
    tracemalloc.start()
    estimate(case.network, case.parameters, case.x, case.target, symmetric(0.1), Phases(T1, T2), joint=joint)
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size


@pytest.mark.parametrize("joint", [False, True], ids=["apart", "jointly"])
def test_peak_memory_does_not_depend_on_T1_or_T2(joint):
    case = nets.make("max", "cross_entropy_readout", samples=512)
    peak(case, 2, 2, joint)  # imports and caches
    short = peak(case, 3, 3, joint)
    states = sum(s.nbytes for s in case.network.zero_states(case.x))
    assert short > states
    for T1, T2 in ((60, 3), (3, 60)):
        # one more set of states would show; a few hundred bytes of Python objects do not
        assert abs(peak(case, T1, T2, joint) - short) < 0.1 * states


def test_buffers_go_with_their_network():
    """A cycle of references would keep them until Python looks for cycles, and a GPU's memory would fill meanwhile."""
    case = nets.make("max", samples=2)
    gc.disable()
    try:
        prepared = case.prepare()
        step(prepared, prepared.zero_states())
        spaces = [*(link.space for link in prepared.links), prepared.links[0].space.scratch, Workspace()]
        references = [weakref.ref(each) for each in (prepared, *spaces)]
        del prepared, spaces
        assert not any(reference() for reference in references)
    finally:
        gc.enable()


def test_bptt_needs_memory_for_every_step_unless_it_computes_them_twice():
    case = nets.make("max", "cross_entropy_readout", samples=64)
    states = sum(s.nbytes for s in case.network.zero_states(case.x))

    def bptt_peak(T2, segment):
        prepared = case.prepare()
        tracemalloc.start()
        bptt_gradient(prepared, trajectory(prepared, 100, T2, segment), case.target)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    bptt_peak(4, 0)
    assert abs(bptt_peak(64, 0) - bptt_peak(4, 0) - 60 * states) < 3 * states
    # of 64 steps: 8 starts and 8 steps, twice while one segment takes the place of another
    assert bptt_peak(64, 8) - bptt_peak(4, 0) < 24 * states


def test_the_measure_notices_a_trajectory(monkeypatch):
    """The same measure grows when every step's states are kept."""
    kept = []

    def keeping(network, states, *args):
        kept.append([np.copy(s) for s in states])
        return step(network, states, *args)

    monkeypatch.setattr("eqnp.dynamics.step", keeping)
    case = nets.make("max", samples=64)
    states = sum(s.nbytes for s in case.network.zero_states(case.x))
    assert peak(case, 133, 3, False) - peak(case, 3, 3, False) > 50 * states
