"""Files that are written whole or not at all, and checks of places before a write."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

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
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.EIO: "check the disk, or choose another place",
}
_READ_ADVICE = {
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close other programs",
}
# Errors of what is at a path, not of the disk.
_NO_FILE = (errno.ENOENT, errno.EINVAL, errno.EFBIG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP)  # errors of file systems that cannot sync folders


def _flags(*names: str) -> int:
    """Return these flags of ``os.open`` together; a system may lack some."""
    return sum(getattr(os, f"O_{name}", 0) for name in names)


_READ = _flags("RDONLY", "BINARY", "NONBLOCK", "NOCTTY")  # opening a pipe would wait for its writer
_NEW = _flags("WRONLY", "CREAT", "EXCL", "BINARY")
_LOCKED = _flags("RDWR", "CREAT", "NOFOLLOW", "NONBLOCK")


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file to read.

    Raises:
        OSError: it cannot be read, or is not a regular file: a pipe or a device may block, or never end.
    """
    _require_regular(os.stat(path).st_mode)  # opening a device may act on it
    file = os.fdopen(os.open(path, _READ), "rb")
    try:
        _require_regular(os.fstat(file.fileno()).st_mode)
    except BaseException:
        file.close()
        raise
    return file


def read_bounded(path: str | Path, most: int) -> bytes:
    """Return the content of a file of at most ``most`` bytes.

    Raises:
        OSError: it cannot be read, is larger, or is not a regular file.
    """
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes")
    return data


def _require_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a file but a device or a pipe")


def new_file(path: Path) -> int:
    """Create a file and return its descriptor, to write. A link in its place is not followed.

    Raises:
        OSError: it exists, or cannot be created.
    """
    return os.open(path, _NEW, 0o666)


def lock_file(path: Path) -> int:
    """Open or create a regular file to lock, and return its descriptor. A link is not followed.

    Raises:
        DiskError: it is a link or not a regular file, or cannot be opened.
    """
    try:
        descriptor = os.open(path, _LOCKED, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DiskError(f"{path}: is a link, which is not followed; delete it") from error
        raise disk_error(path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        with suppress(OSError):
            os.close(descriptor)
        raise DiskError(f"{path}: is not a regular file; delete it or choose another folder")
    return descriptor


def write_atomic(path: str | Path, data: bytes | memoryview, *, follow: bool = True) -> None:
    """Write ``data`` to ``path`` so that at every moment the file is either the old one or the whole new one.

    If ``path`` is a symbolic link, its target is replaced; without ``follow`` the link itself is.

    Raises:
        DiskError: it cannot be written (full disk, no permission, ...); the old file is unchanged.
    """
    try:
        target = Path(os.path.realpath(path)) if follow else Path(os.path.realpath(Path(path).parent), Path(path).name)
        part = target.with_name(PART.format(os.urandom(8).hex()))
        if target.exists() and not (target.is_file() or target.is_symlink()):
            # renaming onto a device or a pipe would destroy it
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


def read_error(path: str | Path, error: OSError) -> DiskError | None:
    """Return the error if the system cannot read ``path`` now; None if what is there is the mistake, such as a pipe."""
    if error.errno in _NO_FILE:
        return None
    advice = _READ_ADVICE.get(error.errno or 0, "check the disk")
    return DiskError(f"{path}: cannot be read ({error.strerror or error}); {advice}")


def _write_synced(path: Path, data: bytes | memoryview) -> None:
    descriptor = new_file(path)
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


def require_space(folder: Path, needed: int) -> None:
    """Check before a long computation that a file system has room; one that does not know how much passes.

    Raises:
        DiskError: fewer than ``needed`` bytes are free.
    """
    try:
        total, _, free = shutil.disk_usage(folder)
    except OSError:
        return
    if total and free < needed:
        raise DiskError(
            f"{folder}: {free / 1e6:.0f} MB are free, but the checkpoints of this run need {needed / 1e6:.0f} MB more; "
            "free some space"
        )


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
