"""Downloading datasets: over https, checked by SHA-256, resumable, in place only when whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tarfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

from eqnp.data.layout import CIFAR_BINARY
from eqnp.data.locate import own_folder
from eqnp.data.published import SOURCES, File, Source
from eqnp.errors import ConfigurationError, DataError
from eqnp.storage import disk_error, write_atomic

Progress = Callable[[str, int, int], None]  # file name, bytes so far, bytes in all
CHUNK = 1 << 16
TIMEOUT = 30.0  # seconds without a byte


def fetch(
    name: str,
    folder: Path | None = None,
    *,
    source: Source | None = None,
    progress: Progress = lambda name, done, total: None,
) -> Path:
    """Download the dataset called ``name`` into ``folder`` (default: eqnp's own) and return where it is.

    A file that is there already and whole is left alone. A download goes to a ``.part`` file, which the next call
    goes on with. ``source`` replaces the published one (another mirror, a test).

    Raises:
        ConfigurationError: the dataset cannot be fetched, or no home folder is known to put it in.
        DataError: no connection, a file that is not the published one, or one in its place that cannot be read.
        DiskError: the disk does not take it.
    """
    if source is None and name not in SOURCES:
        raise ConfigurationError(f"{name!r} cannot be fetched; choose one of {', '.join(SOURCES)}")
    source = source or SOURCES[name]
    place = (folder or own_folder()) / source.folder
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(place, error) from None
    for file in source.files:
        path = place / file.name
        if not (os.path.isfile(path) and _sha256(path) == file.sha256):
            _download_any(source.urls, file, path, progress)
        if path.name.endswith(".tar.gz"):
            place = _unpack(path)
    return place


def _download_any(urls: tuple[str, ...], file: File, path: Path, progress: Progress) -> None:
    """Download from the first address that has it."""
    for number, base in enumerate(urls, start=1):
        try:
            return _download(base + file.name, file, path, progress)
        except DataError:
            if number == len(urls):
                raise


def _download(url: str, file: File, path: Path, progress: Progress) -> None:
    """Download one file to its .part, check it, and move it into place."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost"):
        raise ConfigurationError(f"{url}: only https is fetched")
    part = path.with_name(path.name + ".part")
    try:
        _receive(url, file, part, progress)
    except (urllib.error.URLError, TimeoutError, ConnectionError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(f"{url}: download broke off ({reason}); run the same command to go on from there") from None
    except OSError as error:
        raise disk_error(part, error) from None
    found = _sha256(part)
    if found != file.sha256:
        part.unlink()
        raise DataError(f"{url}: not the published file: its SHA-256 is {found}, not {file.sha256}; it was removed")
    try:
        os.replace(part, path)
    except OSError as error:
        raise disk_error(path, error) from None


def _receive(url: str, file: File, part: Path, progress: Progress) -> None:
    """Append what is missing to ``part``; begin again where the server does not send from the middle."""
    done = part.stat().st_size if part.exists() else 0
    if done >= file.size:
        done = 0  # as long as the whole and yet not renamed: it was not right
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        if answer.status != 206:
            done = 0
        with open(part, "ab" if done else "wb") as out:
            while chunk := answer.read(CHUNK):
                out.write(chunk)
                done += len(chunk)
                progress(file.name, done, file.size)
            out.flush()
            os.fsync(out.fileno())
    if done < file.size:
        raise ConnectionError(f"{done} of {file.size} bytes came")


def _unpack(archive: Path) -> Path:
    """Write the batches of CIFAR-10's binary archive beside it, and return their folder."""
    wanted = {f"cifar-10-batches-bin/{name}" for name in CIFAR_BINARY}
    folder = archive.parent / "cifar-10-batches-bin"
    if all(os.path.isfile(folder / name) for name in CIFAR_BINARY):
        return folder
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                if member.name in wanted and member.isfile():
                    write_atomic(folder / Path(member.name).name, tar.extractfile(member).read())
    except (tarfile.TarError, EOFError) as error:
        raise DataError(f"{archive}: cannot be unpacked ({error}); remove it and fetch again") from None
    except OSError as error:
        raise disk_error(folder, error) from None
    return folder


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read ({reason}); check its permissions, or remove it") from None
