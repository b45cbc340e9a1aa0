"""What enters the library is checked here, once, at its public entries, with a message that names shapes.

Nothing here is called inside a step, and nothing reads a number back from a GPU: values are looked at only in arrays
on the host, shapes and dtypes everywhere. All functions return None or raise ValueError.
"""

from __future__ import annotations

import cmath
import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eqnp.backends.backend import Array, array_module

Shape = tuple[int, ...]
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
SCHEDULES = ("synchronous", "even-odd", "up-down")


def whole(value: Any) -> int | None:
    """Return a whole number as an int, and None for anything else (2.0 is a float)."""
    try:
        return operator.index(value)
    except TypeError:
        return None


def require_count(name: str, value: Any, least: int, most: float = math.inf, why: str = "") -> None:
    """Check that ``value`` is a whole number from ``least`` to ``most``."""
    number = whole(value)
    if number is None or not least <= number <= most:
        upper = "" if most == math.inf else f" and at most {most}"
        raise ValueError(f"{name} = {value!r}: must be a whole number, at least {least}{upper}{why}")


def require_nudging(beta: float) -> None:
    """Check that an estimator can divide by ``beta``: it is finite, not 0, and 1 / beta is finite."""
    if not math.isfinite(beta) or beta == 0 or not math.isfinite(1 / beta):
        raise ValueError(f"beta = {beta!r}: must be a finite number, not 0 and not so small that 1 / beta overflows")


def require_pace(steps: int, tolerance: float, schedule: str, every: int, omega: float) -> None:
    """Check the settings of a phase (``eqnp.dynamics.Phase``)."""
    require_count("steps", steps, 0)
    require_count("every", every, 1)
    if not tolerance >= 0:
        raise ValueError(f"tolerance = {tolerance!r}: must be at least 0")
    if not 0 < omega < 2:
        raise ValueError(f"omega = {omega!r}: must be above 0 and below 2, or states would not settle")
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule = {schedule!r}: choose one of {', '.join(SCHEDULES)}")


def require_labels(labels: Array, classes: int, name: str = "labels") -> None:
    """Check labels (N,): whole numbers, and on the host that they are 0 .. classes - 1."""
    require_array(name, labels)
    if labels.ndim != 1:
        raise ValueError(f"{name} of shape {labels.shape}: must be (N,), one number per sample")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name} of dtype {labels.dtype}: must be integers; {name}.astype(int) makes them")
    require_count("classes", classes, 1)
    if not isinstance(labels, np.ndarray) or not len(labels):
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        from_one = " (labels that start from 1: subtract 1)" if (low, high) == (1, classes) else ""
        raise ValueError(f"{name} from {low} to {high}: must be 0 to {classes - 1} for {classes} classes{from_one}")


def require_one_hot(name: str, y: np.ndarray, classes: int | None) -> None:
    """Check y (N, K) on the host: a 1 in every row and else 0; K is ``classes``, if that is known."""
    if classes is not None and y.shape[1] != classes:
        raise ValueError(f"{name} has shape {y.shape}: must be (N,) labels or (N, {classes}) one-hot")
    ones = ((y == 0) | (y == 1)).all() and (y.sum(axis=1) == 1).all() if y.dtype.kind in "biuf" else False
    if y.shape[1] < 2 or not ones:
        raise ValueError(
            f"{name} has shape {y.shape} and is not one-hot: give integers (N,), or a single 1 in each row"
        )


def require_sample_shape(name: str, x: np.ndarray, shape: Shape | None) -> None:
    """Check that x is (N, *shape) with a sample at least; ``shape`` None: (N, D) or (N, H, W, C), channels last."""
    if shape is not None:
        if tuple(x.shape[1:]) != tuple(shape) or x.ndim != len(shape) + 1:
            hint = _shape_hint(tuple(x.shape), tuple(shape), name)
            raise ValueError(f"{name} has shape {x.shape}: must be (N, {_listed(shape)}), samples first{hint}")
    elif x.ndim not in (2, 4):
        raise ValueError(f"{name} has shape {x.shape}: must be (N, D), (N, H, W) or (N, H, W, C), samples first")
    elif x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[2] == x.shape[3] > 4:
        raise ValueError(f"{name} has shape {x.shape}: channels come last; {name}.transpose(0, 2, 3, 1)")
    if not x.size:
        raise ValueError(f"{name} has shape {x.shape}: there must be at least one sample")


def require_values(name: str, x: np.ndarray) -> None:
    """Check that inputs on the host are uint8 pixels, or finite floats that are no unscaled pixels."""
    if x.dtype == np.uint8:
        return
    if x.dtype.kind != "f":
        raise ValueError(f"{name} is {x.dtype}: must be uint8 pixels or floats; {name}.astype(...) makes them")
    _require_finite(name, x)
    low, high = x.min(), x.max()
    if low >= 0 and 1 < high <= 255 and (x == np.rint(x)).all():
        raise ValueError(
            f"{name} is {x.dtype} with whole numbers from {low:g} to {high:g}: if these are pixels, "
            f"{name}.astype(np.uint8); if not, scale them, {name} / {high:g}"
        )


def require_parameters(parameters: Mapping[str, Array], shapes: Mapping[str, Shape]) -> None:
    """Check that ``parameters`` are those of an architecture: names, shapes, one floating dtype, one array module."""
    if missing := [name for name in shapes if name not in parameters]:
        raise ValueError(f"parameters: {missing[0]} {shapes[missing[0]]} is missing; they have {_some(parameters)}")
    if unknown := [name for name in parameters if name not in shapes]:
        raise ValueError(f"parameters: this architecture has no {unknown[0]}; it has {_some(shapes)}")
    first = next(iter(shapes))
    for name, shape in shapes.items():
        p = parameters[name]
        require_array(f"parameters: {name}", p)
        if p.shape != shape:
            raise ValueError(f"parameters: {name} has shape {p.shape}: must be {shape}")
        if p.dtype not in FLOATS:
            raise ValueError(f"parameters: {name} is {p.dtype}: must be float32 or float64")
        require_same_place(f"parameters: {name}", p, parameters[first], f"parameters: {first}")


