"""A run of several processes has the bits of a run of one: whatever the method, the precision, and who resumes whom."""

from __future__ import annotations

import pytest
from commands import overrides, run
from processes import SMALL, needs_mpi, same, together

from eqnp.cli.main import main
from eqnp.runs import checkpoint

pytestmark = needs_mpi

DROPOUT = "model.layers=[{conv=3,kernel=5,stride=2,pool='max',keep=0.8},{dense=12,keep=0.5},{dense=10}]"
ADAM = ("optimizer.momentum=0", "optimizer.name=adam")
METHODS = {
    "ep-symmetric": ["data.flip=true", "data.crop=2", "data.randaugment=1", "optimizer.clip_norm=0.01"],
    "random-sign-dropout": ["training.estimator=random-sign", DROPOUT, "data.validation=12", *ADAM],
    "kp-vf": ["model.kind=vector-field", "training.common_update=true", "optimizer.momentum=0.9"],
    "bptt": ["training.algorithm=bptt"],
}
CASES = {
    f"{name}-{dtype}": [*SMALL, *overrides(*settings, f"training.dtype={dtype}")]
    for name, settings in METHODS.items()
    for dtype in ("float32", "float64")
}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Every case, trained by one process."""
    folder = tmp_path_factory.mktemp("alone")
    for name, options in CASES.items():
        assert main(["train", "--quiet", "--out", str(folder / name), *options]) == 0
    return folder


SHARED_SUM = "import eqnp.backends.mpi as m; m.GATHER_BYTES = 0"  # as for larger networks


@pytest.mark.parametrize(("count", "before"), [(2, ""), (3, ""), (4, SHARED_SUM)])
def test_the_bits_do_not_depend_on_the_number_of_processes(tmp_path, alone, count, before):
    commands = (["train", "--quiet", "--out", tmp_path / name, *options] for name, options in CASES.items())
    ended = together(count, *commands, before=before)
    assert ended.code == 0, ended.err
    for name in CASES:
        same(alone / name, tmp_path / name)


def test_more_threads_and_fewer_processes_have_the_same_bits(tmp_path, alone):
    options = [*CASES["ep-symmetric-float32"], "--threads", "2"]
    assert together(2, ["train", "--quiet", "--out", tmp_path / "run", *options]).code == 0
    same(alone / "ep-symmetric-float32", tmp_path / "run")


def test_a_run_goes_on_with_another_number_of_processes_after_any_batch(tmp_path, alone, capsys):
    """The time of each start is over after one batch: 4 processes, 1, 3, then 2 to the end."""
    name = "random-sign-dropout-float64"
    at_once, folder = overrides("training.max_minutes=1e-9"), tmp_path / "run"
    resume = ["train", "--quiet", "--resume", folder]
    ended = together(4, ["train", "--quiet", "--out", folder, *CASES[name], *at_once], [*resume])
    assert ended.code == 0 and "after batch 2: " in ended.err, ended.err
    assert checkpoint.load(folder / "last.h5", kind="training")["progress"]["batch"] == 2
    for _ in range(2):  # to the next epoch
        assert run(capsys, *resume).code == 0
    assert checkpoint.load(folder / "last.h5", kind="training")["progress"]["epoch"] == 1
    assert together(3, resume).code == 0
    assert checkpoint.load(folder / "last.h5", kind="training")["progress"]["batch"] == 1
    assert together(2, [*resume, *overrides("training.max_minutes=0")]).code == 0
    (folder / "history.csv").unlink()
    same(alone / name, folder)


def test_the_start_sets_the_shards_and_the_run_can_go_on_alone(tmp_path, capsys):
    """Without training.shards a run of two processes is that of one process with two threads."""
    unset = [*SMALL, *overrides("training.shards=0")]
    ended = together(2, ["train", "--quiet", "--out", tmp_path / "two", *unset])
    assert ended.code == 0, ended.err
    assert "2 processes with 1 thread each, batches in 2 shards\n" in ended.err
    assert "shards = 2" in (tmp_path / "two" / "config.toml").read_text()
    assert run(capsys, "train", "--quiet", "--out", tmp_path / "one", *unset, "--threads", "2").code == 0
    same(tmp_path / "one", tmp_path / "two")
    more = overrides("training.epochs=3")
    assert run(capsys, "train", "--quiet", "--resume", tmp_path / "two", *more).code == 0
    assert together(2, ["train", "--quiet", "--resume", tmp_path / "one", *more]).code == 0
    same(tmp_path / "one", tmp_path / "two")


def test_evaluate_check_and_bench_are_shared_out(tmp_path, alone, capsys):
    target = str(alone / "kp-vf-float32")
    commands = (["evaluate", target], ["check", target, "--settle", "--samples", "0:3", "--steps", "60"])
    expected = "".join(run(capsys, *words).out for words in commands)
    ended = together(3, *commands)
    assert ended.code == 0 and ended.out == expected, ended.err
    bench, fewer = ["bench", *SMALL, "--runs", "1", "--steps", "2"], overrides("training.shards=1")
    ended = together(2, bench, ["presets"], ["evaluate", target, *fewer])
    assert "1 of 2 processes have nothing to do" in ended.err
    assert ended.code == 0 and "2 processes with threads 1 each" in ended.out, ended.err
    assert ended.out.count("EP batch") == 1
    assert ended.out.count("cifar10-kp-vf") == 1  # one process acts, the others are silent


# ---- calls and bytes

COUNT = """
from eqnp.backends.mpi import MpiWorld
import eqnp.training
combine, worlds = MpiWorld.combine, []
def counted(self, gradients, rows, shards, like):
    before = self.calls, self.received
    result = combine(self, gradients, rows, shards, like)
    weights = sum(p.nbytes for p in like.values())
    if RANK == 1:
        print(self.calls - before[0], self.received - before[1], weights, flush=True)
    return result
MpiWorld.combine = counted
"""


@pytest.mark.parametrize(("count", "calls"), [(2, 1), (4, 2)])
def test_a_batch_is_one_reduction_of_known_size(tmp_path, count, calls):
    """Two processes exchange once a batch. Of four, each gets less than twice the weights, in two calls."""
    large = overrides(
        "data.train_samples=60", "model.layers=[{dense=40},{dense=10}]", f"training.shards={count}", "training.epochs=1"
    )
    ended = together(count, ["train", "--quiet", "--out", tmp_path / "run", *SMALL, *large], before=COUNT)
    assert ended.code == 0, ended.err
    counted = [line for line in ended.out.splitlines() if line.replace(" ", "").isdigit()]
    assert len(counted) == 3  # batches
    for line in counted:
        made, received, weights = map(int, line.split())
        numbers = 2000  # bytes of sums, wishes and padding
        assert made == calls
        assert weights <= received <= weights * (count - 1) * 2 / count + numbers
