"""Files that are written whole or not at all, and checks of places before a write."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from eqnp.errors import ConfigurationError, DiskError

PART = ".eqnp-{}.part"  # name of an unfinished file, which only a killed process leaves behind

_ADVICE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.ENOENT: "make the folder first",
    errno.EACCES: "check the permissions or choose another place",
    errno.EPERM: "check the permissions or choose another place",
    errno.EROFS: "choose a place that can be written",
}
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP)  # errors of file systems that cannot sync folders


def write_atomic(path: str | Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path`` so that at every moment the file is either the old one or the whole new one.

    Raises:
        DiskError: it cannot be written (full disk, no permission, ...); the old file is unchanged.
    """
    try:
        target = Path(os.path.realpath(path))  # a symbolic link stays, its target is replaced
        part = target.with_name(PART.format(os.urandom(8).hex()))
        if target.exists() and not target.is_file():  # renaming onto a device or a pipe would destroy it
            raise DiskError(f"{path}: cannot be written (not a regular file); give another name")
        try:
            _write_synced(part, data)
            os.replace(part, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(part)
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise disk_error(path, error) from error


def disk_error(path: str | Path, error: OSError) -> DiskError:
    """Return a DiskError: ``path`` cannot be written, why, and what to do."""
    advice = _ADVICE.get(error.errno or 0, "choose another place")
    return DiskError(f"{path}: cannot be written ({error.strerror or error}); {advice}")


def _write_synced(path: Path, data: bytes | memoryview) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        rest = memoryview(data)
        while rest:  # a write may take only a part
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except BaseException:
        with suppress(OSError):  # report the first error
            os.close(descriptor)
        raise
    os.close(descriptor)  # NFS may report a failed write only here


def _sync_folder(folder: Path) -> None:
    """Sync a folder, so that a new name in it survives a power failure."""
    if os.name == "nt":  # Windows cannot sync a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        with suppress(OSError):  # nothing was written through it
            os.close(descriptor)


def make_folder(path: Path) -> bool:
    """Create a folder and its parents; return whether it is new.

    Raises:
        ConfigurationError: a file is in its place.
        DiskError: it cannot be created.
    """
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        if not path.is_dir():
            raise ConfigurationError(f"{path}: is a file, not a folder; give another --out") from None
        return False
    except NotADirectoryError:
        raise ConfigurationError(f"{path}: its parent is a file, not a folder; give another --out") from None
    except OSError as error:
        raise disk_error(path, error) from error
    return True


def require_place(path: Path, force: bool, option: str = "--out") -> None:
    """Check before a long computation that its result can be written to ``path``, which ``option`` names.

    Raises:
        ConfigurationError: it is a folder, or it exists and ``force`` is not given.
        DiskError: it cannot be created there.
    """
    folder = os.path.dirname(path) or os.curdir
    if os.path.isdir(path):
        raise ConfigurationError(f"{option} {path}: is a folder; give the name of a file")
    if os.path.lexists(path) and not force:
        raise ConfigurationError(f"{option} {path}: the file exists; give another name or --force")
    if not os.path.isdir(folder):
        raise disk_error(path, OSError(errno.ENOENT, "no such folder"))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise disk_error(path, OSError(errno.EACCES, os.strerror(errno.EACCES)))
