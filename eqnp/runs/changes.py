"""What differs between two configurations of a run, and which keys may change once it has begun.

A run is its configuration, its metrics and its weights, and each has to stay true of the others. Keys that say what the
weights are cannot change. All others can, and every change is dated in ``history.csv``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from eqnp.runs.config import Config
from eqnp.errors import ConfigurationError

# Keys (or tables) that say what the weights are, and why they cannot change.
_OF_WEIGHTS = {
    "model.": "the weights were trained in that network",
    "data.validation": "the samples held out at the start would be trained on, or have been",
    "training.seed": "initial weights, order of samples and validation set were drawn from it",
    "training.dtype": "the weights in the checkpoints are of that precision",
    "optimizer.name": "the checkpoints hold the state of that optimiser",
}
# Other data can be looked at through the same weights, but a run that goes on on other data is another run.
_OF_TRAINING = {
    "data.name": "the run so far is about that dataset",
    "data.shape": "the run so far is about samples of that shape",
    "data.normalisation": "the weights were trained on inputs of that scale",
}
# Keys that say on which samples and by which free phase an error is measured.
_OF_MEASURING = (
    "data.folder",
    "data.train_samples",
    "data.test_samples",
    "dynamics.T1",
    "dynamics.tolerance",
    "dynamics.schedule",
    "dynamics.omega",
)
# Keys that have no effect on weights that are only looked at.
_OF_UPDATES = ("name", "description", "data.flip", "data.crop", "training.epochs", "optimizer.")


@dataclass(frozen=True)
class Change:
    """A key, its old and its new value; None where there is none."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key} = {shown(self.new)} instead of {shown(self.old)}"


def shown(value: Any) -> str:
    """Return a value as TOML writes it, on one line; nothing for None."""
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def flat(config: Config) -> dict[str, Any]:
    """Return every value by its key with dots: ``training.epochs``, ``model.layers.0.conv``."""
    return dict(_flatten(asdict(config), ""))


def _flatten(node: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for name, value in node.items():
        if isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            value = {str(n): item for n, item in enumerate(value)}
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def differences(before: Config, after: Config) -> list[Change]:
    """Return every key that has another value in ``after``, in the order of the tables."""
    old, new = flat(before), flat(after)
    return [Change(key, old.get(key), new.get(key)) for key in old | new if old.get(key) != new.get(key)]


def require_resumable(changes: Sequence[Change], run: str) -> None:
    """Check that a run can go on with these changes; ``run`` is its folder, as it stands in a command.

    Raises:
        ConfigurationError: one of the keys cannot change after the start; the first one is named.
    """
    _require(changes, _OF_WEIGHTS | _OF_TRAINING, run)


def require_readable(changes: Sequence[Change], run: str) -> None:
    """Check that the weights of a run mean the same with these changes; ``run`` is its folder, as in a command.

    Raises:
        ConfigurationError: one of the keys says what the weights are; the first one is named.
    """
    _require(changes, _OF_WEIGHTS, run)


def describe(change: Change) -> str:
    """Return a change as it stands beside what was measured on the weights of a run."""
    return f"{change}{' (no effect here)' if change.key.startswith(_OF_UPDATES) else ''}"


def _require(changes: Sequence[Change], fixed: Mapping[str, str], run: str) -> None:
    for change in changes:
        reason = next((why for key, why in fixed.items() if change.key.startswith(key)), "")
        if change.key == "optimizer.momentum" and not (change.old and change.new):
            reason = "the checkpoints hold velocities only if there is momentum"
        if reason:
            raise ConfigurationError(
                f"{change.key}: is {shown(change.old) or 'not there'} since the start of the run and cannot be "
                f"{shown(change.new) or 'left out'} now: {reason}; "
                f"for a new run: `eqnp train {run}/config.toml --set {change.key}=...`"
            )


def comparable(changes: Sequence[Change], validation: bool) -> Change | None:
    """Return the first change after which errors are not comparable with those before it, or None.

    With a ``validation`` set, no errors on the test set are compared.
    """
    keys = set(_OF_MEASURING) - ({"data.test_samples"} if validation else set())
    return next((change for change in changes if change.key in keys), None)


def keep_schedule(before: Config, after: Config, epoch: int, overrides: Sequence[str]) -> Config:
    """Return ``after`` so that its rate goes on from where ``before`` had it after ``epoch`` epochs.

    A cosine over all epochs (``optimizer.T_max = 0``) would jump if their number changes, so it keeps the number that
    it began with, unless one of the ``overrides`` names ``optimizer.T_max``.

    Raises:
        ConfigurationError: epochs were added in which the rate would be 0.
    """
    old, new = before.training.epochs, after.training.epochs
    named = any(text.partition("=")[0].strip() == "optimizer.T_max" for text in overrides)
    both = before.optimizer.schedule == after.optimizer.schedule == "cosine"
    if not both or named or old == new or not epoch:
        return after
    T_max = after.optimizer.T_max or max(old, 1)
    if new > max(T_max, old) and after.optimizer.minimum_rate == 0:
        raise ConfigurationError(
            f"training.epochs: from epoch {max(T_max, old) + 1} on the rate would be optimizer.minimum_rate = 0, since "
            f"its cosine ends after {T_max} epochs; give --set optimizer.T_max={new} too (the rate then jumps up), "
            "or --set optimizer.minimum_rate=..."
        )
    return replace(after, optimizer=replace(after.optimizer, T_max=T_max))
