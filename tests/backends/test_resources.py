"""What a process may use: cores and memory by cgroups, ulimit and environment; threads that cannot start."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import tomllib

import pytest
from commands import SMALL_OPTIONS, assert_fails, overrides, run, train_small
from threadpoolctl import threadpool_info

from eqnp.backends import limits, sharding
from eqnp.backends.sharding import cut, thread_map

GB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine of 16 cores and 8 GB whose files lie in a folder; ``write`` adds files of its cgroups."""

    def write(files):
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    for name in limits.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)), raising=False)
    write({"proc/meminfo": "MemTotal: 9000000 kB\nMemAvailable:    8388608 kB\n"})
    return write


V2, V1 = "0::/user/job\n", "5:cpu,cpuacct:/user/job\n4:memory:/user/job\n0::/\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, (12, "CPU affinity")),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/user/job/cpu.max": "max 100000\n"}, (12, "CPU affinity")),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/user/job/cpu.max": "300000 100000\n"}, (3, "cpu.max of its cgroup")),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/user/cpu.max": "150000 100000\n"}, (2, "cpu.max of its cgroup")),
        ({"proc/self/cgroup": V2, "sys/fs/cgroup/user/job/cpu.max": "20000 100000\n"}, (1, "cpu.max of its cgroup")),
        (
            {"proc/self/cgroup": "0::/host/path\n", "sys/fs/cgroup/cpu.max": "400000 100000"},
            (4, "cpu.max of its cgroup"),
        ),
        ({"proc/self/cgroup": "0::/../x\n", "sys/fs/cgroup/cpu.max": "400000 100000"}, (4, "cpu.max of its cgroup")),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/user/job/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu/user/job/cpu.cfs_period_us": "100000\n",
            },
            (2, "cpu.cfs_quota_us of its cgroup"),
        ),
        (
            {
                "proc/self/cgroup": V1,
                "sys/fs/cgroup/cpu/user/job/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/user/job/cpu.cfs_period_us": "100000\n",
            },
            (12, "CPU affinity"),
        ),
    ],
)
def test_cores_by_affinity_and_control_groups(system, files, expected):
    assert limits.cores(system(files)) == expected


@pytest.mark.parametrize("name", limits.VARIABLES)
def test_cores_by_environment(system, monkeypatch, name):
    root = system({})
    for text, expected in (("3", 3), ("4,2", 4), ("64", 12), ("", 12), ("0", 12), ("-1", 12), ("many", 12)):
        monkeypatch.setenv(name, text)
        assert limits.cores(root) == (expected, f"{name}={text}" if expected < 12 else "CPU affinity")


@pytest.mark.parametrize(
    ("files", "left", "by"),
    [
        ({}, 8 * GB, "the machine"),
        (
            {"memory.max": f"{4 * GB}\n", "memory.current": f"{GB}\n", "memory.high": "max\n"},
            3 * GB,
            "memory.max of its cgroup",
        ),
        (
            {"memory.max": "max\n", "memory.high": f"{2 * GB}\n", "memory.current": f"{GB}\n"},
            GB,
            "memory.high of its cgroup",
        ),
        (
            {
                "memory.max": f"{4 * GB}",
                "memory.current": f"{3 * GB}",
                "memory.stat": f"anon 5\ninactive_file {2 * GB}\n",
            },
            3 * GB,
            "memory.max of its cgroup",
        ),
        ({"memory.max": f"{GB}", "memory.current": f"{2 * GB}"}, 0, "memory.max of its cgroup"),
        (
            {
                "memory.limit_in_bytes": f"{4 * GB}",
                "memory.usage_in_bytes": f"{3 * GB}",
                "memory.stat": f"inactive_file 1\ntotal_inactive_file {GB}\n",
            },
            2 * GB,
            "memory.limit_in_bytes of its cgroup",
        ),
        ({"memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": "5"}, 8 * GB, "the machine"),
    ],
)
@pytest.mark.parametrize("place", ["user/job", "user", ""], ids=["own", "above", "container"])
def test_memory_by_control_groups(system, files, left, by, place):
    first = any("limit_in_bytes" in name for name in files)
    mount = "sys/fs/cgroup/memory" if first else "sys/fs/cgroup"
    root = system({f"{mount}/{place}/{name}": text for name, text in files.items()})
    system({"proc/self/cgroup": V1 if first else V2})
    assert limits.memory(root) == (left, by)


