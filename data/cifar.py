"""CIFAR-10 and CIFAR-100 in their two published forms.

Binary: records of the label bytes and 3072 pixel bytes, channel-major. CIFAR-100 has two labels, coarse (20 classes)
and fine (100 classes); the fine ones are read. Python: a pickle written by Python 2. It is read
without unpickling: ``pickletools.genops`` lists its opcodes and executes nothing, and only the published structure is
accepted.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from eqnp.data.idx import LARGEST, Readable, read_file
from eqnp.errors import DataError
from eqnp.shown import shown

PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Kind:
    """What differs between the two datasets: the classes, and the lists of labels by their names in the dictionary.

    A record begins with one byte for each list; the last list is the one that is read.
    """

    title: str
    classes: int
    labels: tuple[bytes, ...]

    @property
    def record(self) -> int:
        """The bytes of an image with its labels."""
        return PIXELS + len(self.labels)


CIFAR10 = Kind("CIFAR-10", 10, (b"labels",))
CIFAR100 = Kind("CIFAR-100", 100, (b"coarse_labels", b"fine_labels"))


def read_cifar_binary(path: Readable, kind: Kind = CIFAR10, most: int = LARGEST) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 32, 32, 3) uint8 and labels (n,) uint8 of a ``.bin`` file.

    Raises:
        DataError: missing, larger than ``most`` bytes, not whole records, or a label that is no class.
    """
    data = read_file(path, most)
    if not data or len(data) % kind.record:
        raise DataError(
            f"{path}: truncated or not a {kind.title} batch: {len(data)} bytes, not a multiple of {kind.record}"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, kind.record)
    labels = records[:, len(kind.labels) - 1]
    if labels.max() >= kind.classes:
        raise DataError(f"{path}: not a {kind.title} batch: it has the label {labels.max()}")
    return _images(records[:, len(kind.labels) :]), labels.copy()


def read_cifar_python(path: Readable, kind: Kind = CIFAR10, most: int = LARGEST) -> tuple[np.ndarray, np.ndarray]:
    """Return images (n, 32, 32, 3) uint8 and labels (n,) uint8 of a file of the python version.

    Raises:
        DataError: missing, larger than ``most`` bytes, or not the published dictionary of batch_label, labels, data and
            filenames.
    """
    data = read_file(path, most)
    try:
        batch = _Dictionary(data).read()
        labels, pixels, names = batch[kind.labels[-1]], batch[b"data"], batch[b"filenames"]
        if set(batch) != {b"batch_label", *kind.labels, b"data", b"filenames"} or not isinstance(pixels, _Array):
            raise _NotPublishedError("its keys differ")
        if not isinstance(labels, list) or not all(type(n) is int and 0 <= n < kind.classes for n in labels):
            raise _NotPublishedError(f"its labels are not numbers from 0 to {kind.classes - 1}")
        if not isinstance(names, list) or not all(isinstance(name, bytes) for name in names):
            raise _NotPublishedError("its filenames are not strings")
        if len(names) != len(labels) or pixels.shape != (len(labels), PIXELS):
            raise _NotPublishedError("labels, filenames and data differ in length")
    except _NotPublishedError as error:
        raise DataError(f"{path}: not a {kind.title} batch in the published form ({error})") from None
    except MemoryError:
        raise
    except Exception as error:  # pickletools raises anything on bytes that are not a pickle
        reason = shown(str(error), 80)
        raise DataError(f"{path}: truncated or not a {kind.title} batch ({type(error).__name__}: {reason})") from None
    images = np.frombuffer(pixels.data, np.uint8).reshape(pixels.shape)
    return _images(images), np.array(labels, np.uint8)


def _images(pixels: np.ndarray) -> np.ndarray:
    """Return images: channel-major pixels (n, 3072) -> (n, 32, 32, 3)."""
    return np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


class _NotPublishedError(Exception):
    """The pickle is well formed, but not the published one."""


class _Array:
    """Replaces ``numpy.ndarray`` in the pickle: its shape and bytes, set by BUILD."""

    shape: tuple[int, ...] = ()
    data: bytes = b""


class _DType:
    """Replaces ``numpy.dtype('u1')`` in the pickle."""


