"""``eqnp check``: whether Equilibrium Propagation computes the gradient, and with which bias."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eqnp.cli.completing import complete_source_or_run
from eqnp.cli.mistakes import Command
from eqnp.cli.options import (
    Place,
    UserPath,
    backend_option,
    checkpoint_option,
    distributed_option,
    set_option,
    short_forms,
    split_option,
)
from eqnp.cli.streams import say, say_lines
from eqnp.errors import memory_advice

if TYPE_CHECKING:
    from eqnp.backends.world import World

SAMPLES, SETTLING_SAMPLES = 50, 20  # without --samples: the first of the split


@click.command(cls=Command, examples=["check digits", "check runs/mlp --settle --out check"])
@click.argument(
    "target",
    required=False,
    type=UserPath(),
    metavar="[RUN | PRESET | CONFIG.toml]",
    shell_complete=complete_source_or_run,
)
@click.option("--out", type=UserPath(path_type=Path), help="Folder for check.h5 and the figures; default: no files.")
@click.option(
    "--samples", metavar="RANGE", help="3,5 or 0:10 or 0:100:10. Default: the first 50 samples; with --settle, 20."
)
@click.option(
    "--plots",
    type=click.Choice(["png", "svg", "none"]),
    default="png",
    show_default=True,
    help="Format of the figures.",
)
@click.option("--settle", is_flag=True, help="Measure instead how many steps the phases need.")
@click.option(
    "--steps", type=click.IntRange(min=1), metavar="N", default=2000, show_default=True, help="Most steps to settle."
)
@click.option("--force", is_flag=True, help="Overwrite the files of an earlier check.")
@checkpoint_option
@split_option
@backend_option
@set_option
@short_forms("--beta")
@distributed_option
@memory_advice("take fewer --samples")
def check(
    target: str | None,
    out: Path | None,
    samples: str | None,
    plots: str,
    settle: bool,
    steps: int,
    force: bool,
    checkpoint: str,
    split: str,
    backend: Place,
    overrides: tuple[str, ...],
    world: World,
) -> None:
    """Compare the gradient of Equilibrium Propagation with the exact gradient.

    The output says whether the estimate is good, what causes the error, and which change helps. Two tables follow: EP
    against BPTT step by step, and the bias of the estimators against beta.

    With --settle: residual and quality of the gradient against T1 and T2, by schedule and omega, and advice. Several
    processes share out the schedules; without --settle the first one does everything.

    The weights are those of a run, or the initial weights of a preset (default: digits). T1, T2 and beta are those of
    the configuration; --set dynamics.T1=500 changes them. The precision is float64, or float32 with training.tf32.
    """
    from eqnp.api.processes import join, marked
    from eqnp.api.report import Report
    from eqnp.api.session import open_weights
    from eqnp.cli import checking, tables
    from eqnp.cli.progress import Progress
    from eqnp.cli.rows import show_changed
    from eqnp.cli.stages import Stages
    from eqnp.errors import ConfigurationError
    from eqnp.runs import checkpoint as files
    from eqnp.runs.storage import make_folder

    if world.rank and not settle:
        return
    name = "settling" if settle else "check"
    if out is not None and not world.rank:
        figures = ("settling",) if settle else ("cumulative", "ratio", "bias", "circle")
        planned = [out / f"{name}.h5", *(out / f"{figure}.{plots}" for figure in figures)]
        if not force and (taken := [path for path in planned if os.path.lexists(path)]):
            raise ConfigurationError(f"--out {out}: {taken[0].name} exists there; give another folder or --force")
        if plots != "none":
            from eqnp.analysis.plots import new_figure

            new_figure(1)  # report a missing matplotlib before the work
    session, parameters = open_weights(target, overrides, checkpoint, partial(backend.open, world))
    if settle:
        join(world, session, marked(world, parameters))
    if out is not None and not world.rank:
        make_folder(out)  # before the work: it may fail
    samples = samples or f"0:{min(SETTLING_SAMPLES if settle else SAMPLES, session.count(split))}"
    rounding = checking.rounding(session, parameters, samples, split)
    if rounding and rounding.warning and not world.rank:
        Progress().message(rounding.warning)
    chosen = (session, parameters, samples, split, steps)
    with Stages(Report() if world.rank else None) as stages:
        if settle:
            content = checking.measure_settling(*chosen, stages, world)
        else:
            least_beta = rounding.smallest_beta if rounding else 0.0
            content = checking.measure(*chosen, stages, least_beta)
    if world.rank:
        return
    of = checking.shown_name(target, checkpoint)
    content["settings"]["of"] = of
    table = tables.settling_table if settle else tables.table
    say_lines(table(content, checking.training_command(target, overrides, backend.words())))
    show_changed(session.changed)
    if out is not None:
        files.save(out / f"{name}.h5", content, kind=name)
        written = [f"{name}.h5", *(_plots(content, out, plots, tables.title(content)) if plots != "none" else [])]
        say(f"written  {', '.join(str(out / each) for each in written)}")


def _plots(content: dict[str, Any], out: Path, ending: str, title: str) -> list[str]:
    from eqnp.analysis.plots import plot_bias, plot_circles, plot_cumulative, plot_ratio, plot_settling
    from eqnp.runs.figures import save_figure

    figures = {}
    if "configured" in content:
        figures["settling"] = plot_settling(content, title)
    if "steps" in content:
        figures["cumulative"] = plot_cumulative(content["steps"], title)
        figures["ratio"] = plot_ratio(content["steps"], title)
    if content.get("bias", {}).get("samples"):
        figures["bias"] = plot_bias(content["bias"], title)
    if content.get("circle", {}).get("samples"):
        figures["circle"] = plot_circles(content["circle"], title)
    for name, figure in figures.items():
        save_figure(figure, out / f"{name}.{ending}")
    return [f"{name}.{ending}" for name in figures]
