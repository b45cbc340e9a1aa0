"""Environment variables that set configuration keys: ``EQNP_TRAINING_EPOCHS=3`` is ``training.epochs=3``.

The commands read them; they stand below ``--set`` and above the configuration file. The library's functions do not read
them: a program says itself what it computes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from eqnp.errors import ConfigurationError
from eqnp.runs.keys import known_keys, named_keys
from eqnp.runs.overrides import Setting, key_of
from eqnp.runs.spelling import MOST, hint, near_words

PREFIX = "EQNP_"
OTHERS = ("EQNP_DATA", "EQNP_FIXTURES")  # folders of datasets; folders of further arrays for the tests
_NUMBER = re.compile(r"_([0-9]+)(?=_)")  # of a layer


def variable_of(key: str) -> str:
    """Return the variable that sets a key: ``EQNP_TRAINING_EPOCHS`` for ``training.epochs``."""
    return PREFIX + key.replace(".", "_").upper()


def settings_in(environment: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Return (overrides ``key=value``, names to warn of) from the variables of an ``environment``.

    An empty variable counts as not set. A name that resembles none of eqnp's may be another program's: it is only
    warned of.

    Raises:
        ConfigurationError: a name that is nearly that of a key or another variable of eqnp.
    """
    keys = {variable_of(key): key for key in known_keys()}
    found, unknown = [], []
    for name, value in sorted(environment.items()):
        if not name.upper().startswith(PREFIX) or name in OTHERS or not value:
            continue
        if (key := _key(name, keys)) is not None:
            found.append(Setting(f"{key}={value}", name))
        elif near := _near(name, keys):
            raise ConfigurationError(f"{name}: no such setting{hint(near)}; correct the variable or unset it")
        else:
            unknown.append(name)
    order = {key: place for place, key in enumerate(known_keys())}  # model.layers before a key of one layer
    return sorted(found, key=lambda each: order.get(key_of(each), len(order))), unknown


def _key(name: str, keys: Mapping[str, str]) -> str | None:
    """Return the key that a variable sets, or None; what is listed, such as layers, is known by any number."""
    key = keys.get(_NUMBER.sub("_0", name))
    numbers = iter(_NUMBER.findall(name))
    return key and re.sub(r"\.0(?=\.)", lambda _: f".{int(next(numbers))}", key)


def _near(name: str, keys: Mapping[str, str]) -> list[str]:
    """Return the variables that a name may stand for: typos, a key without its table, another program's name."""
    word = name.upper().removeprefix(PREFIX)
    meant = [variable_of(key) for key in named_keys(word)]
    near = near_words(word, [each.removeprefix(PREFIX) for each in (*keys, *OTHERS)])
    return meant or [PREFIX + each for each in near][:MOST]
