"""``eqnp doctor``: what this machine offers."""

from __future__ import annotations

import click

from eqnp.cli.mistakes import Command


@click.command(cls=Command)
def doctor() -> None:
    """Show what is installed, which backends answer, which BLAS with how many threads, and which data was found."""
    from eqnp.backend import get_backend
    from eqnp.cli.rows import show_row
    from eqnp.data import describe
    from eqnp.environment import describe_environment
    from eqnp.errors import BackendError

    click.echo("installed")
    for key, value in describe_environment("numpy").items():
        show_row(key, str(value), 11, "  ")
    click.echo("backends")
    for name in ("numpy", "cupy"):
        try:
            get_backend(name)
            found = "ready"
        except BackendError as error:
            found = f"not there: {error}"
        show_row(name, found, 11, "  ")
    click.echo("data")
    for name, where in describe().items():
        show_row(name, where, 13, "  ")
