"""Equilibrium Propagation by hand, on NumPy and CuPy.

Nothing large is imported here, so that ``import eqnp`` and ``eqnp --help`` are quick. Start reading at
``eqnp/networks.py``; the README gives the order of the rest.
"""

import sys

__version__ = "0.1.0"

if sys.version_info < (3, 11):  # noqa: UP036  in a clone any Python may come here; pip refuses it only when it installs
    _needs = "Python 3.11 or later; this is Python " + sys.version.split()[0] + " (" + sys.executable + ")"
    if sys.argv[:1] == ["-m"]:  # python -m eqnp: a line, not a traceback
        sys.stderr.write("eqnp: needs " + _needs + "\n")
        sys.exit(4)
    raise ImportError("eqnp needs " + _needs)

from eqnp.clone import find_rooms as _find_rooms

_find_rooms(__file__)
