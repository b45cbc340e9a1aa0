"""What a run is going to do, in a line: network, data, method, steps and FLOPs."""

from __future__ import annotations

from pathlib import Path

from eqnp.analysis.costs import Costs
from eqnp.api.report import Report
from eqnp.api.session import Session
from eqnp.learner import BPTT, Learner
from eqnp.runs.config import Config
from eqnp.runs.idle import idle_keys
from eqnp.shown import shown
from eqnp.training import State


def title(session: Session, state: State, folder: Path | None = None) -> str:
    """Return network, data, method, work of an update and where the run goes on, in ``folder`` if there is one."""
    config, network = session.config, session.learner.network
    weights = sum(p.size for p in state.parameters.values())
    start = f"epoch {state.epoch + 1}, batch {state.batch + 1}" if state.begun else "the start"
    held = ""
    if session.chooses == "validation":
        train, validation = map(session.count, ("train", "validation"))
        held = f" ({train} samples to train on, {validation} for validation)"
    layers = " - ".join(map(str, network.architecture.layers))
    return (
        f"{shown(config.name, 100)}: {layers} on {session.dataset.name}{held}, "
        f"{weights} parameters, {method(config, session.learner.bptt)}, {_work(session)}, from {start}"
        f"{'' if folder is None else f', in {folder}'}"
    )


def announce(report: Report, session: Session, state: State, folder: Path | None = None) -> None:
    """Report the title of a run, and which keys of its configuration have no effect."""
    report.message(title(session, state, folder))
    for line in idle_keys(session.config):
        report.message(f"note: {line}")


def _work(session: Session) -> str:
    """Return how much an update computes."""
    learner = session.learner
    size = min(session.config.training.batch_size, session.count("train"))
    return f"{steps(learner)}, {flops(size * Costs(learner).gradient)} an update of {size} samples"


def steps(learner: Learner) -> str:
    """Return the steps of the phases of an update: ``20 free and 2 x 8 nudged steps``."""
    phases, up_to = learner.phases, "up to " if learner.phases.tolerance else ""
    if learner.bptt is not None:
        return f"{phases.T1} free steps, the last {phases.T2} differentiated"
    nudged = sum(beta != 0 for beta, _ in learner.stencil(0, 0).points)
    return f"{up_to}{phases.T1} free and {f'{nudged} x ' if nudged > 1 else ''}{phases.T2} nudged steps"


def flops(number: float) -> str:
    """Return a number of FLOPs with three digits: ``6.21 GFLOP``."""
    return _scaled(number, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP"))


def memory(number: float) -> str:
    """Return a number of bytes with three digits, in powers of ten: ``14.1 MB``."""
    return _scaled(number, ("bytes", "kB", "MB", "GB", "TB", "PB"))


def _scaled(number: float, units: tuple[str, ...]) -> str:
    scale = 0
    while number >= 999.5 and scale < len(units) - 1:
        number, scale = number / 1000, scale + 1
    shown = (
        f"{number:.0f}" if scale == 0 or number >= 99.95 else f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"
    )
    return f"{shown} {units[scale]}"


def method(config: Config, bptt: BPTT | None) -> str:
    """Return the learning method in words: an estimator, or ``bptt``."""
    kind = "vector field, " if config.model.kind == "vector-field" else ""
    common = ", common update (KP-VF)" if config.training.common_update else ""
    nudging = "asymmetric nudging, " if config.training.nudging == "asymmetric" else ""
    algorithm = f"{nudging}{config.training.estimator} estimator"
    if config.training.estimator == "circle":
        algorithm += f" of {config.dynamics.points} points"
    if bptt is not None:
        short = bptt.segment < config.dynamics.T2
        algorithm = f"BPTT with recomputed states, in segments of {bptt.segment} steps" if short else "BPTT"
    return f"{kind}{algorithm}{common}"
