"""Run the command line as ``python -m eqnp``."""

import sys

if __name__ == "__main__":
    try:
        from eqnp.cli.main import main
    except ModuleNotFoundError as error:  # click; main itself answers for the others
        from eqnp.errors import missing_package

        missing = missing_package(error)
        if missing is None:
            raise
        sys.stderr.write(f"eqnp: {missing}\n")
        sys.exit(missing.exit_code)
    sys.exit(main())
