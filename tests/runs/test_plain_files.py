"""Checkpoints at their edges: the types of HDF5, byte by byte, and what a message advises."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from eqnp.errors import CheckpointError
from eqnp.runs import checkpoint, hdf5types


def test_types_are_described_as_hdf5_does():
    """For every type of array, libhdf5 gives the same bytes."""
    assert len(hdf5types.STORED) == 25  # two byte orders, but one for single bytes
    for dtype in hdf5types.STORED:
        message = hdf5types._padded(hdf5types._ENCODERS[dtype.kind](dtype))
        known = h5py.h5t.py_create(dtype, logical=True).encode()[2:]
        assert message == known.ljust(len(message), b"\0") and len(message) % 8 == 0, dtype
        assert len(message) - len(known) < 8


def message_of(path):
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(path, kind="training")
    return str(error.value)


def test_the_advice_suits_what_is_there(tmp_path):
    """Files of a run, in the order in which they come."""
    folder = tmp_path / "a run"
    folder.mkdir()
    best, last, other = (folder / name for name in ("best.h5", "last.h5", "states.h5"))
    for path in (best, last):
        words = "restore a copy, or start a new run" if path is last else "give another file"
        assert words in message_of(path) and "nothing of this run was saved" not in message_of(path)
    (folder / "config.toml").touch()
    for path in (best, last):
        assert f"nothing of this run was saved yet; `eqnp train --resume '{folder}'` starts it" in message_of(path)
    assert "give another file, restore a copy or make it again" in message_of(other)
    (folder / "metrics.csv").touch()
    assert "nothing of this run was saved" not in message_of(last) + message_of(best)
    last.touch()
    assert "is empty; restore a copy, or start a new run" in message_of(last)
    assert "there is no such file; use last.h5 (--checkpoint last)" in message_of(best)
    assert "give another file" in message_of(other)
    best.touch()
    assert "copy best.h5 to last.h5 to continue from the best epoch" in message_of(last)
    (folder / "metrics.csv").unlink()
    assert "use last.h5" in message_of(best)


def test_a_file_without_the_attribute_of_a_text_or_of_a_number_is_refused(tmp_path):
    path = tmp_path / "a.h5"
    checkpoint.save(
        path, {"a": "x" * 50, "b": "", "c": "\udcff", "d": 2**63, "e": -(2**63), "f": "\0"}, kind="training"
    )
    assert checkpoint.load(path, kind="training") == {
        "a": "x" * 50, "b": "", "c": "\udcff", "d": 2**63, "e": -(2**63), "f": "\0"
    }  # fmt: skip
    with h5py.File(path) as file:
        stored = {key: file[key].dtype.kind for key in file}
    assert stored == {"a": "O", "b": "O", "c": "u", "d": "O", "e": "i", "f": "u"}


@pytest.mark.parametrize("most", [None, 0, -1])
def test_a_bound_on_the_size_is_kept_exactly(tmp_path, most):
    path = tmp_path / "a.h5"
    checkpoint.save(path, {"a": np.arange(3)}, kind="training")
    size = path.stat().st_size
    if most == -1:
        with pytest.raises(CheckpointError, match=f"has {size} bytes, far more"):
            checkpoint.load(path, kind="training", most=size - 1)
    else:
        assert checkpoint.load(path, kind="training", most=None if most is None else size)["a"].tolist() == [0, 1, 2]
