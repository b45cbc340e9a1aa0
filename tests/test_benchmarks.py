"""The benchmark that waits for a GPU, on the stand-in: all of it runs, should one be there for half an hour."""

from __future__ import annotations

from benchmarks import gpu


def test_everything_about_a_gpu_in_one_command(standin_for_cupy, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "torch", None)
    monkeypatch.setattr(gpu, "WARM_UP", 8)
    small = ["--preset", "digits", "--batch", "2", "--runs", "2", "--steps", "5", "--no-tests"]
    monkeypatch.setattr("sys.argv", ["benchmarks/gpu.py", "--out", str(tmp_path), *small])
    gpu.main()
    found = (tmp_path / "gpu.md").read_text()
    assert found.startswith("# On a GPU") and "Error" not in found + capsys.readouterr().err
    for expected in (
        "GPU 0, CUDA 13000, CuPy 14",
        "| eqnp, TF32 |",
        "| product, ",
        "| pool_outputs, ",
        "MB in CuPy's pool",
    ):
        assert expected in found
