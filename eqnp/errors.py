"""The errors that eqnp reports to its users, each with its exit code.

Every message is one line that says what is wrong, where, and what to do. The command line prints the message without a
traceback and ends with ``exit_code``. Library users catch the classes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from eqnp.shown import shown

_NEEDED = ("numpy", "scipy", "h5py", "click", "threadpoolctl", "tomli_w")  # the dependencies in pyproject.toml
# In the messages of CUDA and cuBLAS; the last one where not even a handle fits.
_NO_MEMORY = ("out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED")


class EqnpError(Exception):
    """The base class: an error with a message of one line.

    Line breaks in the message are replaced by spaces. Text from files and servers in it is safe on a terminal, and the
    middle of a message longer than a screen is left out (``eqnp.shown``).
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(shown(" ".join(message.splitlines())))

    def again(self, message: str) -> EqnpError:
        """Return an error of the same kind with another message."""
        return type(self)(message)


class ConfigurationError(EqnpError):
    """An invalid option, key, value or architecture."""

    exit_code = 2


class DataError(EqnpError):
    """A dataset that is missing, truncated or in a wrong format."""

    exit_code = 3


class BackendError(EqnpError):
    """A backend or an optional package that is not available."""

    exit_code = 4


class CheckpointError(EqnpError):
    """A checkpoint that is missing, damaged or from a different network."""

    exit_code = 5


class DivergedError(EqnpError):
    """States, weights or a loss that are NaN, infinite or far too large.

    ``key`` is the configuration key whose change most likely helps.
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


class RankError(EqnpError):
    """Another process of the same run failed. ``exit_code`` is that of its error."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def again(self, message: str) -> RankError:
        """Return the error with another message."""
        return RankError(message, self.exit_code)


def exit_code_of(error: BaseException) -> int:
    """Return the exit code of a process that ends by ``error``; 1: a bug."""
    if isinstance(error, MemoryError):
        return OutOfMemoryError.exit_code
    if isinstance(error, KeyboardInterrupt):
        return int(getattr(error, "exit_code", 130))
    if isinstance(error, OSError):
        return DiskError.exit_code
    return int(getattr(error, "exit_code", 1))


def missing_package(error: ModuleNotFoundError) -> BackendError | None:
    """Return the error for a failed import if the package is a dependency of eqnp, else None."""
    name = (error.name or "").partition(".")[0]
    if name not in _NEEDED:
        return None
    return BackendError(
        f"the package {name.replace('_', '-')}, which eqnp needs, is not installed for {sys.executable}; "
        "install eqnp with its packages: `pip install .` in the clone"
    )


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn the errors of CUDA and cuBLAS that mean out of memory into a MemoryError.

    The error of CuPy's memory pool is a MemoryError already.

    Raises:
        MemoryError: CUDA or cuBLAS is out of memory.
    """
    try:
        yield
    except Exception as error:  # CuPy's classes are only known after an import
        if type(error).__module__.startswith("cupy") and any(sign in str(error) for sign in _NO_MEMORY):
            raise MemoryError(str(error)) from error
        raise


@contextmanager
def memory_advice(advice: str) -> Iterator[None]:
    """Turn every out-of-memory error inside into an OutOfMemoryError that ends with ``advice``, what to do.

    Raises:
        OutOfMemoryError: the host or the device is out of memory.
    """
    try:
        with memory_errors():
            yield
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        raise OutOfMemoryError(f"out of memory{reason}; {advice}") from None
