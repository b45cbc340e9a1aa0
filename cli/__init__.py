"""The command line: ``eqnp train``, ``evaluate``, ``states``, ``data``, ``doctor``.

Commands are a few lines each and import the library only when they run, so that ``eqnp --help`` is quick.
"""

from eqnp.cli.main import main

__all__ = ["main"]
