"""Which configuration key was meant: by its last part alone, by another usual name, or despite a typo."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from eqnp.runs.config import Config
from eqnp.runs.spelling import LONGEST, MOST, hint, near_words, slips

TABLES = tuple(each.name for each in fields(Config) if each.name not in ("name", "description"))
OTHER_NAMES = {
    "lr": "optimizer.rates",
    "rate": "optimizer.rates",
    "learning_rate": "optimizer.rates",
    "learning_rates": "optimizer.rates",
    "wd": "optimizer.weight_decay",
    "decay": "optimizer.weight_decay",
    "eps": "optimizer.epsilon",
    "clip": "optimizer.clip_norm",
    "max_norm": "optimizer.clip_norm",
    "grad_clip": "optimizer.clip_norm",
    "grad_clip_norm": "optimizer.clip_norm",
    "gradient_clip": "optimizer.clip_norm",
    "gradient_clipping": "optimizer.clip_norm",
    "max_grad_norm": "optimizer.clip_norm",
    "clip_grad_norm": "optimizer.clip_norm",
    "eta_min": "optimizer.minimum_rate",
    "min_lr": "optimizer.minimum_rate",
    "optimizer": "optimizer.name",
    "optimiser": "optimizer.name",
    "optim": "optimizer.name",
    "lr_schedule": "optimizer.schedule",
    "scheduler": "optimizer.schedule",
    "dataset": "data.name",
    "data": "data.name",
    "data_dir": "data.folder",
    "data_path": "data.folder",
    "data_folder": "data.folder",
    "data_file": "data.file",
    "npz": "data.file",
    "image_size": "data.resize",
    "class_names": "data.classes",
    "std": "data.deviation",
    "normalize": "data.normalisation",
    "normalization": "data.normalisation",
    "rand_augment": "data.randaugment",
    "num_ops": "data.randaugment",
    "num_epochs": "training.epochs",
    "n_epochs": "training.epochs",
    "max_epochs": "training.epochs",
    "batch": "training.batch_size",
    "batchsize": "training.batch_size",
    "bs": "training.batch_size",
    "random_seed": "training.seed",
    "precision": "training.dtype",
    "workers": "training.threads",
    "num_workers": "training.threads",
    "num_threads": "training.threads",
    "jobs": "training.threads",
    "nudging_strength": "dynamics.beta",
    "asymmetric": "training.nudging",
    "free_steps": "dynamics.T1",
    "nudged_steps": "dynamics.T2",
    "tol": "dynamics.tolerance",
    "dropout": "model.layers.0.keep",
    "nonlinearity": "model.activation",
    "sigma": "model.activation",
    "channels": "model.layers.0.conv",
    "units": "model.layers.0.dense",
    "hflip": "data.flip",
    "augment": "data.crop",
    "tag": "name",
}


@cache
def known_keys() -> tuple[str, ...]:
    """Return the dotted name of every key that is not a table; keys of layers and skips are named for number 0."""
    return tuple(_keys(Config, ""))


def _keys(kind: type, prefix: str) -> Iterator[str]:
    hints = get_type_hints(kind)
    for each in fields(kind):
        name = prefix + each.name
        if is_dataclass(hints[each.name]):
            yield from _keys(hints[each.name], f"{name}.")
        else:
            yield name
        if (inner := table_of_list(hints[each.name])) is not None:
            yield from _keys(inner, f"{name}.0.")


def table_of_list(hint: Any) -> type[Any] | None:
    """Return the table of which a key holds a list, by its type: ``Layer`` for ``tuple[Layer, ...]``; else None."""
    kind = next(iter(get_args(hint)), None)
    return kind if isinstance(kind, type) and is_dataclass(kind) else None


def choices_of(key: str) -> tuple[str, ...]:
    """Return the values among which a key chooses: names, ``true`` and ``false``; empty if there are none to name.

    A key of any layer is known.
    """
    kind: Any = Config
    declared = None  # of the part before
    for part in key.split("."):
        if part.isdecimal():
            continue
        declared = next((each for each in fields(kind) if each.name == part), None) if is_dataclass(kind) else None
        if declared is None:
            return ()
        hint = get_type_hints(kind)[part]
        kind = table_of_list(hint) or hint
    if kind is bool:
        return ("true", "false")
    return tuple(declared.metadata.get("choices", ())) if declared else ()


def named_keys(word: str) -> list[str]:
    """Return the keys that ``word`` means: its table left out, dashes for dots, or a name from other programs."""
    word = _plain(word)
    keys = known_keys()
    if word in keys:
        return [word]
    other = [OTHER_NAMES[word]] if word in OTHER_NAMES else []
    return other or [key for key in keys if word in (_plain(key), _plain(key.rpartition(".")[2]))][:MOST]


def near_keys(word: str) -> list[str]:
    """Return the keys that ``word`` means or, if there are none, those that it means with a typo corrected."""
    return named_keys(word) or [key for near in near_words(_plain(word), names_of_keys()) for key in named_keys(near)]


def key_hint(name: str, table: Iterable[str], inside: str = "") -> str:
    """Return `` (did you mean ...?)`` for a ``name`` that is not in its ``table``: keys elsewhere, or similar ones.

    ``inside`` is the key below ``name``, if there is one: in ``trainingm.ax_minutes`` the dot is at the wrong place.
    """
    near, whole = near_words(name, table), f"{name}.{inside}"
    if inside and not any(f"{each}.{inside}" in known_keys() for each in near) and (keys := near_keys(whole)):
        return hint(keys[:MOST])
    elsewhere = named_keys(name)
    if not elsewhere and _fewest_slips(_plain(name), names_of_keys()) < _fewest_slips(name, near):
        elsewhere, near = near_keys(name), []
    return hint([*elsewhere, *near][:MOST])


def _fewest_slips(word: str, known: Iterable[str]) -> float:
    if len(word) > LONGEST:
        return math.inf
    return min((slips(word.lower(), each.lower()) for each in known), default=math.inf)


def names_of_keys() -> list[str]:
    """Return every word that ``named_keys`` knows, with underscores between its parts."""
    keys = known_keys()
    return [*(_plain(key.rpartition(".")[2]) for key in keys), *OTHER_NAMES, *map(_plain, keys)]


def _plain(word: str) -> str:
    return word.replace("-", "_").replace(".", "_").lower()
