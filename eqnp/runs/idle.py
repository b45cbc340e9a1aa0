"""Keys of a configuration that are set and have no effect, since another key leaves them unused."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from eqnp.runs.changes import flat, shown
from eqnp.runs.config import Config


class Use(NamedTuple):
    """A key, whether a configuration uses it, and why not."""

    key: str
    used: Callable[[Config], object]
    why_not: str


USES = (
    Use("data.magnitude", lambda c: c.data.randaugment, "data.randaugment is 0"),
    Use("dynamics.check_every", lambda c: c.dynamics.tolerance, "dynamics.tolerance is 0"),
    Use("training.memory_gb", lambda c: c.training.algorithm == "bptt", "training.algorithm is ep"),
    Use("optimizer.T_max", lambda c: c.optimizer.schedule != "constant", "optimizer.schedule is constant"),
    Use("optimizer.beta1", lambda c: c.optimizer.name == "adam", "optimizer.name is sgd"),
    Use("optimizer.beta2", lambda c: c.optimizer.name == "adam", "optimizer.name is sgd"),
)


def idle_keys(config: Config) -> list[str]:
    """Return a line for each key that differs from its default and has no effect."""
    values, defaults = flat(config), flat(Config())
    return [
        f"{use.key} = {shown(values[use.key])} has no effect, since {use.why_not}"
        for use in USES
        if values[use.key] != defaults[use.key] and not use.used(config)
    ]
