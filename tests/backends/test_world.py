"""What each process has of a batch, of its host's cores and of its GPUs; and that a part is as it is in the whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from learners import learner

from eqnp.api.processes import CHOICES
from eqnp.backends.backend import Backend, get_backend
from eqnp.backends.peers import Peers, this_process
from eqnp.backends.world import Alone
from eqnp.cli.options import PROCESSES
from eqnp.data import Augmentation, Batches
from eqnp.errors import ConfigurationError
from eqnp.runs.configfile import load
from eqnp.runs.experiment import require_shards, with_shards
from eqnp.training import Share, Tally
from eqnp.watching import counts_of, numbers


def of(rank, size):
    world = Alone()
    world.rank, world.size = rank, size
    return world


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("shards", [1, 2, 5, 8])
def test_blocks_of_shards_are_adjacent_and_the_first_process_has_one(size, shards):
    parts = [range(shards)[of(rank, size).share(shards)] for rank in range(size)]
    assert [k for part in parts for k in part] == [*range(shards)]
    assert len(parts[0]) >= 1 and max(map(len, parts)) - min(map(len, parts)) <= 1


def test_shares_of_a_batch_have_every_sample_once():
    made = learner(["training.shards=5"])
    found = []
    for rank in range(3):
        share, part = Share.of(of(rank, 3), made, 17)
        shards, count = share.shards(made)
        assert count == 5 and all(0 <= s.start < s.stop <= part.stop - part.start for s in shards)
        found += [k for s in shards for k in range(part.start + s.start, part.start + s.stop)]
    assert found == [*range(17)]


@pytest.mark.parametrize("augmentation", [Augmentation(True, 2), Augmentation(True, 2, 2, 9), Augmentation(crop=1)])
def test_a_part_of_a_batch_is_as_in_the_whole(augmentation):
    x = np.random.default_rng(0).integers(0, 256, (23, 8, 8, 3), dtype=np.uint8)
    batches = Batches(x, np.arange(23), 10, augmentation=augmentation, seed=3)
    for index in range(3):
        images, labels = batches.batch(1, index)
        for part in (slice(0, len(labels) // 2), slice(len(labels) // 2, len(labels)), slice(0, 0)):
            some = batches.batch(1, index, part=part)
            np.testing.assert_array_equal(some[0], images[part])
            np.testing.assert_array_equal(some[1], labels[part])


def test_a_part_of_dropout_masks_is_as_in_the_whole():
    made = learner(["model.layers.0.keep=0.7", "model.layers.1.keep=0.5"])
    whole = made.masks(2, 3, 11, np.float32)
    # As numpy's default generator draws them, layer after layer.
    generator = np.random.default_rng([made.seed, 103, 2, 3])
    architecture = made.network.architecture
    for mask, keep, shape in zip(whole, architecture.keep, architecture.state_shapes, strict=True):
        if mask is not None:
            np.testing.assert_array_equal(mask, generator.random((11, *shape)) < keep)
    for part in (slice(0, 4), slice(4, 11), slice(0, 0)):
        for mask, own in zip(whole, made.masks(2, 3, 11, np.float32, part), strict=True):
            assert (mask is None) == (own is None)
            if mask is not None:
                np.testing.assert_array_equal(own, mask[part])


def test_sums_and_counts_come_back_from_numbers():
    tally = Tally(3, 0.1, 2, float("nan"), 2**50 + 1, 7)
    assert repr(Tally.of(tally.numbers())) == repr(tally)
    counts = [(3, 9), None, (0, 0)]
    assert counts_of(numbers(counts)) == counts


def peers(*each, rank=0):
    """Return processes: (host, cores, bound, gpus)."""
    names = ("machine", "cores", "bound", "gpus")
    texts = [
        json.dumps({"host": host, "pid": 1} | dict(zip(names, (host, *rest), strict=True))) for host, *rest in each
    ]
    return Peers(texts, rank)


def test_cores_of_a_host_are_shared_out_unless_each_process_is_bound():
    shared = ("a", 8, [*range(8)], "")
    assert peers(shared).cores() == 8
    assert peers(shared, shared, shared).cores() == 2
    assert peers(("a", 4, [0, 1, 2, 3], ""), ("a", 4, [4, 5, 6, 7], "")).cores() == 4
    assert peers(shared, ("b", 2, [0, 1], "")).cores() == 2  # the least of all hosts
    assert peers(*[("a", 2, [0, 1], "")] * 4).cores() == 1


def test_each_process_of_a_host_takes_a_gpu():
    plain = [("a", 1, [0], ""), ("b", 1, [0], ""), ("a", 1, [1], ""), ("b", 1, [1], "")]
    assert [peers(*plain, rank=rank).gpu() for rank in range(4)] == [0, 0, 1, 1]
    own = [("a", 1, [0], "0"), ("a", 1, [1], "1")]  # as Slurm shows them
    assert [peers(*own, rank=rank).gpu() for rank in range(2)] == [0, 0]
    same = [("a", 1, [0], "0,1"), ("a", 1, [1], "0,1")]
    assert [peers(*same, rank=rank).gpu() for rank in range(2)] == [0, 1]


@pytest.mark.skipif(os.name == "nt", reason="a signal 0 ends a process there")
def test_a_process_that_ended_is_noticed():
    code = "from eqnp.backends.peers import this_process; print(this_process())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert Peers([this_process(), other], 0).gone() == 1
    assert Peers([this_process()], 0).gone() is None


def test_the_choices_of_the_command_line_are_those_of_the_library():
    assert PROCESSES == CHOICES


def test_shards_are_set_at_the_start_and_required_later():
    numpy, cupy = get_backend("numpy"), Backend("cupy", np)
    two, unset = of(0, 2), load("mnist-mlp", ["training.threads=3"])
    assert with_shards(unset, Alone(), numpy).training.shards == 0  # one process: as ever
    assert with_shards(unset, two, numpy).training.shards == 6
    assert with_shards(unset, two, cupy).training.shards == 2
    assert with_shards(load("mnist-mlp", ["training.shards=5"]), two, numpy).training.shards == 5
    require_shards(unset, two, numpy)
    for settings, key in ((["training.threads=1"], "training.threads = 1"), (["training.shards=1"], "shards = 1")):
        with pytest.raises(ConfigurationError, match=f"into 1 shard .*{key}.*too few for 2 processes"):
            require_shards(load("mnist-mlp", settings), two, numpy)
