"""NVIDIA's run-time compiler through ctypes: it needs no GPU, only the wheel nvidia-cuda-nvrtc."""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.metadata import PackageNotFoundError, files


@cache
def _library():
    for package in ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"):
        try:
            found = files(package) or ()
        except PackageNotFoundError:
            continue
        # Their names end in a version, libnvrtc.so.13. It opens the other by name, which not every release finds
        # beside itself: what is loaded already is found.
        for names in (("libnvrtc-builtins.so", "nvrtc-builtins64"), ("libnvrtc.so", "nvrtc64")):
            paths = [f.locate() for f in found if f.name.startswith(names) and "alt" not in f.name]
            library = ctypes.CDLL(str(paths[0])) if paths else None
        if library:
            return library
    return None


def available():
    """Return whether the compiler is installed."""
    return _library() is not None


def compile_cuda(text, architecture, *options):
    """Return the PTX of a source for an architecture such as "compute_90", and what the compiler said.

    For a real one, such as "sm_90", it is assembled as well; the option "--ptxas-options=-v" tells how.
    """
    nvrtc, program = _library(), ctypes.c_void_p()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None))
    always = ("-std=c++17", "-ftz=true", "--device-as-default-execution-space")  # ours, and what CuPy adds
    options = (*always, f"-arch={architecture}", *options)
    texts = (ctypes.c_char_p * len(options))(*map(str.encode, options))
    code = nvrtc.nvrtcCompileProgram(program, len(options), texts)
    log = _read(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
    assert code == 0, log
    ptx = _read(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
    _check(nvrtc.nvrtcDestroyProgram(ctypes.byref(program)))
    return ptx, log.strip()


def _read(size_of, read, program):
    size = ctypes.c_size_t()
    _check(size_of(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check(read(program, buffer))
    return buffer.value.decode()


def _check(code):
    assert code == 0, f"NVRTC answers {code}"
