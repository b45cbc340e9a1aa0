"""Runs the command line in this process, as a user would see it."""

from __future__ import annotations

from dataclasses import dataclass

from eqnp.cli.main import main

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
