"""A dry run: everything is checked as for a run, what would be trained is said, and nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from eqnp.api.report import Report, with_backend
from eqnp.api.resuming import change_line, nothing_to_do
from eqnp.api.session import OpenBackend, Read, Session, config_in, load_content, with_lasting_folder
from eqnp.api.titles import announce
from eqnp.runs.changes import differences, keep_schedule, require_resumable
from eqnp.runs.config import Config
from eqnp.runs.configfile import load
from eqnp.runs.experiment import with_threads
from eqnp.runs.runfolder import RunFolder
from eqnp.shown import quoted
from eqnp.training import State


def plan_run(
    config: Config, backend: OpenBackend, report: Report, read: Read | None = None, out: Path | None = None
) -> None:
    """Report what ``start_run`` would train, after the same checks, and write nothing."""
    if out is not None:
        RunFolder.require_free(out)
    config = with_lasting_folder(with_threads(config))
    _plan(Session.start(config, backend(), read=read), report, folder=out)


def plan_resume(path: Path, overrides: Sequence[str], backend: OpenBackend, report: Report) -> None:
    """Report what ``resume_run`` would train and change, after the same checks, and write nothing."""
    folder = RunFolder.open(path)
    written, config = load(str(folder.config_path)), load(str(folder.config_path), overrides)
    if not folder.begun():
        plan_run(config, backend, report)
        return
    content = load_content(folder.last_path, written)
    before = with_lasting_folder(config_in(folder.last_path, content) or written, search=False)
    config = with_lasting_folder(with_threads(config), search=False)
    require_resumable(differences(before, config), quoted(path), overrides)
    session = Session.start(config, backend())
    state = session.state_in(folder.last_path, content)
    if state.epoch >= config.training.epochs:
        report.message(nothing_to_do(state, written, config, with_backend(path, session.learner.backend)))
        return
    kept = keep_schedule(before, config, state.begun, overrides)
    for change in differences(before, kept):
        report.message(change_line(change, state))
    _plan(replace(session, config=kept), report, state, path)


def _plan(session: Session, report: Report, state: State | None = None, folder: Path | None = None) -> None:
    announce(report, session, state or session.initial_state(), folder)
    report.message("nothing was trained or written (--dry-run)")
