"""Files of weights for other programs: safetensors, npz and PyTorch. Bytes out, arrays by name in.

Nothing here unpickles: npz is read without pickles, and PyTorch's files with ``weights_only``. Only this module knows
PyTorch, and only to read and write its files.
"""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from eqnp.errors import BackendError, CheckpointError
from eqnp.runs.archives import open_zip
from eqnp.runs.storage import open_regular

NOTE = "__eqnp__"  # the array of an npz file that holds what safetensors keeps as metadata
TORCH = (".pt", ".pth", ".tar")
ENDINGS = (".safetensors", ".npz", *TORCH)
FACTOR = 30  # the largest accepted compression of an npz file; weights have none to speak of, initial biases some
STATE = "model_state_dict"  # where the published code's checkpoint.tar has its weights


def to_bytes(ending: str, arrays: Mapping[str, np.ndarray], note: Mapping[str, str]) -> bytes:
    """Return a file that holds ``arrays`` by name and, where the format can, the texts of ``note``.

    ``ending`` says the format: one of ``ENDINGS``.

    Raises:
        BackendError: the package of the format is not installed.
    """
    if ending == ".safetensors":
        data: bytes = _safetensors().save(dict(arrays), metadata=dict(note))
        return data
    buffer = io.BytesIO()
    if ending == ".npz":
        content: dict[str, Any] = {NOTE: np.array(json.dumps(note)), **arrays}
        np.savez(buffer, **content)
    else:
        torch = _torch("to write .pt files")
        torch.save({name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}, buffer)
    return buffer.getvalue()


def from_file(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays of a file by name, and the texts that ``to_bytes`` noted ({} if it has none).

    Raises:
        CheckpointError: the file is missing, damaged, of another format, or holds something else than arrays.
        BackendError: the package of the format is not installed.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: {'is a folder, not a file' if path.is_dir() else 'there is no such file'}")
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise CheckpointError(f"{path}: not a file of weights; its name has to end in {', '.join(ENDINGS)}")
    read = {".safetensors": _read_safetensors, ".npz": _read_npz}.get(ending, _read_torch)
    try:
        with warnings.catch_warnings(action="ignore"):
            return read(path)
    except (BackendError, CheckpointError, MemoryError):
        raise
    except Exception as error:  # the packages raise anything on damaged bytes
        if "pickle" in str(error):  # NumPy's text says how to load what should not be loaded
            raise CheckpointError(f"{path}: damaged or not a {ending} file of arrays alone") from None
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise CheckpointError(f"{path}: damaged or not a {ending} file ({reason})") from None


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    _safetensors()
    with import_module("safetensors").safe_open(path, framework="np") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with open_regular(path) as zipped, open_zip(zipped) as archive:
        size = sum(info.file_size for info in archive.infolist())  # no more is unpacked
        packed = os.fstat(zipped.fileno()).st_size
    if size > FACTOR * packed:
        raise CheckpointError(
            f"{path}: would unpack from {packed / 1e6:.3g} MB to {size / 1e9:.3g} GB, which weights never do; if that "
            "is right, save them by np.savez, uncompressed"
        )
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: np.asarray(file[name]) for name in file.files}
    note = json.loads(str(arrays.pop(NOTE, "{}")))
    return arrays, {str(key): str(value) for key, value in note.items()}


def _read_torch(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    torch = _torch("to read .pt files; a .safetensors file does not")
    content = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, Mapping) and isinstance(content.get(STATE), Mapping):
        content = content[STATE]
    if not isinstance(content, Mapping) or not all(isinstance(each, torch.Tensor) for each in content.values()):
        raise CheckpointError(f"{path}: holds no state_dict (tensors by name); save model.state_dict() with torch.save")
    return {str(name): each.detach().numpy() for name, each in content.items()}, {}


def _safetensors() -> Any:
    """Return the module ``safetensors.numpy``.

    Raises:
        BackendError: it is not installed.
    """
    try:
        return import_module("safetensors.numpy")
    except ImportError:
        raise BackendError(".safetensors files need safetensors; `pip install safetensors`, or use npz") from None


def _torch(why: str) -> Any:
    """Return the module ``torch``.

    Raises:
        BackendError: it is not installed.
    """
    try:
        return import_module("torch")
    except ImportError:
        raise BackendError(
            f"PyTorch is needed {why}; `pip install torch`, or use the same weights as .safetensors or .npz"
        ) from None
