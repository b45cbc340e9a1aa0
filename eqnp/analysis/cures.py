"""A search for settings that make an estimate good: a smaller beta, a larger T1 or T2, two-sided nudging."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from eqnp.analysis.diagnostics import cosine
from eqnp.analysis.quality import Setting, grade, make_stencil
from eqnp.analysis.steady import SettledPhases
from eqnp.networks import Gradient

LONGER = (2, 4, 8, 16)  # factors of T1 and T2
SMALLER = (2, 5, 10, 20, 50, 100)  # divisors of beta


def find_cure(
    phases: SettledPhases,
    setting: Setting,
    sign: int,
    exact: Gradient,
    now: float,
    goal: float,
    least_beta: float = 0.0,
    tolerance: float = 0.0,
) -> dict[str, Any]:
    """Try smaller betas, longer phases and two-sided nudging until a quality of ``goal`` is reached.

    Each change is tried alone first, from small to large. If no single change is enough, all are tried together, and
    then each is taken back as far as the goal allows. If several settings reach the goal, the one with the fewest steps
    is chosen. All are tried without a tolerance; if there is one, leaving it out is the first change. ``sign`` is the
    sign of beta, ``exact`` the reference gradient by parameter, ``now`` and ``goal`` are qualities
    (``quality.grade``), at most 1. No beta below ``least_beta`` is tried: the run would round too much.

    Returns the setting; its ``cosine`` with the exact gradient and its ``quality``; ``enough``: whether the quality
    reaches the goal (if not, the setting is the best of all); and ``tried``, a table with one array (K,) per column.
    """
    trial = _Trial(phases, sign, exact)
    knobs = _knobs(setting, phases.steps, least_beta)
    phases.watch.expect(sum(map(len, knobs.values())) + bool(tolerance))
    single = [trial.first([setting], goal)] if tolerance else []
    single += [
        trial.first([replace(setting, **{key: value}) for value in values], goal) for key, values in knobs.items()
    ]
    found = [candidate for candidate in single if candidate is not None]
    if not found:
        together = [
            replace(setting, **{key: values[min(k, len(values) - 1)] for key, values in knobs.items() if values})
            for k in range(max(map(len, knobs.values())))
        ]
        all_changed = trial.first(together, goal)
        found = [_taken_back(trial, all_changed, setting, knobs, goal)] if all_changed is not None else []
    if found:
        best = min(found, key=lambda s: (s.cost, -s.beta))
    else:
        best = max(trial.tried, key=lambda s: trial.tried[s][1], default=setting)
    reached = trial.tried.get(best, (0.0, -1.0))
    if reached[1] <= now:
        best, reached = setting, (cosine(trial.estimate(setting), exact), now)
    else:
        tolerance = 0.0
    return asdict(best) | {
        "tolerance": tolerance,
        "cosine": reached[0],
        "quality": reached[1],
        "enough": reached[1] >= goal,
        "tried": _table(trial.tried),
    }


class _Trial:
    """The settings that were tried, each with its cosine and its quality."""

    def __init__(self, phases: SettledPhases, sign: int, exact: Gradient) -> None:
        self.phases, self.sign, self.exact = phases, sign, exact
        self.tried: dict[Setting, tuple[float, float]] = {}

    def first(self, settings: Sequence[Setting], goal: float) -> Setting | None:
        """Return the first setting that reaches the goal, or None. Settings after it are not tried."""
        return next((setting for setting in settings if self.quality(setting) >= goal), None)

    def quality(self, setting: Setting) -> float:
        """Return the quality of the estimate of a setting."""
        if setting not in self.tried:
            self.phases.watch.stage(f"trying T1 {setting.T1}, T2 {setting.T2}, beta {setting.beta:.2g}")
            estimate = self.estimate(setting)
            self.tried[setting] = cosine(estimate, self.exact), grade(estimate, self.exact)
        return self.tried[setting][1]

    def estimate(self, setting: Setting) -> Gradient:
        """Return the gradient estimate of a setting."""
        free = self.phases.free_after(setting.T1).states
        return self.phases.estimate(free, setting.T2, make_stencil(setting, self.sign))


def _taken_back(
    trial: _Trial, best: Setting, setting: Setting, knobs: Mapping[str, Sequence[Any]], goal: float
) -> Setting:
    """Take each change of ``best`` back towards ``setting``, one after the other, as far as the goal allows."""
    for key, values in knobs.items():
        less = [replace(best, **{key: value}) for value in (getattr(setting, key), *values)]
        best = trial.first(less[: less.index(best)], goal) or best
    return best


def _knobs(setting: Setting, steps: int, least_beta: float) -> dict[str, list[Any]]:
    """Return the values to try for each field that can be changed, the smallest change first."""
    knobs: dict[str, list[Any]] = {
        "beta": [setting.beta / k for k in SMALLER if setting.beta / k >= least_beta],
        "T1": [setting.T1 * k for k in LONGER if setting.T1 * k <= steps],
        "T2": [setting.T2 * k for k in LONGER if setting.T2 * k <= steps],
    }
    if setting.estimator in ("one-sided", "random-sign"):
        knobs["estimator"] = ["symmetric"]
    return knobs


def _table(tried: Mapping[Setting, tuple[float, float]]) -> dict[str, np.ndarray]:
    """Return what was tried as columns, one array (K,) each for K settings."""
    columns = {name: np.array([getattr(s, name) for s in tried]) for name in ("T1", "T2", "beta")}
    two_sided = np.array([s.estimator in ("symmetric", "four-point", "circle") for s in tried])
    cosines, qualities = np.array(list(tried.values())).reshape(-1, 2).T
    return columns | {"two_sided": two_sided, "cosine": cosines, "quality": qualities}
