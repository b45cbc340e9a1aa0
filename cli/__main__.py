"""Run the command line as ``python -m eqnp.cli``."""

import sys

from eqnp.cli.main import main

sys.exit(main())