LIMITED = """
import json, resource, sys
from pathlib import Path
from eqnp.backends import limits
from eqnp.api import starting
from eqnp.cli import check, states
from eqnp.cli.main import main
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]) * 2**20,) * 2)
print(json.dumps([*limits.memory()]), flush=True)
sys.exit(main(sys.argv[2:]))
"""


def limited(megabytes, *arguments):
    """Run a command in a process that may take so much more address space than it has once all is imported."""
    command = [sys.executable, "-c", LIMITED, str(megabytes), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ulimit -v is kept by Linux")
def test_the_batch_size_that_would_fit_does_so_under_ulimit(tmp_path):
    big = overrides(
        "model.layers=[{conv=16,kernel=5,padding=2,pool='max'},{dense=10}]",
        *("data.train_samples=5000", "data.test_samples=50", "training.batch_size=5000", "training.convolution=direct"),
        *("dynamics.T1=2", "dynamics.T2=1", "training.epochs=1", "training.threads=2"),
    )
    result = limited(500, "train", "--quiet", "--out", tmp_path / "run", *big)
    available, by = json.loads(result.stdout)
    assert by == "ulimit -v" and available <= 500 * 2**20
    assert result.returncode == 7 and result.stderr.count("\n") == 2, result.stderr
    fits = int(re.search(r"--set training.batch_size=(\d+) would fit", result.stderr)[1])
    assert 300 < fits < 5000
    again = limited(500, "train", "--quiet", "--resume", tmp_path / "run", *overrides(f"training.batch_size={fits}"))
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    ("command", "broken", "advice"),
    [
        ("states", "eqnp.analysis.trajectories.record", "out of memory (too large); take fewer --samples or --steps"),
        ("check", "eqnp.cli.checking.theorem.check_steps", "out of memory (too large); take fewer --samples"),
    ],
)
def test_states_and_check_out_of_memory_advise_what_helps_there(capsys, tmp_path, monkeypatch, command, broken, advice):
    assert train_small(capsys, tmp_path / "run", *overrides("training.epochs=1")).code == 0

    def exhausted(*arguments, **options):
        raise MemoryError("too large")

    monkeypatch.setattr(broken, exhausted)
    out = ["--out", tmp_path / "states.h5"] if command == "states" else []
    assert_fails(run(capsys, command, tmp_path / "run", *out), 7, advice + "\n")


def test_bptt_needs_memory_for_the_samples_that_there_are(capsys, tmp_path):
    needed = 60 * (6 * 6 * 3) * 4 * 2  # samples, units, bytes, steps
    bptt = overrides("training.algorithm=bptt", "training.batch_size=100_000_000", f"training.memory_gb={needed / 1e9}")
    result = train_small(capsys, tmp_path / "run", *bptt)
    assert result.code == 0 and "segments" not in result.err, result.err


def test_commands_that_read_a_bptt_run_need_no_memory_for_its_batches(capsys, tmp_path):
    folder, little = tmp_path / "run", overrides("training.memory_gb=1e-6")
    bptt = overrides("training.algorithm=bptt", "training.epochs=1")
    assert_fails(train_small(capsys, tmp_path / "other", *bptt, *little), 7, "bptt through 2 steps needs")
    assert train_small(capsys, folder, *bptt).code == 0
    assert run(capsys, "evaluate", folder, *little).code == 0
    assert run(capsys, "states", folder, "--out", tmp_path / "states.h5", *little).code == 0
    assert run(capsys, "check", folder, "--samples", "0:2", *little).code == 0


def test_bench_makes_noise_for_the_samples_that_there_are(capsys, nowhere):
    quick = ["--runs", "1", "--steps", "1", "--seconds", "0", *overrides("dynamics.T1=2", "dynamics.T2=1")]
    few = overrides("data.train_samples=40", "training.batch_size=100_000_000")
    result = run(capsys, "bench", "mnist-mlp", *quick, *few)
    assert result.code == 0 and "batch 40," in result.out and " 1 batches" in result.out, result.err


# ---- cores of a run


def threads_of(folder):
    return tomllib.loads((folder / "config.toml").read_text())["training"]["threads"]


