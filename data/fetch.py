"""Fetching datasets: download, unpack, and set damaged copies aside that would be read instead."""

from __future__ import annotations

import contextlib
import difflib
import gzip
import os
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from eqnp.data.download import Progress, download, is_published
from eqnp.data.idx import LARGEST
from eqnp.data.layout import ARCHIVED
from eqnp.data.locate import own_folder
from eqnp.data.packed import DamagedError, gunzip
from eqnp.data.published import SOURCES, Source
from eqnp.errors import ConfigurationError, DataError, DiskError
from eqnp.runs.locks import FileLock
from eqnp.runs.storage import disk_error, write_atomic
from eqnp.shown import NAME, shown

Message = Callable[[str], None]
LOCK = ".eqnp-fetch.lock"  # in the folder of the download
_PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)  # members that are files, not sparse
LARGEST_MEMBER = 1 << 28  # bytes of a file in an archive
WAIT = 0.2  # seconds between two attempts to take the lock


def fetch(
    name: str,
    folder: str | Path | None = None,
    *,
    source: Source | None = None,
    progress: Progress = lambda name, done, total: None,
    message: Message = lambda text: None,
) -> Path:
    """Download the dataset called ``name`` into ``folder`` (default: eqnp's own) and return its folder.

    A published file that is already there is not downloaded again. A download goes to a ``.part`` file, which the next
    call continues. Of two fetches into one folder the second waits. ``source`` replaces the published one (another
    mirror, a test). ``message`` receives one line per wait and per damaged file that was replaced.

    Raises:
        ConfigurationError: the dataset cannot be fetched, or its place needs a home folder and none is known.
        DataError: no connection, a file that is not the published one, or an existing file that cannot be read.
        DiskError: a file cannot be written.
    """
    if source is None and name not in SOURCES:
        near = difflib.get_close_matches(name, SOURCES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(SOURCES)}"
        raise ConfigurationError(f"{name!r} cannot be fetched; {hint}")
    source = source or SOURCES[name]
    base = Path(os.path.expanduser(folder)) if folder else own_folder()
    place = base / source.folder
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(place, error) from None
    with _alone(base, message):
        for file in source.files:
            path = place / file.name
            if not is_published(path, file):
                if os.path.isfile(path):
                    message(f"{path}: not the published file; fetching it again")
                download(source.urls, file, path, progress)
            if path.name.endswith(".tar.gz"):
                place = _unpack(path, *ARCHIVED[name], message)
            elif path.suffix == ".gz":
                _set_aside_damaged(path, message)
    return place


@contextlib.contextmanager
def _alone(folder: Path, message: Message) -> Iterator[None]:
    """Hold the lock of the folder; wait if another fetch has it. If files cannot be locked, continue without."""
    lock = FileLock(folder / LOCK)
    with contextlib.suppress(DiskError):  # the SHA-256 protects the file, and writing it reports the error
        if not lock.acquire():
            message(f"{lock.holder()} is fetching into {folder}; waiting for it")
            while not lock.acquire():
                time.sleep(WAIT)
    try:
        yield
    finally:
        lock.release()


def _set_aside_damaged(path: Path, message: Message) -> None:
    """Rename an unpacked copy beside ``path`` (NAME.gz) if its content differs, since it might be read instead."""
    plain = path.with_suffix("")
    for copy in (plain, plain.with_name(plain.name.replace("-idx", ".idx"))):
        try:
            if not os.path.isfile(copy) or _holds(copy, gunzip(path.read_bytes(), LARGEST)):
                continue
            aside = copy.with_name(copy.name + ".damaged")
            os.replace(copy, aside)
        except OSError as error:
            raise disk_error(copy, error) from None
        except DamagedError as error:
            raise DataError(f"{path}: damaged or truncated gzip ({error})") from None
        message(f"{copy}: differs from the published {path.name}; renamed to {aside.name}")


def _unpack(archive: Path, inside: str, files: tuple[str, ...], message: Message) -> Path:
    """Write the missing or damaged ``files`` in the folder ``inside`` an archive beside it; return their folder."""
    wanted = {f"{inside}/{name}" for name in files}
    folder = archive.parent / inside
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        with (
            gzip.open(archive) as unpacked,
            tarfile.open(fileobj=cast(IO[bytes], _Limited(unpacked)), mode="r:") as tar,
        ):
            for member in tar:
                _require_size(member)
                if member.name in wanted and member.type in _PLAIN and (content := tar.extractfile(member)):
                    _replace(folder / Path(member.name).name, content.read(), message)
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
        raise DataError(f"{archive}: cannot be unpacked ({error}); remove it and fetch again") from None
    except OSError as error:
        raise disk_error(folder, error) from None
    for name in files:
        if not os.path.isfile(folder / name):
            raise DataError(f"{archive}: does not hold {name}; remove it and fetch again")
    return folder


class _Limited:
    """An unpacked archive of which at most ``LARGEST_MEMBER`` bytes are read at once, whatever its headers say."""

    def __init__(self, file: gzip.GzipFile) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes."""
        if not 0 <= size <= LARGEST_MEMBER:
            raise tarfile.ReadError(f"a header states {size} bytes")
        return self._file.read(size)


def _require_size(member: tarfile.TarInfo) -> None:
    """Raise a ReadError if a member, which would be read or passed over, is larger than those of the datasets."""
    if not 0 <= member.size <= LARGEST_MEMBER or member.offset_data > LARGEST:
        raise tarfile.ReadError(f"{shown(member.name, NAME)} has {member.size} bytes at {member.offset_data}")


def _replace(path: Path, data: bytes, message: Message) -> None:
    """Write ``data`` to ``path`` unless it has that content. A link in its place is replaced, not followed."""
    if os.path.islink(path):
        path.unlink()
    if os.path.isfile(path):
        if _holds(path, data):
            return
        message(f"{path}: differs from the published archive; replaced")
    write_atomic(path, data)


def _holds(path: Path, data: bytes) -> bool:
    """Return whether a file has the content ``data``."""
    return os.path.getsize(path) == len(data) and path.read_bytes() == data
