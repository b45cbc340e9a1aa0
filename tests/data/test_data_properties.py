"""IDX files and batches, on shapes and sizes that Hypothesis draws."""

from __future__ import annotations

import gzip

import datafiles
import numpy as np
import pytest

pytest.importorskip("hypothesis")

from hypothesis import example, given
from hypothesis import strategies as st

from eqnp.data import AsGiven, Augmentation, Batches
from eqnp.data.idx import read_idx
from eqnp.errors import DataError


class Bytes:
    """A file in memory."""

    def __init__(self, data):
        self.data = data

    def read_bytes(self):
        return self.data

    def __str__(self):
        return "file"


@given(shape=st.lists(st.integers(1, 7), min_size=1, max_size=4), seed=st.integers(0, 2**32), level=st.integers(0, 9))
def test_an_idx_file_gives_its_array_back(shape, seed, level):
    array = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    data = datafiles.idx(array)
    for file in (data, gzip.compress(data, level), gzip.compress(data[:5]) + gzip.compress(data[5:]) + bytes(3)):
        found = read_idx(Bytes(file))
        assert found.dtype == np.uint8 and found.shape == array.shape and (found == array).all()
    with pytest.raises(DataError):
        read_idx(Bytes(data[:-1]))


@given(data=st.binary(max_size=40), begin=st.sampled_from([b"", b"\0\0\x08", b"\0\0\x08\x02", b"\x1f\x8b\x08"]))
@example(data=b"\0" * 4 + b"\xff" * 8, begin=b"\0\0\x08\x03")
def test_any_bytes_are_an_array_or_one_line(data, begin):
    try:
        assert read_idx(Bytes(begin + data)).size
    except DataError as error:
        assert str(error).isprintable()


def epochs(samples, batch_size, seed, in_order=False):
    """Return batches of images that hold their index in the first pixel, beside labels that are the index."""
    images = np.arange(samples, dtype=np.float64)[:, None]
    return Batches(images, np.arange(samples), batch_size, normalisation=AsGiven(), seed=seed, in_order=in_order)


@given(
    samples=st.integers(1, 200),
    batch_size=st.integers(1, 250),
    seed=st.integers(0, 2**63 - 1),
    epoch=st.integers(0, 1000),
    in_order=st.booleans(),
)
def test_every_sample_comes_once_an_epoch(samples, batch_size, seed, epoch, in_order):
    batches = epochs(samples, batch_size, seed, in_order)
    parts = [batches.batch(epoch, index) for index in range(batches.count)]
    assert [len(y) for _, y in parts[:-1]] == [batch_size] * (batches.count - 1) and len(parts[-1][1])
    labels = np.concatenate([y for _, y in parts])
    assert sorted(labels) == list(range(samples))
    assert (np.concatenate([x for x, _ in parts])[:, 0] == labels).all()


@given(
    samples=st.integers(1, 100),
    first=st.integers(1, 60),
    then=st.integers(1, 60),
    seed=st.integers(0, 2**32),
    epoch=st.integers(0, 9),
    data=st.data(),
)
def test_an_epoch_that_is_resumed_gives_every_sample_once(samples, first, then, seed, epoch, data):
    """At any batch, with the same or another batch size."""
    before, after = epochs(samples, first, seed), epochs(samples, then, seed)
    stop = data.draw(st.integers(0, before.count))
    labels = [before.batch(epoch, index)[1] for index in range(stop)]
    place, index = min(stop * first, samples), stop
    while place < samples:
        labels.append(after.batch(epoch, index, place)[1])
        place, index = place + len(labels[-1]), index + 1
    assert sorted(np.concatenate(labels)) == list(range(samples))
    if first == then:
        whole = np.concatenate([before.batch(epoch, n)[1] for n in range(before.count)])
        assert (np.concatenate(labels) == whole).all()


@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.integers(1, 3)),
    crop=st.integers(0, 4),
    flip=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_augmented_images_hold_only_pixels_of_their_own(shape, crop, flip, seed):
    images = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    found = Augmentation(flip, crop)(images, np.random.default_rng(seed))
    assert found.shape == images.shape and found.dtype == np.uint8
    for before, after in zip(images, found, strict=True):
        assert set(after.ravel()) <= set(before.ravel())
    again = Augmentation(flip, crop)(images, np.random.default_rng(seed))
    assert (found == again).all()
