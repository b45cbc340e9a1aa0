"""The measurements of ``eqnp check``, and their input."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from eqnp.analysis import circles, theorem, verdict
from eqnp.analysis.precision import Rounding, find_rounding
from eqnp.analysis.quality import Setting
from eqnp.analysis.settling import check_settling
from eqnp.analysis.steady import SettledPhases, Watch
from eqnp.api.session import Session
from eqnp.backends.backend import Array
from eqnp.backends.world import World
from eqnp.cli.selection import parse_selection
from eqnp.errors import ConfigurationError
from eqnp.losses import one_hot
from eqnp.runs.configfile import DEFAULT_PRESET


def measure(
    session: Session,
    parameters: Mapping[str, Array],
    samples: str,
    split: str,
    steps: int,
    watch: Watch,
    least_beta: float = 0.0,
) -> dict[str, Any]:
    """Return the results of a check, nested by name as in check.h5. No cure takes beta below ``least_beta``."""
    learner, configured = session.learner, session.learner.phases
    x, target, parameters = _prepare(session, parameters, samples, split)
    vector_field = learner.network.architecture.vector_field
    holomorphic = circles.is_holomorphic(learner.network)
    watch.expect(verdict.STAGES + theorem.STAGES + 1 + (theorem.STAGES if vector_field else 0))
    watch.expect(circles.STAGES + learner.points if holomorphic else 0)
    phases = SettledPhases(learner.network, parameters, x, target, steps, learner.contrast, configured.way, watch)
    # A sweep up or down crosses all layers, a synchronous step one.
    per_sweep = len(learner.network.activations) if configured.schedule == "up-down" else 1
    setting = Setting(configured.T1, configured.T2, learner.beta, learner.estimator, learner.points)
    content = {
        "settings": {
            **asdict(setting),
            "algorithm": session.config.training.algorithm,
            "dropout": any(keep < 1 for keep in learner.network.architecture.keep),
            "common_update": session.config.training.common_update,
            "nudging": session.config.training.nudging,
            "tolerance": configured.tolerance,
            "schedule": configured.schedule,
            "omega": configured.omega,
            "samples": len(x),
            "split": split,
            "steps": steps,
            "steps_per_sweep": per_sweep,
        },
        "tied": not vector_field,
        "angle": verdict.mean_angle(parameters),
        "verdict": verdict.judge(phases, setting, configured.tolerance, configured.every, least_beta),
        "bias": theorem.measure_bias(phases, learner.beta),
    }
    if not content["tied"]:
        content["kinds"] = theorem.compare_kinds(phases, learner.beta)
    if holomorphic:
        content["circle"] = circles.measure_circles(phases, learner.beta)
    if setting.T2 <= setting.T1:  # BPTT goes back through the last T2 of T1 steps
        T1, T2 = setting.T1 * per_sweep, setting.T2 * per_sweep
        content["steps"] = theorem.check_steps(
            learner.network, parameters, x, target, T1, T2, learner.beta, learner.contrast, watch
        )
    return content


def measure_settling(
    session: Session,
    parameters: Mapping[str, Array],
    samples: str,
    split: str,
    steps: int,
    watch: Watch,
    world: World | None = None,
) -> dict[str, Any]:
    """Return the results of a check of T1 and T2, nested by name as in settling.h5."""
    learner = session.learner
    x, target, parameters = _prepare(session, parameters, samples, split)
    T1, T2 = learner.phases.T1, learner.phases.T2
    configured = (*learner.phases.way, T1, T2)
    if max(T1, T2) > steps:
        raise ConfigurationError(f"--steps {steps}: T1 {T1} and T2 {T2} of the configuration are more")
    content = check_settling(
        learner.network, parameters, x, target, configured, learner.beta, steps, learner.contrast, watch, world
    )
    return {"settings": {"samples": len(x), "split": split, "steps": steps}, **content}


def rounding(session: Session, parameters: Mapping[str, Array], samples: str, split: str) -> Rounding | None:
    """Return the rounding error in the dtype of the run (not float64, as in the check); None if it has none."""
    return find_rounding(session.learner, parameters, *_samples(session, samples, split))


def _samples(session: Session, samples: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return images (N, H, W, C) in the dtype of the run, and labels (N,)."""
    return session.samples(split, parse_selection("--samples", samples, session.count(split)))


def _prepare(
    session: Session, parameters: Mapping[str, Array], samples: str, split: str
) -> tuple[Array, Array, dict[str, Array]]:
    """Return inputs (N, ...), targets (N, K) and parameters on the backend, in float64, or float32 for TF32."""
    backend, dtype = session.learner.backend, np.float32 if session.config.training.tf32 else np.float64
    x, labels = _samples(session, samples, split)
    target = one_hot(labels, session.learner.network.architecture.classes, dtype)
    cast = {name: p.astype(dtype) for name, p in parameters.items()}
    return backend.asarray(x.astype(dtype)), backend.asarray(target), cast


def shown_name(target: str | None, checkpoint: str) -> str:
    """Return the name of what is checked: a run with its checkpoint, a preset or a configuration file."""
    if target is not None and os.path.isdir(target):
        target = f"{target} ({checkpoint}.h5)"
    text = os.fsencode(target or DEFAULT_PRESET).decode(errors="replace")
    return "".join(c if c.isprintable() else "?" for c in text)


def training_command(target: str | None, overrides: Sequence[str], backend: Sequence[str] = ()) -> list[str]:
    """Return the words of the command that trains the checked configuration; ``backend``: those that choose it."""
    if target is not None and os.path.isdir(target):
        target = os.path.join(target, "config.toml")
    words = ["eqnp", "train", *([target] if target else [])]
    return [*words, *backend, *(word for setting in overrides for word in ("--set", setting))]
