"""Differences between two configurations of a run, and which keys may change after its start.

The configuration, the metrics and the weights of a run have to stay consistent. Keys that define the weights cannot
change. All others can, and every change is recorded in ``history.csv``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from eqnp.errors import ConfigurationError
from eqnp.runs.config import Config
from eqnp.runs.overrides import key_of, origin_of
from eqnp.shown import shown as printable

# Keys (or tables) that define the weights, and why they cannot change.
_OF_WEIGHTS = {
    "model.": "the weights were trained in that network",
    "data.validation": "samples of the validation set would be trained on, or have been",
    "training.seed": "initial weights, sample order and validation set were drawn from it",
    "training.dtype": "the weights in the checkpoints have that precision",
    "optimizer.name": "the checkpoints hold the state of that optimiser",
}
# The weights can be evaluated on other data, but a run that continues on other data is another run.
_OF_TRAINING = {
    "data.name": "the run so far used that dataset",
    "data.shape": "the run so far used samples of that shape",
    "data.classes": "the run so far used those classes",
    "data.resize": "the run so far used images of that size",
    "data.normalisation": "the weights were trained on inputs of that scale",
    "data.mean": "the weights were trained on inputs of that scale",
    "data.deviation": "the weights were trained on inputs of that scale",
}
# Keys that define on which samples and with which free phase an error is measured.
_OF_MEASURING = (
    "data.folder",
    "data.file",
    "data.train_samples",
    "data.test_samples",
    "dynamics.T1",
    "dynamics.tolerance",
    "dynamics.schedule",
    "dynamics.omega",
)
_AUGMENTATION = ("data.flip", "data.crop", "data.randaugment", "data.magnitude")
# Keys that have no effect on what is measured on the weights of a run.
_OF_UPDATES = (
    "name",
    "description",
    *_AUGMENTATION,
    "training.epochs",
    "training.patience",
    "training.max_minutes",
    "training.check_every",
    "training.label_smoothing",
    "training.memory_gb",
    "optimizer.",
)
# Keys that have none either where no phase is nudged.
_OF_NUDGING = (
    "dynamics.beta",
    "dynamics.points",
    "dynamics.T2",
    "training.algorithm",
    "training.common_update",
    "training.estimator",
    "training.nudging",
)


# Keys whose state is in the checkpoints only if they are not 0.
_STATE_OF = {
    "optimizer.momentum": "the checkpoints hold velocities only with momentum",
    "optimizer.average": "the checkpoints hold an average only if it was computed from the start",
}


@dataclass(frozen=True)
class Change:
    """A key, its old and its new value; None if the key is not in that configuration."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        key, new, old = (printable(text, 200) for text in (self.key, shown(self.new), shown(self.old)))
        return f"{key} = {new} instead of {old}"


def shown(value: Any) -> str:
    """Return a value as TOML on one line; "" for None."""
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def flat(config: Config) -> dict[str, Any]:
    """Return every value by its dotted key: ``training.epochs``, ``model.layers.0.conv``."""
    return dict(flatten(asdict(config)))


def flatten(node: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """Yield every value of a tree of tables by its dotted key; layers are numbered."""
    for name, value in node.items():
        if isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
            value = {str(n): item for n, item in enumerate(value)}
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def differences(before: Config, after: Config) -> list[Change]:
    """Return every key whose value differs in ``after``, in the order of the tables."""
    old, new = flat(before), flat(after)
    return [Change(key, old.get(key), new.get(key)) for key in old | new if old.get(key) != new.get(key)]


def require_resumable(changes: Sequence[Change], run: str, overrides: Sequence[str] = ()) -> None:
    """Check that a run can be resumed with these changes; ``run`` is its folder as written in a command.

    ``overrides`` are what changed them, if anything did: a message names an environment variable.

    Raises:
        ConfigurationError: one of the keys cannot change after the start; the message names the first one.
    """
    _require(changes, _OF_WEIGHTS | _OF_TRAINING, run, overrides)


def require_readable(changes: Sequence[Change], run: str, overrides: Sequence[str] = ()) -> None:
    """Check that the weights of a run can be evaluated with these changes; ``run`` is its folder as in a command.

    ``overrides`` are as for ``require_resumable``.

    Raises:
        ConfigurationError: one of the keys defines the weights; the message names the first one.
    """
    _require(changes, _OF_WEIGHTS, run, overrides)


def describe(change: Change, nudged: bool = True) -> str:
    """Return a change as text beside a measurement on the weights of a run, in which phases are ``nudged`` or not."""
    without = _OF_UPDATES if nudged else (*_OF_UPDATES, *_OF_NUDGING)
    return f"{change}{' (no effect here)' if change.key.startswith(without) else ''}"


def resumable(key: str) -> bool:
    """Return whether a key may change when a run is resumed."""
    return not key.startswith((*_OF_WEIGHTS, *_OF_TRAINING))


def _require(changes: Sequence[Change], fixed: Mapping[str, str], run: str, overrides: Sequence[str]) -> None:
    for change in changes:
        reason = next((why for key, why in fixed.items() if change.key.startswith(key)), "")
        if change.key in _STATE_OF and not (change.old and change.new):
            reason = _STATE_OF[change.key]
        if reason:
            by = f" (by {variable})" if (variable := origin_of(change.key, overrides)) else ""
            raise ConfigurationError(
                f"{change.key}: is {printable(shown(change.old), 200) or 'not set'} since the start of the run and "
                f"cannot be {printable(shown(change.new), 200) or 'left out'} now{by}: {reason}; "
                f"for a new run: `eqnp train {run}/config.toml --set {change.key}=...`"
            )


def comparable(changes: Sequence[Change], validation: bool) -> Change | None:
    """Return the first change that makes errors before and after it incomparable, or None.

    With a ``validation`` set, errors on the test set are not compared.
    """
    return next((change for change in changes if is_of_measuring(change.key, validation)), None)


def is_of_measuring(key: str, validation: bool) -> bool:
    """Return whether errors before and after a change of ``key`` cannot be compared; ``validation`` as above."""
    return key in _OF_MEASURING and not (validation and key == "data.test_samples")


def keep_schedule(before: Config, after: Config, begun: bool, overrides: Sequence[str]) -> Config:
    """Return ``after`` with the learning-rate schedule of ``before``, if at least one batch is done (``begun``).

    A cosine or one-cycle over all epochs (``optimizer.T_max = 0``) would jump if the number of epochs changes. So it
    keeps the first number, unless one of the ``overrides`` sets ``optimizer.T_max``.

    Raises:
        ConfigurationError: the learning rate would be 0 in the added epochs.
    """
    old, new = before.training.epochs, after.training.epochs
    named = "optimizer.T_max" in map(key_of, overrides)
    both = before.optimizer.schedule == after.optimizer.schedule
    if not both or after.optimizer.schedule == "constant" or named or old == new or not begun:
        return after
    T_max = after.optimizer.T_max or max(old, 1)
    if new > max(T_max, old) and after.optimizer.minimum_rate == 0:
        raise ConfigurationError(
            f"training.epochs: from epoch {max(T_max, old) + 1} on the learning rate is optimizer.minimum_rate = 0, "
            f"since its {after.optimizer.schedule} ends after {T_max} epochs; add --set optimizer.T_max={new} (the "
            "rate then jumps up) or --set optimizer.minimum_rate=..."
        )
    return replace(after, optimizer=replace(after.optimizer, T_max=T_max))
