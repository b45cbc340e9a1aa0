"""``eqnp doctor``: packages, hardware limits, backends and datasets of this machine."""

from __future__ import annotations

import click

from eqnp.cli.mistakes import Command
from eqnp.cli.streams import say


@click.command(cls=Command, examples=["doctor"])
def doctor() -> None:
    """Show installed packages, limits of cores and memory, backends and datasets."""
    from eqnp.backends.backend import get_backend
    from eqnp.cli.rows import show_row
    from eqnp.data import describe
    from eqnp.errors import BackendError
    from eqnp.runs.environment import describe_environment

    say("installed")
    for key, value in (describe_environment("numpy") | _limits()).items():
        if key not in ("backend", "command"):  # of a run
            show_row(key, str(value), 11, "  ")
    say("backends")
    for name in ("numpy", "cupy"):
        try:
            get_backend(name)
            found = "available"
        except BackendError as error:
            found = f"not available: {str(error).removeprefix(f'backend {name}: ')}"
        show_row(name, found, 11, "  ")
    say("data")
    for name, where in describe().items():
        show_row(name, where, 13, "  ")


def _limits() -> dict[str, str]:
    """Return how many cores and how much memory a run may use, and what limits them."""
    import os

    from eqnp.backends import limits

    cores, memory = limits.cores(), limits.memory()
    machine = os.cpu_count() or 1
    shown = f"{cores.value}" if cores.value == machine else f"{cores.value} of {machine}, limited by {cores.by}"
    if memory is None:
        return {"cores": shown}
    by = "" if memory.by == "the machine" else f", limited by {memory.by}"
    return {"cores": shown, "memory": f"{memory.value / 1e9:.2g} GB available{by}"}
