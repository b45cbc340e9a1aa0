"""What a run ran on: versions, BLAS, cores."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("numpy", "scipy", "h5py", "click", "threadpoolctl", "matplotlib")


def describe_environment() -> dict[str, str]:
    """Return versions, platform, cores and BLAS, each as a short string."""
    from eqnp import __version__

    found = {"eqnp": __version__, "python": platform.python_version(), "platform": platform.platform()}
    found["cores"] = str(available_cores())
    found |= {name: package_version(name) for name in PACKAGES}
    found["blas"] = describe_blas()
    return found


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def package_version(name: str) -> str:
    """Return an installed package's version, or ``not installed``."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def describe_blas() -> str:
    """Return the BLAS that NumPy multiplies with and its number of threads."""
    import numpy  # noqa: F401  (loads its BLAS)
    from threadpoolctl import threadpool_info

    libraries = [each for each in threadpool_info() if each["user_api"] == "blas"]
    return (
        "; ".join(
            f"{each['internal_api']} {each['version']} ({each.get('architecture', '?')}), {each['num_threads']} threads"
            for each in libraries
        )
        or "none that threadpoolctl knows"
    )
