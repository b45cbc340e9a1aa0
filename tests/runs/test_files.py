"""Checkpoints and run folders: what comes back, what damage is noticed, what a full disk or a kill leaves."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from places import ROOT

from eqnp.backends.backend import get_backend
from eqnp.errors import BackendError, CheckpointError, DiskError
from eqnp.runs import checkpoint
from eqnp.runs.checkpoint import restore_into
from eqnp.runs.configfile import load
from eqnp.runs.experiment import from_content, make_learner, to_content
from eqnp.runs.storage import write_atomic
from eqnp.training import initial_state

CONTENT = {
    "parameters": {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros((0, 2)), "c": np.float64(3)},
    "optimizer": {"velocity": {}, "count": 7},
    "progress": {"name": "ε\0", "rate": float("nan"), "least": 5e-324, "done": True, "large": 2**100, "zero": -0.0},
}
CONTENT["parameters"]["c"] = np.array(3.0)


def save(path, content=CONTENT, kind="training"):
    checkpoint.save(path, content, kind=kind)
    return path


def assert_same(a, b):
    assert list(a) == list(b)
    for key, value in a.items():
        other = b[key]
        if isinstance(value, dict):
            assert_same(value, other)
        elif isinstance(value, np.ndarray):
            assert value.dtype == other.dtype and value.shape == other.shape and value.tobytes() == other.tobytes()
        else:
            assert type(value) is type(other) and repr(value) == repr(other)


def assert_refused(path, *words, kind="training"):
    with pytest.raises(CheckpointError) as error:
        checkpoint.load(path, kind=kind)
    text = str(error.value)
    assert "\n" not in text and str(path) in text
    for word in words:
        assert word in text, text


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    assert_same(checkpoint.load(save(tmp_path / "a.h5"), kind="training"), CONTENT)
    assert (tmp_path / "a.h5").read_bytes() == save(tmp_path / "b.h5").read_bytes()


OLD = {
    "parameters": {f"forward.{n}.weight": np.arange(6, dtype=np.float32).reshape(2, 3) + n for n in range(12)},
    "optimizer": {"velocity": {"a": np.zeros((0, 2)), "b": np.array(3.0)}, "count": 7},
    "progress": {"name": "ε\0", "text": "ε", "empty": "", "rate": float("nan"), "least": 5e-324}
    | {"done": True, "large": 2**100},
}


@pytest.mark.parametrize("name", ["hdf5-1.14.h5", "hdf5-2.0.h5"])
def test_checkpoints_of_older_versions_open(name):
    assert_same(checkpoint.load(ROOT / "tests" / "fixtures" / "checkpoints" / name, kind="training"), OLD)


@pytest.mark.parametrize("dtype", ["?", *"bhilqBHILQ", *"efd", "F", "D", ">i4", ">f8", ">c16"])
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (2, 3, 1, 2)], ids=str)
def test_arrays_of_every_type_and_shape_come_back(tmp_path, dtype, shape):
    values = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(dtype)
    assert_same(checkpoint.load(save(tmp_path / "a.h5", {"a": values}), kind="training"), {"a": values})


def test_a_group_may_have_thousands_of_members_and_text_any_length(tmp_path):
    content = {"a": {f"forward.{n}.weight": n for n in range(3000)}, "text": "ε" * 100_000}
    content["long"] = {"x" * 1000: {"y" * 998 + "ε": {}}, "many": {f"{n:0100}": n for n in range(3000)}}
    assert_same(checkpoint.load(save(tmp_path / "a.h5", content), kind="training"), content)


def test_what_could_not_be_read_back_is_not_written(tmp_path, monkeypatch):
    """Another version of h5py may write another layout; the old checkpoint stays."""
    path = save(tmp_path / "a.h5")
    before = path.read_bytes()
    create = h5py.Group.create_dataset
    monkeypatch.setattr(
        h5py.Group, "create_dataset", lambda *args, **options: create(*args, **options | {"track_times": True})
    )
    with pytest.raises(BackendError, match=r"h5py .* nothing was written; install another version of h5py"):
        save(path, {"other": 1})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def nested(levels):
    return {"a": nested(levels - 1)} if levels else {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (nested(40), "nested deeper than 32 levels"),
        ({"x" * 1001: 1}, "1000 bytes at most"),
        ({"a": {str(n): 0 for n in range(20_000)}}, "20000 keys are too many"),
    ],
    ids=["deep", "a long key", "many keys"],
)
def test_dictionaries_have_limits(tmp_path, content, words):
    with pytest.raises(ValueError, match=words):
        save(tmp_path / "a.h5", content)
    assert list(tmp_path.iterdir()) == []
    checkpoint.save(tmp_path / "a.h5", nested(31), kind="training")


def test_any_hdf5_reader_can_read_it(tmp_path):
    with h5py.File(save(tmp_path / "a.h5")) as file:
        np.testing.assert_array_equal(file["parameters/a.weight"][...], CONTENT["parameters"]["a.weight"])
        assert file.attrs["kind"] == "training"
        assert file["optimizer/count"][()] == 7 and file["optimizer/count"].attrs["python"] == "int"


@pytest.mark.parametrize("value", [None, [1], (1, 2), b"bytes", 1j, np.array(["a"]), np.array([None])])
def test_what_cannot_be_saved_is_said_and_nothing_is_written(tmp_path, value):
    with pytest.raises(TypeError, match=r"a\.b: cannot save"):
        save(tmp_path / "a.h5", {"a": {"b": value}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["", ".", "a/b", "a\0"])
def test_keys_that_hdf5_cannot_hold(tmp_path, key):
    with pytest.raises(ValueError, match="key"):
        save(tmp_path / "a.h5", {key: 1})


def test_files_that_are_no_checkpoints(tmp_path):
    assert_refused(tmp_path / "none", "no such file")
    assert_refused(tmp_path, "folder")
    (tmp_path / "empty").touch()
    assert_refused(tmp_path / "empty", "empty")
    (tmp_path / "text").write_text("hello" * 1000)
    assert_refused(tmp_path / "text", "not a checkpoint")
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["a"] = 1
    assert_refused(tmp_path / "plain.h5", "HDF5, but not written by eqnp")
    assert_refused(save(tmp_path / "other.h5", kind="states"), "holds states", "training is needed")
    os.mkfifo(tmp_path / "pipe")
    assert_refused(tmp_path / "pipe", "is not a file")


def test_a_newer_format_asks_for_a_newer_eqnp(tmp_path):
    path = save(tmp_path / "a.h5")
    data = bytearray(path.read_bytes())
    data[8] = 99
    path.write_bytes(data)
    assert_refused(path, "format 99", "newer eqnp")


def damage(path, places):
    """Cut the file, and flip a bit, at every one of the places: all of it is noticed."""
    whole = path.read_bytes()
    for place in places(len(whole)):
        path.write_bytes(whole[:place])
        assert_refused(path)
        data = bytearray(whole)
        data[place] ^= 1 << (place % 8)
        path.write_bytes(data)
        assert_refused(path)
    path.write_bytes(whole + b"\0")
    assert_refused(path, "damaged")
    path.write_bytes(whole)


def test_damage_is_noticed(tmp_path):
    damage(save(tmp_path / "a.h5"), lambda size: [*range(0, 60), *range(60, size, 61)])


@pytest.mark.slow
def test_damage_anywhere_is_noticed(tmp_path):
    damage(save(tmp_path / "a.h5"), range)


def test_the_advice_names_the_other_checkpoint(tmp_path):
    save(tmp_path / "best.h5")
    assert_refused(tmp_path / "last.h5", "copy best.h5 to last.h5")
    (tmp_path / "best.h5").write_bytes(b"x")
    save(tmp_path / "last.h5")
    assert_refused(tmp_path / "best.h5", "--checkpoint last")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["a"].pop("b"), "a.b is not in the checkpoint"),
        (lambda c: c.update(more=1), "more is in the checkpoint"),
        (lambda c: c["a"].update(b=np.zeros(3)), r"a.b is an array \(3,\) of float64 .* \(2,\) of float64 is needed"),
        (lambda c: c["a"].update(b=np.zeros(2, np.float32)), "of float32"),
        (lambda c: c.update(n=1.0), "n is one float .* one int is needed"),
        (lambda c: c.update(a=1), "a is one int .* a group is needed"),
    ],
)
def test_a_checkpoint_of_something_else(change, words):
    template = {"a": {"b": np.zeros(2)}, "n": 1}
    loaded = {"a": {"b": np.ones(2)}, "n": 2}
    assert restore_into(template, loaded)["a"]["b"] is loaded["a"]["b"]
    change(loaded)
    with pytest.raises(CheckpointError, match=words.replace(".", r"\.").replace(r" \.* ", " .* ")):
        restore_into(template, loaded)


def rewrite(path, change):
    """Change the HDF5 of a checkpoint and make its user block fit again."""
    with h5py.File(path, "r+") as file:
        change(file)
    data = path.read_bytes()
    path.write_bytes(checkpoint._user_block(data[checkpoint.BLOCK :]) + data[checkpoint.BLOCK :])


@pytest.mark.parametrize(
    "link",
    [h5py.SoftLink("/nowhere"), h5py.SoftLink("/parameters/c"), h5py.ExternalLink("other.h5", "/a")],
    ids=["dangling", "soft", "external"],
)
def test_a_link_in_place_of_a_dataset_is_refused(tmp_path, link):
    path = save(tmp_path / "a.h5")

    def change(file):
        del file["parameters/b"]
        file["parameters/b"] = link

    rewrite(path, change)
    assert_refused(path, "b is a link")


def test_a_value_that_is_not_of_its_type_is_refused(tmp_path):
    path = save(tmp_path / "a.h5")
    rewrite(path, lambda file: file["progress/rate"].attrs.modify("python", "int"))  # of not-a-number
    assert_refused(path, "cannot be read")
    path = save(tmp_path / "b.h5", {"a": float("inf")})
    rewrite(path, lambda file: file["a"].attrs.modify("python", "int"))
    assert_refused(path, "cannot be read")


def change_all(content, name, value):
    group, _, key = name.partition(".")
    if isinstance(content[group][key], np.ndarray):
        content[group][key].flat[-1] = value
    else:
        content[group][key] = value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("parameters.forward.0.weight", float("nan")),
        ("parameters.readout.bias", float("-inf")),
        ("progress.epoch", -3),
        ("progress.batch", -1),
        ("progress.batch", 10**6),
        ("progress.epoch", 10**400),
        ("progress.mistakes", -1),
        ("progress.best_error", float("nan")),
        ("progress.seconds", -1.0),
        ("progress.seconds", float("inf")),
        ("progress.seconds", 1e300),
        ("progress.residual", float("inf")),
        ("optimizer.count", -1),
    ],
)
def test_a_checkpoint_with_numbers_that_cannot_be(tmp_path, name, value):
    config = load("digits", ["optimizer.name=adam", "optimizer.momentum=0", "optimizer.rates=0.01"])
    learner = make_learner(config, (28, 28, 1), 10, get_backend("numpy"))
    fresh = initial_state(learner, 1.0, "float32")
    path = save(tmp_path / "a.h5", to_content(fresh))
    content = checkpoint.load(path, kind="training")
    assert_same(to_content(from_content(content, learner, fresh)), to_content(fresh))
    change_all(content, name, value)
    content = checkpoint.load(save(path, content), kind="training")
    with pytest.raises(CheckpointError, match="use the run's other checkpoint, or train again") as error:
        from_content(content, learner, fresh)
    text = str(error.value)
    assert text.startswith(name) and "\n" not in text and len(text) < 200
    assert ("the run diverged" in text) == name.startswith("parameters")


# ---- the disk


def fail_after(monkeypatch, calls, code, name="write"):
    original, count = getattr(os, name), [0]

    def failing(*args):
        count[0] += 1
        if count[0] > calls:
            raise OSError(code, os.strerror(code))
        return original(*args)

    monkeypatch.setattr(os, name, failing)


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "can be written")])
@pytest.mark.parametrize("name", ["write", "fsync", "replace", "open"])
def test_a_disk_that_fails_leaves_the_old_file(tmp_path, monkeypatch, name, code, words):
    path = save(tmp_path / "a.h5")
    before = path.read_bytes()
    fail_after(monkeypatch, 0, code, name)
    with pytest.raises(DiskError, match=words) as error:
        save(path, {"other": 1})
    monkeypatch.undo()
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_short_write_goes_on(tmp_path, monkeypatch):
    original = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: original(descriptor, data[:1000]))
    write_atomic(tmp_path / "a", b"x" * 12_345)
    assert (tmp_path / "a").read_bytes() == b"x" * 12_345


def test_a_link_stays_a_link_and_a_device_is_refused(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomic(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_bytes() == b"new"
    with pytest.raises(DiskError, match="not a regular file"):
        write_atomic("/dev/null", b"x")


def test_a_working_directory_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(DiskError, match="x: cannot be written"):
        write_atomic("x", b"1")


def test_a_real_limit_on_file_sizes(tmp_path):
    """The kernel says no in the middle of a write."""
    code = (
        "import resource, signal, sys, numpy as np\n"
        "from eqnp.runs import checkpoint\nfrom eqnp.errors import DiskError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try: checkpoint.save(sys.argv[1], {'a': np.zeros(50_000)}, kind='training')\n"
        "except DiskError as error: print(error)\n"
    )
    path = save(tmp_path / "a.h5")
    before = path.read_bytes()
    out = subprocess.check_output([sys.executable, "-c", code, str(path)], text=True)
    assert "ulimit -f" in out and path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


KILLED = """
import sys, numpy as np
from eqnp.runs import checkpoint
n = 0
while True:
    n += 1
    checkpoint.save(sys.argv[1], {"n": n, "a": np.full(200_000, n)}, kind="training")
    if n == 1: print("started", flush=True)
"""


def kill_while_saving(tmp_path, times):
    generator = np.random.default_rng(0)
    path = tmp_path / "last.h5"
    for _ in range(times):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(generator.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        content = checkpoint.load(path, kind="training")
        assert (content["a"] == content["n"]).all()


def test_a_kill_while_saving_leaves_a_whole_file(tmp_path):
    kill_while_saving(tmp_path, 3)


@pytest.mark.slow
def test_a_hundred_kills_while_saving(tmp_path):
    kill_while_saving(tmp_path, 100)
