"""Runs the command line in this process, as a user would see it."""

from __future__ import annotations

import csv
from dataclasses import dataclass

from eqnp.cli.main import main
from eqnp.runs import checkpoint

# A net and a dataset so small that a run takes a second.
SMALL = (
    "data.train_samples=60",
    "data.test_samples=40",
    "model.layers=[{conv=3,kernel=5,stride=2,pool='max'},{dense=10}]",
    "dynamics.T1=4",
    "dynamics.T2=2",
    "training.epochs=2",
    "training.batch_size=20",
    "training.threads=2",
)


def overrides(*settings: str) -> list[str]:
    """Return ``--set`` for each setting."""
    return [word for setting in settings for word in ("--set", setting)]


SMALL_OPTIONS = overrides(*SMALL)


@dataclass
class Result:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


def run(capsys, *arguments) -> Result:
    """Run ``eqnp`` with ``arguments``."""
    capsys.readouterr()
    code = main([str(a) for a in arguments])
    captured = capsys.readouterr()
    return Result(code, captured.out, captured.err)


def train_small(capsys, folder, *arguments) -> Result:
    """Train the small net in ``folder``."""
    return run(capsys, "train", "--out", folder, *SMALL_OPTIONS, *arguments)


def assert_fails(result, code, *words):
    assert result.code == code, result.err
    assert result.err.startswith("eqnp: ") and result.err.count("\n") == 1, result.err
    assert result.out == ""
    for word in words:
        assert word in result.err


def same_run(one, two):
    """Compare two finished runs bitwise, but for the seconds."""
    contents = [checkpoint.load(folder / "last.h5", kind="training") for folder in (one, two)]
    assert [c["progress"].pop("seconds") for c in contents]
    assert contents[0]["progress"] == contents[1]["progress"]
    for name, value in contents[0]["parameters"].items():
        assert value.tobytes() == contents[1]["parameters"][name].tobytes()
    rows = [list(csv.reader((folder / "metrics.csv").read_text().splitlines())) for folder in (one, two)]
    assert [row[:-1] for row in rows[0]] == [row[:-1] for row in rows[1]]
