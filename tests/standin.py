"""A strict stand-in for CuPy: its arrays live elsewhere, so NumPy functions and implicit copies are errors.

``standin.ndarray`` wraps a NumPy array; it is no subclass, refuses ``np.asarray``, refuses to meet a NumPy array in an
operation, and knows ``.get()``. ``reads`` counts the copies to the host: ``get``, ``float``, ``int``, ``bool``. The
module has the functions of CuPy that eqnp uses and no others: a new one is added here after a look at CuPy's reference.
With what ``fakecuda`` has it can take CuPy's place whole.
"""

from __future__ import annotations

import sys
import types

import numpy as np
from fakecuda import POOLS, current_device, nccl
from fakecuda import RawModule as RawModule
from fakecuda import cuda as cuda

__version__ = "14.2.0"
reads = [0]
sys.modules[f"{__name__}.cuda.nccl"] = nccl  # found by an import of its own, as in CuPy


def get_default_memory_pool():
    """Return what counts the memory of arrays, unless another pool is asked to."""
    return POOLS[0]


def _unwrap(value):
    if isinstance(value, ndarray):
        assert value.device == current_device(), "an array of another GPU"
        return value._host
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")  # what CuPy says
    if isinstance(value, (tuple, list)):
        return type(value)(_unwrap(item) for item in value)
    return value


def _wrap(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return ndarray(np.asarray(value))  # a reduction gives a 0-d array, not a scalar
    return value


def _read(array):
    reads[0] += 1
    return array._host


class ndarray:
    """A device array. Operators and methods work on device arrays and Python scalars alone."""

    __array_ufunc__ = None  # NumPy's operators hand over to ours

    def __init__(self, host):
        POOLS[-1].hold(host)
        self._host = host
        self.device = current_device()  # where CuPy allocates, and where kernels run

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def get(self):
        return _read(self).copy()

    def item(self):
        return _read(self).item()

    def __float__(self):
        return float(_read(self))

    def __int__(self):
        return int(_read(self))

    def __bool__(self):
        return bool(_read(self))

    def __len__(self):
        return len(self._host)

    def __getitem__(self, key):
        return _wrap(self._host[_unwrap(key)])

    def __setitem__(self, key, value):
        self._host[_unwrap(key)] = _unwrap(value)

    def __iter__(self):
        raise TypeError("iteration over a device array reads it one by one")

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    strides = property(lambda self: self._host.strides)
    flags = property(lambda self: self._host.flags)
    itemsize = property(lambda self: self._host.itemsize)
    T = property(lambda self: ndarray(self._host.T))
    real = property(lambda self: ndarray(self._host.real))  # a view, also of a real array
    imag = property(lambda self: ndarray(self._host.imag))  # a view, or zeros for a real array

    @property
    def data(self):
        assert self._host.flags.c_contiguous, "a pointer says nothing of strides"
        return types.SimpleNamespace(ptr=self._host.ctypes.data)


def _method(name):
    def method(self, *args, **kwargs):
        return _wrap(getattr(self._host, name)(*_unwrap(args), **{k: _unwrap(v) for k, v in kwargs.items()}))

    return method


def _in_place(name):
    def method(self, other):
        getattr(self._host, name)(_unwrap(other))
        return self

    return method


_BINARY = "add sub mul truediv pow eq ne lt le gt ge and or xor matmul radd rsub rmul rtruediv rand ror"
for _name in [f"__{n}__" for n in (*_BINARY.split(), "neg", "invert", "abs")]:
    setattr(ndarray, _name, _method(_name))
for _name in ("add", "sub", "mul", "truediv"):
    setattr(ndarray, f"__i{_name}__", _in_place(f"__i{_name}__"))
_METHODS = "swapaxes transpose reshape astype copy sum mean max min argmax fill view any all"
for _name in _METHODS.split():
    setattr(ndarray, _name, _method(_name))


def _function(original):
    def function(*args, **kwargs):
        return _wrap(original(*_unwrap(args), **{k: _unwrap(v) for k, v in kwargs.items()}))

    return function


_FUNCTIONS = (
    "abs add arange ascontiguousarray clip concatenate cos cumsum divide einsum empty empty_like equal exp greater log "
    "matmul maximum minimum multiply negative ones_like repeat sin sqrt square stack subtract tanh where zeros "
    "zeros_like"
)
for _name in _FUNCTIONS.split():
    globals()[_name] = _function(getattr(np, _name))

uint8, float32, float64 = np.uint8, np.float32, np.float64
lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(as_strided=_function(np.lib.stride_tricks.as_strided)))


def asarray(value, dtype=None):
    """Copy a host array to the device; a device array stays where it is."""
    if isinstance(value, ndarray):
        return value if dtype in (None, value.dtype) else value.astype(dtype)
    return ndarray(np.array(value, dtype=dtype))
