"""eqnp's CUDA sources on a CPU: compiled as C++, called through ctypes for one thread of the grid after the other.

``ShimDevice`` takes the place of ``eqnp.device.CudaDevice``. Its arrays are NumPy's or the stand-in's.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import standin

from eqnp.device import launch_arguments, source_text

COMPILER = shutil.which("g++") or shutil.which("clang++") or shutil.which("c++")

# What CUDA has and C++ has not.
PROLOGUE = """
#include <cmath>
#include <cstddef>
using namespace std;
#define __global__
#define __device__
#define __forceinline__ inline
static struct { unsigned x; } blockIdx{0}, threadIdx{0}, blockDim{1}, gridDim{1};
extern "C" void be_thread(unsigned thread, unsigned threads, unsigned block, unsigned blocks)
{ threadIdx.x = thread, blockDim.x = threads, blockIdx.x = block, gridDim.x = blocks; }
"""


class ShimDevice:
    """Runs kernels one thread after the other, in this order or backwards, and counts what it was asked for."""

    exact = True

    def __init__(self, blocks=1, threads=1, backwards=False):
        self.launches = []
        self._blocks, self._threads = blocks, threads
        self._grid = [(thread, threads, block, blocks) for block in range(blocks) for thread in range(threads)]
        if backwards:
            self._grid.reverse()

    def with_tf32(self):
        other = ShimDevice()
        other.exact = False
        return other

    def threads(self, count):
        return self._blocks * self._threads

    def kernel(self, source, name, macros):
        library = _library(source_text(source, macros))
        function = getattr(library, name)

        def launch(count, *arguments):
            self.launches.append(name)
            if count:
                taken = [_c_argument(a) for a in launch_arguments(count, arguments)]
                for thread in self._grid:
                    library.be_thread(*thread)
                    function(*taken)

        return launch

    def multiply(self, a, b, out, transpose_a=False, transpose_b=False):
        self.launches.append("multiply")
        a, b = (_host(each) for each in (a, b))
        for each in (a, b, _host(out)):
            assert each.flags.c_contiguous
        np.matmul(a.swapaxes(-1, -2) if transpose_a else a, b.swapaxes(-1, -2) if transpose_b else b, out=_host(out))
        return out


@cache
def _library(text):
    """Compile a source as C++, once for all tests of a machine's session."""
    text = PROLOGUE + text
    folder = Path(tempfile.gettempdir()) / f"eqnp-shim-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    folder.mkdir(exist_ok=True)
    source, library = folder / "kernel.cpp", folder / "kernel.so"
    if not library.exists():
        source.write_text(text)
        made = folder / "made.so"
        command = [COMPILER, "-std=c++17", "-O1", "-Wall", "-Wno-unused", "-Wno-unknown-pragmas", "-shared", "-fPIC"]
        subprocess.run([*command, "-o", made, source], check=True)
        made.rename(library)
    return ctypes.CDLL(str(library))


def _host(array):
    return array._host if isinstance(array, standin.ndarray) else array


def _c_argument(argument):
    if isinstance(argument, np.uintp):
        return ctypes.c_void_p(int(argument))
    if isinstance(argument, np.uint32):
        return ctypes.c_uint32(int(argument))
    return ctypes.c_void_p(_host(argument).ctypes.data)
