"""Starting a run in a new folder, resuming one, and following the first process in the others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from eqnp.api.processes import join
from eqnp.api.report import Report, with_backend
from eqnp.api.resuming import KEPT, nothing_to_do, take_up_changes
from eqnp.api.session import OpenBackend, Read, Session, config_in, load_content, with_lasting_folder
from eqnp.api.training import TrainingRun
from eqnp.backends.world import Alone, World
from eqnp.errors import DiskError
from eqnp.runs.changes import differences, keep_schedule, require_resumable
from eqnp.runs.config import Config
from eqnp.runs.configfile import load, parse, to_toml
from eqnp.runs.environment import describe_environment
from eqnp.runs.experiment import from_content, require_shards, with_shards, with_threads
from eqnp.runs.runfolder import RunFolder
from eqnp.shown import quoted


class Ended(NamedTuple):
    """Where a run's folder is, and the exit code: 0, or that of the signal which stopped it."""

    path: Path
    exit_code: int


def start_run(
    config: Config,
    backend: OpenBackend,
    out: Path | None,
    report: Report,
    read: Read | None = None,
    world: World | None = None,
) -> Ended:
    """Train from the start in a new run folder. ``read`` is where data comes from, as ``Session.start`` takes it.

    Wrong input is found before a folder is made. All processes of a ``world`` call this; the first one has the folder.
    """
    world = world or Alone()
    session = _fresh(config, backend, read, world)
    join(world, session)
    if world.rank:
        return _follow(session, world, read)
    with RunFolder.create(out or RunFolder.default_path(config.name), to_toml(session.config)) as folder:
        return Ended(folder.path, _begin(TrainingRun(session, folder, report, world)))


def _fresh(config: Config, backend: OpenBackend, read: Read | None, world: World) -> Session:
    """Return the session of a new run."""
    config = with_lasting_folder(with_threads(config, world))
    chosen = backend()
    return Session.start(with_shards(config, world, chosen), chosen, read=read)


def resume_run(
    path: Path,
    overrides: Sequence[str],
    backend: OpenBackend,
    report: Report,
    read: Read | None = None,
    world: World | None = None,
) -> int:
    """Resume a run from its ``last.h5``, or start it if nothing was saved; return the exit code.

    All processes of a ``world`` call this. The first one has the folder, and passes on the configuration and the state.
    """
    world = world or Alone()
    if world.rank:
        config = parse("the configuration of rank 0", world.from_first(None))
        session = Session.start(config, backend(), read=read)
        join(world, session)
        return _follow(session, world, read).exit_code
    with RunFolder.open(path, lock=True) as folder:
        if not folder.begun():
            session = _fresh(load(str(folder.config_path), overrides), backend, read, world)
            world.from_first(to_toml(session.config))
            join(world, session)
            if overrides:
                folder.write_config(to_toml(session.config))
            return _begin(TrainingRun(session, folder, report, world))
        written = load(str(folder.config_path))
        content = load_content(folder.last_path, written)
        # The configuration until now, and the one to continue with.
        before = with_lasting_folder(config_in(folder.last_path, content) or written, search=False)
        config = with_lasting_folder(with_threads(load(str(folder.config_path), overrides)), search=False)
        require_resumable(differences(before, config), quoted(path), overrides)
        chosen = backend()
        require_shards(config, world, chosen)
        world.from_first(to_toml(config))
        session = Session.start(config, chosen, read=read)
        join(world, session)
        state = session.state_in(folder.last_path, content)
        if state.epoch >= config.training.epochs:
            report.message(nothing_to_do(state, written, config, with_backend(path, chosen)))
            return TrainingRun(Session.start(written, chosen, read=read), folder, report, world).conclude(
                state, together=True
            )
        kept = keep_schedule(before, config, state.begun, overrides)
        state = take_up_changes(folder, before, kept, describe_environment(chosen.name), state, report)
        if kept != config:
            report.message(KEPT.format(kept.optimizer.T_max))
            session = Session.on(kept, chosen, session.dataset)
        if kept != written:
            folder.write_config(to_toml(kept))
        return TrainingRun(session, folder, report, world).go_on(state)


def _follow(session: Session, world: World, read: Read | None) -> Ended:
    """Do in a further process what the first one does with its run folder: the same updates, and no writing."""
    order = world.from_first(None)
    config = parse("the configuration of rank 0", order["config"])
    own = session.config.data
    config = replace(config, data=replace(config.data, folder=own.folder, file=own.file))  # where this host has them
    backend = session.learner.backend
    if config.data != own:
        session = Session.start(config, backend, read=read)
    elif config != session.config:
        session = Session.on(config, backend, session.dataset)
    state = from_content(order["state"], session.learner, session.initial_state())
    run = TrainingRun(session, RunFolder(order["folder"]), Report(), world)
    go_on = run.conclude if order["conclude"] else run.go_on
    return Ended(run.folder.path, go_on(state))


def _begin(run: TrainingRun) -> int:
    """Save the initial state and train. A failure before the save loses nothing: the state follows from the config."""
    state = run.session.initial_state()
    try:
        run.folder.write_environment(describe_environment(run.session.learner.backend.name))
        run.write(run.folder.last_path, state)
    except DiskError as error:
        if not os.path.isfile(run.folder.config_path):
            raise DiskError(f"{error}; the run folder was moved or deleted meanwhile; start a new run") from None
        raise DiskError(f"{error}; then `{run.resume}` starts the run") from None
    return run.go_on(state)
