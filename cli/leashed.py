"""A command that stops when the process which started it is gone: ``python -m eqnp.cli.leashed train ...``.

The other process holds the write end of stdin. However that process ends, stdin ends, and a run saves and stops as
after SIGTERM. So no run goes on unseen after its sweep was killed, or holds its folder when the sweep starts again.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

from eqnp.api.signals import stop_this_process


def _watch() -> None:
    with suppress(OSError):
        while os.read(0, 1):
            pass
    stop_this_process()


if __name__ == "__main__":
    threading.Thread(target=_watch, daemon=True).start()
    from eqnp.cli.main import main

    sys.exit(main())