def require_input(x: Array, input_shape: Shape, like: Array) -> None:
    """Check x (N, *input_shape): shape, the dtype and the module of the parameters ``like``, finite on the host."""
    require_array("x", x)
    require_sample_shape("x", x, input_shape)
    if x.dtype not in FLOATS:
        raise ValueError(f"x is {x.dtype}: must be {like.dtype} like the parameters, for pixels x.astype(...) / 255")
    require_same_place("x", x, like, "the parameters")
    _require_finite("x", x)


def require_target(target: Array, samples: int, classes: int, like: Array) -> None:
    """Check the target (N, K) of ``samples`` samples: one row for each, one number for each of ``classes``."""
    require_array("target", target)
    if target.shape != (samples, classes):
        labels = "; one_hot(labels, classes, dtype) makes one of labels" if target.shape == (samples,) else ""
        raise ValueError(
            f"target has shape {target.shape}: must be ({samples}, {classes}) for {samples} samples{labels}"
        )
    require_same_place("target", target, like, "x")
    _require_finite("target", target)


def require_states(states: Sequence[Array], shapes: Sequence[Shape], like: Array) -> None:
    """Check states s^1 .. s^L: one array (N, ...) for each of ``shapes``, N that of x ``like``."""
    _require_layers("states", states, shapes)
    for n, (s, shape) in enumerate(zip(states, shapes, strict=True), start=1):
        _require_layer(f"state s^{n}", s, (len(like), *shape), like)


def require_masks(masks: Sequence[Array | None] | None, shapes: Sequence[Shape], like: Array) -> None:
    """Check the masks of dropout: None, or for every state s^1 .. s^L None or an array (N, ...)."""
    if masks is None:
        return
    _require_layers("masks", masks, shapes)
    for n, (mask, shape) in enumerate(zip(masks, shapes, strict=True), start=1):
        if mask is not None:
            _require_layer(f"mask of s^{n}", mask, (len(like), *shape), like)


def require_beta(beta: complex | Array, target: Array | None, samples: int) -> None:
    """Check the nudging of a phase: a finite number, or one per sample (N, 1); it needs a target."""
    if shape := getattr(beta, "shape", ()):
        if shape != (samples, 1):
            raise ValueError(f"beta has shape {shape}: must be a number or ({samples}, 1), one per sample")
    elif not cmath.isfinite(beta):
        raise ValueError(f"beta = {beta!r}: must be finite")
    if target is None and (shape or beta != 0):
        raise ValueError("a nudged phase (beta not 0) needs a target")


def require_same_place(name: str, array: Array, like: Array, other: str) -> None:
    """Check that two arrays belong to one module and have one dtype."""
    own, its = array_module(array).__name__, array_module(like).__name__
    if own != its:
        raise ValueError(f"{name} is an array of {own}, {other} of {its}: backend.asarray copies an array")
    if array.dtype != like.dtype:
        raise ValueError(f"{name} is {array.dtype}, {other} {like.dtype}: .astype({like.dtype}) makes them the same")


def _require_layers(name: str, arrays: Sequence[Array | None], shapes: Sequence[Shape]) -> None:
    if len(arrays) != len(shapes):
        raise ValueError(f"{name}: {len(arrays)} arrays for {len(shapes)} layers of neurons, of shapes {list(shapes)}")


def _require_layer(name: str, array: Array, shape: Shape, like: Array) -> None:
    require_array(name, array)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}: must be {shape}")
    require_same_place(name, array, like, "x")


def require_array(name: str, array: Any) -> None:
    """Check that ``array`` is one, of any module."""
    if not hasattr(array, "shape") or not hasattr(array, "dtype"):
        raise ValueError(f"{name}: must be an array, not a {type(array).__name__}")


def _require_finite(name: str, array: Array) -> None:
    if isinstance(array, np.ndarray) and not np.isfinite(array).all():
        sample = int(np.argmin(np.isfinite(array).reshape(len(array), -1).all(axis=1)))
        raise ValueError(f"{name} has NaN or an infinite number, first in sample {sample}")


def _shape_hint(shape: Shape, wanted: Shape, x: str) -> str:
    """Return what to do where the shape is a common mistake."""
    if shape == wanted:
        return f"; {x}[None] adds the sample axis"
    if shape[1:] == wanted[:-1] and wanted[-1] == 1:
        return f"; {x}[..., None] adds the channel axis"
    if len(shape) == 4 and len(wanted) == 3 and (*shape[2:], shape[1]) == wanted:
        return f"; channels come last: {x}.transpose(0, 2, 3, 1)"
    if len(shape) == 4 and len(wanted) == 1:
        return "; flatten images in (H, W, C) order, or give the architecture their shape"
    if len(shape) == 2 and math.prod(wanted) == shape[1]:
        return f"; if rows are images in (H, W, C) order: {x}.reshape(-1, {_listed(wanted)})"
    return ""


def _listed(shape: Shape) -> str:
    return ", ".join(map(str, shape))


def _some(names: Mapping[str, Any]) -> str:
    """Return the first few names."""
    few = list(names)[:4]
    return ", ".join(map(str, few)) + (", ..." if len(names) > len(few) else "") if few else "none"
