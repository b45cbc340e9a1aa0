"""The errors that a user can cause or meet, each with its exit code.

Every message is one line that says what is wrong, where, and what to do. The command line prints the message without a
traceback and ends with ``exit_code``; library users catch the classes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_NEEDED = ("numpy", "scipy", "h5py", "click", "threadpoolctl", "tomli_w")  # pyproject.toml's dependencies
_NO_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED")  # as CUDA and cuBLAS say it


class EqnpError(Exception):
    """Anything that eqnp reports to its user in one line, whatever line ends are in the names that it repeats."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


class ConfigurationError(EqnpError):
    """A wrong option, key, value or architecture."""

    exit_code = 2


class DataError(EqnpError):
    """A dataset that is missing, truncated or of another format."""

    exit_code = 3


class BackendError(EqnpError):
    """A backend or an optional package that is not there."""

    exit_code = 4


class CheckpointError(EqnpError):
    """A checkpoint that is missing, damaged or of another network."""

    exit_code = 5


class DivergedError(EqnpError):
    """States, weights or a loss that are no longer finite, or too large to mean anything.

    ``key`` is the configuration's key that most likely cures it.
    """

    exit_code = 6

    def __init__(self, message: str, key: str = "optimizer.rates") -> None:
        super().__init__(message)
        self.key = key


class OutOfMemoryError(EqnpError):
    """Not enough memory on the host or the device."""

    exit_code = 7


class DiskError(EqnpError):
    """A file that could not be written."""

    exit_code = 8


class RunBusyError(EqnpError):
    """A run folder that another process is using."""

    exit_code = 9


def missing_package(error: ModuleNotFoundError) -> BackendError | None:
    """Return what to say of an import that failed, if it was of a package that pip installs with eqnp."""
    name = (error.name or "").partition(".")[0]
    if name not in _NEEDED:
        return None
    return BackendError(
        f"the package {name.replace('_', '-')}, which eqnp needs, is not installed for {sys.executable}; "
        "install eqnp with its packages: `pip install .` in the clone"
    )


@contextmanager
def memory_errors() -> Iterator[None]:
    """Make a MemoryError of what CuPy raises where a kernel or cuBLAS finds no memory; its pool's is one already."""
    try:
        yield
    except Exception as error:  # CuPy's own cannot be named without importing it
        if type(error).__module__.startswith("cupy") and any(sign in str(error) for sign in _NO_MEMORY):
            raise MemoryError(str(error)) from error
        raise


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Make an OutOfMemoryError with ``advice``, what to do, of any lack of memory inside."""
    try:
        with memory_errors():
            yield
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        raise OutOfMemoryError(f"out of memory{reason}; {advice}") from None
