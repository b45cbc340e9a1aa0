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


def nested(levels):
    return {"a": nested(levels - 1)} if levels else {"n": 1}


def test_depth_and_names_are_bounded_exactly(tmp_path, monkeypatch):
    path = tmp_path / "a.h5"
    deepest = nested(checkpoint.MOST_LEVELS - 1)
    checkpoint.save(path, deepest, kind="training")
    assert checkpoint.load(path, kind="training") == deepest
    with pytest.raises(ValueError, match=r"^a\.a\..*: dictionaries are nested deeper than \d+ levels$"):
        checkpoint.save(path, nested(checkpoint.MOST_LEVELS), kind="training")
    keys = {"ä" * 5: 1, "b": 2}  # of 10 and 1 bytes
    monkeypatch.setattr(checkpoint, "MOST_NAMES", 10 + 1 + 2 * 22)
    checkpoint.save(path, keys, kind="training")
    monkeypatch.setattr(checkpoint, "MOST_NAMES", 10 + 1 + 2 * 22 - 1)
    with pytest.raises(ValueError, match=r"^: 2 keys are too many for one dictionary$"):
        checkpoint.save(path, keys, kind="training")
    assert checkpoint.load(path, kind="training") == keys


def test_whole_numbers_are_stored_as_such_as_long_as_they_fit(tmp_path):
    path = tmp_path / "a.h5"
    numbers = {f"n{n}": n for n in (0, 126, 2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 2**127)}
    checkpoint.save(path, numbers, kind="training")
    with h5py.File(path) as file:
        kinds = {int(name[1:]): file[name].dtype for name in numbers}
    assert [n for n, kind in kinds.items() if kind == np.int64] == [0, 126, 2**63 - 1, -(2**63)]
    assert checkpoint.load(path, kind="training") == numbers
    counts = checkpoint.integers(n for n in (3, 5))
    assert counts.dtype == np.int64 and counts.tolist() == [3, 5]


def test_what_cannot_be_saved_is_named(tmp_path):
    for value, words in (
        (np.zeros(2, "U3"), "a.b: cannot save an array of <U3;"),
        (np.zeros(2, object), "a.b: cannot save an array of object;"),
        (None, "a.b: cannot save NoneType;"),
        ([1], "a.b: cannot save list;"),
    ):
        with pytest.raises(TypeError) as error:
            checkpoint.save(tmp_path / "a.h5", {"a": {"b": value}}, kind="training")
        assert str(error.value).startswith(words)
    assert not list(tmp_path.iterdir())


def test_what_differs_from_a_template_is_described():
    for expected, actual, words in (
        (1, 2.0, "a.b is one float in the checkpoint, but one int is needed"),
        (True, 1, "a.b is one int in the checkpoint, but one bool is needed"),
        ("", np.zeros((2, 3)), r"a.b is an array \(2, 3\) of float64 in the checkpoint, but one str is needed"),
        ({}, None, "a.b is one NoneType in the checkpoint, but a group is needed"),
        (np.zeros(1), np.float64(1), r"a.b is one float in the checkpoint, but an array \(1,\) of float64 is needed"),
    ):
        with pytest.raises(CheckpointError, match=words):
            checkpoint.restore_into({"a": {"b": expected}}, {"a": {"b": actual}})


def test_a_link_is_followed_unless_it_must_not(tmp_path):
    target, link = tmp_path / "target.h5", tmp_path / "link.h5"
    target.touch()
    link.symlink_to(target)
    checkpoint.save(link, {"n": 1}, kind="training")
    assert link.is_symlink() and checkpoint.load(target, kind="training") == {"n": 1}
    checkpoint.save(link, {"n": 2}, kind="training", follow=False)
    assert not link.is_symlink() and checkpoint.load(target, kind="training") == {"n": 1}


def test_text_and_bytes_of_one_axis_are_not_mistaken_for_each_other(tmp_path):
    """An array of bytes comes back as an array, and text that is stored as bytes as text."""
    path = tmp_path / "a.h5"
    content = {
        "array": np.frombuffer(b"abc", np.uint8),
        "odd": "a\0b",
        "none": np.zeros(0, bool),
        "numbers": np.arange(3),
    }
    checkpoint.save(path, content, kind="training")
    loaded = checkpoint.load(path, kind="training")
    assert loaded["odd"] == "a\0b" and loaded["array"].tobytes() == b"abc" and loaded["none"].dtype == bool
    assert loaded["numbers"].tolist() == [0, 1, 2] and loaded["none"].shape == (0,)
