"""The command line ``eqnp``. Each command imports the library only when it runs, so ``eqnp --help`` is quick.

Order of reading: ``main`` and ``options``; one module per command (``train``, ``evaluate``, ``check``, ``states``,
``bench``, ``data``, ``presets``, ``doctor``; after a run ``predict``, ``plot``, ``show``, ``report``,
``exchange``); ``session`` and ``training`` (what they share, and the training run); ``progress``, ``rows``,
``stages`` (the terminal); ``tables`` and ``verdicts`` (the text of ``check``); ``mistakes``.
"""

from eqnp.cli.main import main

__all__ = ["main"]