_RECONSTRUCT, _NDARRAY, _DTYPE = "numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"
_CONSTANTS = {"SHORT_BINSTRING", "BINSTRING", "BININT", "BININT1", "BININT2", "INT", "LONG1"}
_VALUES = {"NONE": None, "EMPTY_TUPLE": (), "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MOST_OPCODES = 1_000_000  # the longest published batch has a few for each of 50,000 images


class _Dictionary:
    """A stack machine for the opcodes of one published batch. It calls nothing; it knows three names as constants.

    It takes time and memory in proportion to the opcodes: what is on the stack is never printed or hashed, except keys
    that are strings, and never compared with another thing on the stack. A few opcodes can make a tuple that holds
    itself twice, forty times over, for which either would never end.
    """

    def __init__(self, data: bytes) -> None:
        self.opcodes: Iterator[tuple[Any, Any, int | None]] = pickletools.genops(data)
        self.size = len(data)
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack at each MARK
        self.memo: dict[int, Any] = {}

    def read(self) -> dict[bytes, Any]:
        """Run until STOP and return the dictionary."""
        for count, (opcode, argument, place) in enumerate(self.opcodes):
            if count > _MOST_OPCODES:
                raise _NotPublishedError("it has too many opcodes")
            if opcode.name == "STOP":
                if place != self.size - 1:
                    raise _NotPublishedError("bytes follow its end")
                break
            self._step(opcode.name, argument)
        if len(self.stack) != 1 or not isinstance(self.stack[0], dict):
            raise _NotPublishedError("it is not a dictionary")
        return self.stack[0]

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(argument.encode("latin-1") if isinstance(argument, str) else argument)
        elif name in _VALUES:
            stack.append(_VALUES[name])
        elif name in _TUPLES:
            self._tuple(self._pop(_TUPLES[name]))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self._top(object)
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "PROTO" and argument == 2:
            pass
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        else:
            self._combine(name, argument)

    def _combine(self, name: str, argument: Any) -> None:
        """Execute the opcodes that combine items on the stack."""
        stack = self.stack
        if name == "TUPLE":
            self._tuple(self._pop_mark())
        elif name == "APPENDS":
            items = self._pop_mark()
            self._top(list).extend(items)
        elif name == "APPEND":
            (item,) = self._pop(1)
            self._top(list).append(item)
        elif name in ("SETITEMS", "SETITEM"):
            items = self._pop_mark() if name == "SETITEMS" else self._pop(2)
            if not all(isinstance(key, bytes) for key in items[::2]):
                raise _NotPublishedError("its keys are not strings")
            self._top(dict).update(zip(items[::2], items[1::2], strict=True))
        elif name == "GLOBAL" and argument in (_RECONSTRUCT, _NDARRAY, _DTYPE):
            stack.append(argument)
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            stack.append(_reduce(function, arguments))
        elif name == "BUILD":
            (state,) = self._pop(1)
            _build(self._top(object), state)
        else:
            what = repr(argument[:60]) if isinstance(argument, str | bytes) else ""
            raise _NotPublishedError(f"opcode {name} {what}".rstrip())

    def _tuple(self, items: list[Any]) -> None:
        self.stack.append(tuple(items))

    def _top(self, kind: type) -> Any:
        top = self._pop(1)[0]
        if not isinstance(top, kind):
            raise _NotPublishedError("its opcodes do not fit together")
        self.stack.append(top)
        return top

    def _pop(self, count: int) -> list[Any]:
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            raise _NotPublishedError("its opcodes do not fit together")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def _pop_mark(self) -> list[Any]:
        if not self.marks:
            raise _NotPublishedError("its opcodes do not fit together")
        place = self.marks.pop()
        items = self.stack[place:]
        del self.stack[place:]
        return items


def _reduce(function: Any, arguments: Any) -> _Array | _DType:
    """Return the result of the only two calls in the published files."""
    if function == _RECONSTRUCT and arguments == (_NDARRAY, (0,), b"b"):
        return _Array()
    if function == _DTYPE and arguments == (b"u1", 0, 1):
        return _DType()
    what = function if isinstance(function, str) else f"a {type(function).__name__}"
    raise _NotPublishedError(f"it calls {what}")


def _build(target: Any, state: Any) -> None:
    """Set the shape and bytes of an array; the state of a dtype does not matter for bytes."""
    if isinstance(target, _DType) and state == (3, b"|", None, None, None, -1, -1, 0):
        return
    if not isinstance(target, _Array) or not isinstance(state, tuple) or len(state) != 5:
        raise _NotPublishedError("it builds something other than an array")
    version, shape, dtype, fortran, data = state
    if version != 1 or not isinstance(dtype, _DType) or fortran not in (0, False) or not isinstance(data, bytes):
        raise _NotPublishedError("its array does not hold bytes in C order")
    if len(shape) != 2 or not all(type(n) is int and n >= 0 for n in shape) or shape[0] * shape[1] != len(data):
        raise _NotPublishedError("its array does not have the size of its shape")
    target.shape, target.data = shape, data
