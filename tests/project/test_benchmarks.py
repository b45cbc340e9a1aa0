"""The benchmark that waits for a GPU, on the stand-in: all of it runs, should one be there for half an hour."""

from __future__ import annotations

import pytest

from benchmarks import gpu


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
