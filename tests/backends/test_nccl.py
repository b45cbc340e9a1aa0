"""Gradients between GPUs: by NCCL in the order of the shards, or through the host; on the stand-in and on one GPU."""

from __future__ import annotations

import numpy as np
import pytest
from commands import overrides, run
from conftest import make_backend
from fakecuda import COMPILER
from processes import SMALL, needs_mpi, same, together

from eqnp.backends.backend import to_host
from eqnp.backends.flat import Layout, from_bytes, to_bytes
from eqnp.backends.nccl import Devices

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
# Every process has the stand-in in CuPy's place.
STANDIN = "import conftest, standin\nsys.modules['cupy'] = standin\n"
REPORT = """
import atexit, sys, fakecuda
def report():
    for made in fakecuda.COMMUNICATORS:
        kinds = " ".join(map(str, {(n, d.__name__) for n, d in made.calls}))
        sys.stdout.write(f"calls {RANK} {fakecuda.current_device()} {len(made.calls)} {kinds}\\n")  # whole, between two
atexit.register(report)
"""
EPOCH = overrides("data.train_samples=60", "training.epochs=1", "training.shards=2")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_gpu_gets_its_own_sum(cupy, dtype):
    """With one process the collective call is made all the same; several GPUs are untried."""
    if reason := Devices.missing(cupy):
        pytest.skip(reason)
    generator = np.random.default_rng(0)
    shards = [{"w": generator.random((3, 4)), "b": generator.random(4)} for _ in range(3)]
    shards = [{name: a.astype(dtype) for name, a in each.items()} for each in shards]
    devices = Devices(cupy, 1, 0, Devices.key(cupy))
    placed = [{name: cupy.asarray(a) for name, a in each.items()} for each in shards]

    def wait(done):
        while not done():
            pass

    total = devices.sum(placed, Layout(placed[0]), [3], wait)
    for name, array in total.items():
        expected = shards[0][name] + shards[1][name] + shards[2][name]
        assert to_host(array).dtype == dtype and to_host(array).tobytes() == expected.tobytes()
    assert devices.calls == 1


@needs_mpi
@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_two_gpus_have_the_bits_of_one(tmp_path, capsys, standin_for_cupy, dtype):
    options = [*SMALL, *EPOCH, "--backend", "cupy", *overrides(f"training.dtype={dtype}")]
    assert run(capsys, "train", "--quiet", "--out", tmp_path / "one", *options).code == 0
    ended = together(2, ["train", "--quiet", "--out", tmp_path / "two", *options], before=STANDIN + REPORT)
    assert ended.code == 0, ended.err
    same(tmp_path / "one", tmp_path / "two")
    calls = sorted(line for line in ended.out.splitlines() if line.startswith("calls"))
    assert calls == [f"calls {rank} {rank} 3 (1168, '{dtype}')" for rank in (0, 1)]  # one GPU each, once a batch
    assert "through the host" not in ended.err


@needs_mpi
@needs_compiler
@pytest.mark.parametrize(
    ("extra", "options", "reason"),
    [
        ("import fakecuda\nfakecuda.nccl.available = False", [], "CuPy finds no NCCL"),
        ("", ["--device", "0"], "processes share a GPU"),
    ],
)
def test_without_nccl_gradients_go_through_the_host(tmp_path, capsys, standin_for_cupy, extra, options, reason):
    words = [*SMALL, *EPOCH, "--backend", "cupy"]
    assert run(capsys, "train", "--quiet", "--out", tmp_path / "one", *words).code == 0
    ended = together(2, ["train", "--quiet", "--out", tmp_path / "two", *words, *options], before=STANDIN + extra)
    assert ended.code == 0, ended.err
    assert ended.err.count(f"gradients are summed through the host: {reason}") == 1
    same(tmp_path / "one", tmp_path / "two")


@needs_compiler
def test_shards_of_one_process_stay_on_its_gpu(tmp_path, capsys, standin_for_cupy):
    """A new thread would be on GPU 0."""
    options = [*SMALL, *overrides("data.train_samples=60", "training.epochs=1", "training.shards=4")]
    options += ["--backend", "cupy", *overrides("training.threads=2")]
    for device in "01":
        words = ["--device", device, "--out", tmp_path / device]
        assert run(capsys, "train", "--quiet", *words, *options).code == 0
    same(tmp_path / "0", tmp_path / "1")


@needs_mpi
@needs_compiler
def test_a_process_without_a_gpu_is_one_line(tmp_path):
    words = ["train", "--quiet", "--out", tmp_path / "run", *SMALL, "--backend", "cupy"]
    ended = together(3, words, before=STANDIN)
    (line,) = ended.lines
    assert ended.ended_by(4) and "rank 2 of 3" in line and "process 3 of this host has no GPU" in line, ended.err


def test_trees_come_back_from_bytes():
    tree = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": {"c": 0.1, "d": float("inf"), "e": "x"}, "n": None}
    tree["b"]["f"] = np.empty((0, 2), np.int64)
    found = from_bytes(to_bytes(tree))
    assert found["a"].tobytes() == tree["a"].tobytes() and found["a"].shape == (2, 3)
    assert found["b"]["f"].shape == (0, 2) and found["b"]["f"].dtype == np.int64
    assert {n: v for n, v in found["b"].items() if n != "f"} == {"c": 0.1, "d": float("inf"), "e": "x"}
    assert found["n"] is None


def test_the_backends_name_of_a_gpu():
    backend = make_backend("standin")
    assert Devices.place(backend) == "0000:00:00.0"