def test_the_automatic_number_of_threads_keeps_the_limits_and_an_explicit_one_wins(capsys, tmp_path, monkeypatch):
    quick = overrides("training.epochs=0", "training.threads=0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert train_small(capsys, tmp_path / "a", *quick).code == 0
    assert train_small(capsys, tmp_path / "b", *quick, *overrides("training.threads=3")).code == 0
    assert threads_of(tmp_path / "a") == 1 and threads_of(tmp_path / "b") == 3


def test_a_command_that_reads_settles_its_threads_too(capsys, tmp_path):
    assert train_small(capsys, tmp_path / "run", *overrides("training.epochs=1")).code == 0
    assert run(capsys, "evaluate", tmp_path / "run", *overrides("training.threads=0")).code == 0


def test_doctor_says_what_limits_cores_and_memory(capsys, system, monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    out = run(capsys, "doctor").out
    assert "  cores        1 of 16, limited by OPENBLAS_NUM_THREADS=1\n" in out
    if limits.memory() is not None:
        assert re.search(r"\n  memory       [\d.e+]+ GB available", out)


def test_blas_in_one_thread_map_keeps_to_the_cores(monkeypatch):
    """A small dense net leaves the cores to BLAS, which does not know of control groups."""

    def blas():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = blas()
    monkeypatch.setattr(sharding, "available_cores", lambda: 1)
    with thread_map(1):
        assert max(blas()) == 1
    monkeypatch.setattr(sharding, "available_cores", lambda: 64)
    with thread_map(1):
        assert blas() == before


# ---- threads


@pytest.fixture
def few_threads(monkeypatch):
    """A system that lets ``few_threads[0]`` threads run at once."""
    allowed, start, before = [0], threading.Thread.start, threading.active_count()

    def limited_start(self):
        if threading.active_count() - before >= allowed[0]:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", limited_start)
    return allowed


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_run_whose_threads_cannot_start_uses_fewer_with_the_same_result(capsys, tmp_path, few_threads, count):
    few_threads[0] = 99
    options = overrides("training.epochs=1", "training.threads=4")
    assert train_small(capsys, tmp_path / "whole", *options).code == 0
    few_threads[0] = count
    result = train_small(capsys, tmp_path / "few", *options)
    assert result.code == 0, result.err
    assert f"only {max(1, count)} of 4 threads can be started" in result.err and "Traceback" not in result.err
    folders = tmp_path / "whole", tmp_path / "few"
    lines = [(folder / "metrics.csv").read_text().rpartition(",")[0] for folder in folders]
    assert lines[0] == lines[1]
    assert run(capsys, "evaluate", tmp_path / "few").code == 0


def test_batches_are_made_by_this_thread_if_no_other_can_start(capsys, tmp_path, standin_for_cupy, few_threads):
    options = [*SMALL_OPTIONS, *overrides("training.epochs=1"), "--backend", "cupy"]
    assert run(capsys, "train", "--out", tmp_path / "run", *options).code == 0


def test_what_a_run_on_a_gpu_says_about_going_on_stays_there(capsys, tmp_path, standin_for_cupy):
    """A resume computes on NumPy unless it is told otherwise."""
    on_gpu = ["--backend", "cupy"]
    few = overrides("training.epochs=2", "training.max_minutes=1e-9")
    late = run(capsys, "train", "--out", tmp_path / "run", *SMALL_OPTIONS, *few, *on_gpu)
    way_on = f"`eqnp train --resume {tmp_path / 'run'} --backend cupy"
    assert f"{way_on}` continues" in late.err
    resume = ["train", "--resume", tmp_path / "run", *on_gpu]
    done = run(capsys, *resume, *overrides("training.max_minutes=0"))
    assert done.code == 0 and f"eqnp evaluate {tmp_path / 'run'} --backend cupy\n" in done.out
    for more in ([], ["--dry-run"]):
        assert f"{way_on} --set training.epochs=4" in run(capsys, *resume, *more).err
    assert "--backend" not in run(capsys, *resume[:3]).err
    other = [*on_gpu, "--device", "1", "--device-memory", "2.5"]
    out = run(capsys, "train", "--out", tmp_path / "other", *SMALL_OPTIONS, *few[:2], *other).out
    assert f"eqnp evaluate {tmp_path / 'other'} --backend cupy --device 1 --device-memory 2.5\n" in out


def test_all_shards_have_ended_before_the_error_of_one_is_raised():
    """What they hold would be missed where a batch that fits is looked for."""
    ended = []

    def work(shard):
        if shard.start == 0:
            raise MemoryError
        time.sleep(0.05)
        ended.append(shard)

    with thread_map(3) as run_shards:
        with pytest.raises(MemoryError):
            run_shards(work, cut(9, 3))
        assert len(ended) == 2


def test_main_works_in_a_thread_that_is_not_the_main_one(capsys, tmp_path):
    """Python has no signal handlers there, and needs none."""
    results = []
    thread = threading.Thread(target=lambda: results.append(train_small(capsys, tmp_path / "run")))
    thread.start()
    thread.join()
    assert results[0].code == 0 and "last test error" in results[0].out, results[0].err
