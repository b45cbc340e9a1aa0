"""The environment of a run: versions, BLAS, machine, command."""

from __future__ import annotations

import platform
import shlex
import sys
from importlib.metadata import PackageNotFoundError, version

from eqnp import __version__
from eqnp.backends.limits import available_cores
from eqnp.backends.system import system_text


def describe_environment(backend_name: str) -> dict[str, str | int]:
    """Return versions, BLAS and its threads, machine, backend and command line by short names."""
    packages = {name: _version(name) for name in ("numpy", "scipy", "h5py", "mkl")}
    result: dict[str, str | int] = {
        "eqnp": __version__,
        "python": platform.python_version(),
        **packages,
        "blas": _blas(),
        "platform": platform.platform(),
        "cpu": processor(),
        "cores": available_cores(),
        "backend": backend_name,
        "command": shlex.join(sys.argv),
    }
    return result | (_gpu() if backend_name == "cupy" else {})


def processor() -> str:
    """Return the name of the CPU, such as "AMD EPYC 9R14"."""
    for line in system_text("proc/cpuinfo").splitlines():  # Linux, where Python does not know it
        if line.startswith("model name") and ":" in line:
            return line.split(":", 1)[1].strip()
    return platform.processor() or "not known"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _blas() -> str:
    """Return the BLAS libraries in use, such as "openblas 0.3.29 (2 threads, Haswell)"."""
    import numpy  # noqa: F401  loads the BLAS of NumPy
    from threadpoolctl import threadpool_info

    found = [
        f"{library['internal_api']} {library['version'] or '?'} "
        f"({library['num_threads']} threads, {library.get('architecture', '?')})"
        for library in threadpool_info()
        if library["user_api"] == "blas"
    ]
    return "; ".join(dict.fromkeys(found)) or "not known"


def _gpu() -> dict[str, str | int]:
    from eqnp.backends.backend import import_cupy  # imports NumPy

    cupy = import_cupy()  # not get_backend, which would choose a device again
    runtime = cupy.cuda.runtime
    return {
        "cupy": cupy.__version__,
        "cuda": runtime.runtimeGetVersion(),  # the one that CuPy was built with
        "driver": runtime.driverGetVersion(),
        "gpu": runtime.getDeviceProperties(cupy.cuda.Device().id)["name"].decode(),
    }
