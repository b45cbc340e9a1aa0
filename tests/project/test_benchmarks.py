"""The benchmark that waits for a GPU, on the stand-in: all of it runs, should one be there for half an hour."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
from fakecuda import COMPILER
from places import ROOT
from tolerances import ORACLE

from benchmarks import first, gpu, row
from eqnp.backends.backend import get_backend


def torch_on_cpu(monkeypatch):
    """Let PyTorch compute on the CPU what the benchmark gives to a GPU."""
    torch = pytest.importorskip("torch")
    from benchmarks.pytorch import Baseline

    make = Baseline.__init__
    monkeypatch.setattr(
        Baseline, "__init__", lambda self, network, parameters, x, _: make(self, network, parameters, x)
    )
    for name in ("synchronize", "empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 2**20)


@pytest.mark.parametrize("baseline", ["alone", "beside PyTorch"])
def test_everything_about_a_gpu_in_one_command(standin_for_cupy, capsys, tmp_path, monkeypatch, baseline):
    if baseline == "alone":
        monkeypatch.setattr(gpu, "torch", None)
    else:
        torch_on_cpu(monkeypatch)
    monkeypatch.setattr(gpu, "WARM_UP", 8)
    small = ["--preset", "digits", "--batch", "2", "--runs", "2", "--steps", "5", "--no-tests"]
    monkeypatch.setattr("sys.argv", ["benchmarks/gpu.py", "--out", str(tmp_path), *small])
    gpu.main()
    found = (tmp_path / "gpu.md").read_text()
    assert found.startswith("# On a GPU") and "Error" not in found + capsys.readouterr().err
    assert ("| published, TF32 | " in found) == (baseline != "alone")
    for expected in (
        "GPU 0, CUDA 13000, CuPy 14",
        "| eqnp, TF32 |",
        "| product, ",
        "| pool_outputs, ",
        "MB in CuPy's pool",
    ):
        assert expected in found


def test_the_first_minutes_on_a_gpu(standin_for_cupy, tmp_path, capsys):
    """NumPy against CuPy, each part a command that exists, and a part that fails or hangs stops no other."""
    assert max(first.distances(get_backend("cupy")).values()) <= ORACLE[np.float64]
    made = first.parts(tmp_path)
    assert [part.name for part in made] == ["machine", "doctor", "digits", "same", "kernels", "tests", "bench"]
    assert all((ROOT / path).is_file() for path in first.KERNELS)
    for part in made:
        module = part.command[1] if part.command[0] == "-m" else "sys"
        assert importlib.util.find_spec(module), part
    for part in (first.Part("fails", 20, ("-c", "print(7); raise SystemExit(3)")), first.Part("hangs", 1, HANGS)):
        first.run(part, tmp_path)
    assert "fails: exit 3" in (shown := capsys.readouterr().out) and "7" in shown and "out of time" in shown


REHEARSAL = """
import sys
sys.path[:0] = {paths!r}
import pytest, standin
sys.modules["cupy"] = standin
options = ["-o", "addopts=--import-mode=importlib", "-m", "gpu", "-q", "-p", "no:cacheprovider", "-rfE", "--tb=short"]
sys.exit(pytest.main([*options, "-W", "default", *sys.argv[1:]]))
"""


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
@pytest.mark.parametrize(
    "paths",
    [
        ("tests/connections", "tests/backends/test_nccl.py", "tests/backends/test_backends.py"),
        pytest.param(("tests",), marks=pytest.mark.slow),
    ],
    ids=["some", "all"],
)
def test_the_tests_that_need_a_gpu_pass_on_the_stand_in(paths):
    """They must not fail on a GPU for a mistake of their own."""
    text = REHEARSAL.format(paths=[str(ROOT), str(ROOT / "tests")])
    command = [sys.executable, "-c", text, *paths]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}  # without workers
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=alone, check=False)
    assert result.returncode == 0 and " passed" in result.stdout, result.stdout[-3000:] + result.stderr[-1000:]


HANGS = ("-c", "import time; time.sleep(60)")


def test_a_row_for_as_long_as_there_is(standin_for_cupy, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(row, "epochs_that_fit", lambda *arguments: 2)
    small = [
        "data.train_samples=40",
        "data.test_samples=20",
        "training.batch_size=20",
        "dynamics.T1=3",
        "dynamics.T2=2",
    ]
    words = [str(tmp_path / "row"), "60", "small-ce-symmetric", "--samples", "40", *row.settings(*small)]
    monkeypatch.setattr("sys.argv", ["benchmarks/row.py", *words])
    assert row.main() == 0
    assert "epochs that fit: 2" in capsys.readouterr().out
    assert (tmp_path / "row" / "metrics.csv").read_text().count("\n") == 3


def test_how_many_epochs_fit():
    assert row.epochs_that_fit(seconds=2, trial=6400, samples=50000, left=300) == 15
    assert row.epochs_that_fit(seconds=2, trial=6400, samples=50000, left=-5) == 1
