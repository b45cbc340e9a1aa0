"""Run the command line as ``python -m eqnp.cli``."""

import sys

from eqnp.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
