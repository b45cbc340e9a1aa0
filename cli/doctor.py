"""``eqnp doctor``: what this machine offers."""

from __future__ import annotations

import click


@click.command()
def doctor() -> None:
    """Show what is installed, which backends answer, which BLAS with how many threads, and which data was found."""
    from eqnp.backend import get_backend
    from eqnp.data import describe
    from eqnp.environment import describe_environment
    from eqnp.errors import BackendError

    click.echo("installed")
    for key, value in describe_environment("numpy").items():
        click.echo(f"  {key:<12} {value}")
    click.echo("backends")
    for name in ("numpy", "cupy"):
        try:
            get_backend(name)
            click.echo(f"  {name:<12} ready")
        except BackendError as error:
            click.echo(f"  {name:<12} not there: {error}")
    click.echo("data")
    for line in describe():
        click.echo(f"  {line}")
