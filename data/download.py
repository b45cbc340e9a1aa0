"""Download of one published file over https: from several addresses, resumable, of limited size, verified."""

from __future__ import annotations

import hashlib
import os
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO

from eqnp.data.published import File
from eqnp.data.stillness import cut_when_still
from eqnp.errors import ConfigurationError, DataError
from eqnp.runs.storage import disk_error
from eqnp.shown import shown

Progress = Callable[[str, int, int], None]  # file name, bytes so far, bytes in all
CHUNK = 1 << 16
TIMEOUT = 30.0  # seconds without a byte
STILL_SECONDS = 60.0  # without content, though there may be bytes around it
ANSWER_SECONDS = 90.0  # until the headers arrive, redirects included
WINDOW, SLOWEST = 30.0, 1000.0  # seconds over which the speed is measured, and the minimum in bytes per second
LOCAL = ("127.0.0.1", "localhost")  # the only hosts without https

AGAIN = "check the network and run the same command again"
GO_ON = "run the same command to continue from there"
ELSEWHERE = "get {file} elsewhere and put it in {folder}"  # if no address has the published file


class _Failed(Exception):
    """An address did not give the file: why, and what to do. ``wrong``: it sent another file."""

    def __init__(self, reason: object, advice: str, wrong: bool = False) -> None:
        super().__init__(shown(" ".join(str(reason).split()), 200))  # some is from the server
        self.advice = advice
        self.wrong = wrong


def download(urls: tuple[str, ...], file: File, path: Path, progress: Progress) -> None:
    """Download ``file`` to ``path`` from the first of ``urls`` (folders, ending in /) that sends the published file.

    Received bytes are kept in a ``.part`` file beside it, and the next call continues from there.

    Raises:
        ConfigurationError: an address is not https.
        DataError: no address sends the published file; the message gives the reason for each, and what to do.
        DiskError: the file cannot be written.
    """
    for url in urls:
        if not _is_allowed(url):
            raise ConfigurationError(f"{url}: only https is fetched")
    part = path.with_name(path.name + ".part")
    _require_own(part)
    faults: list[_Failed] = []
    for url in urls:
        try:
            _download(url + file.name, file, part, progress)
        except _Failed as error:
            faults.append(error)
            continue
        try:
            return os.replace(part, path)
        except OSError as error:
            raise disk_error(path, error) from None
    reasons = "; ".join(f"{url}{file.name}: {fault}" for url, fault in zip(urls, faults, strict=True))
    begun = _size(part) > 0 and any(fault.advice == GO_ON for fault in faults)
    advice = GO_ON if begun else faults[-1].advice.replace(GO_ON, AGAIN)
    raise DataError(f"{reasons}; {advice.format(file=file.name, folder=path.parent)}")


def _require_own(part: Path) -> None:
    """Remove what is in the place of a ``.part`` file and is none: a link, which writing would follow, or a pipe."""
    if os.path.islink(part) or (os.path.exists(part) and not os.path.isfile(part) and not os.path.isdir(part)):
        _remove(part)


def is_published(path: Path, file: File) -> bool:
    """Return whether ``path`` exists and is the published file.

    Raises:
        DataError: it exists and cannot be read.
    """
    return os.path.isfile(path) and os.path.getsize(path) == file.size and not _wrong_sum(path, file)


def _download(url: str, file: File, part: Path, progress: Progress) -> None:
    """Download the whole published file to ``part``. A wrong file is removed, and downloaded again once."""
    while not is_published(part, file):
        start = _size(part)
        start = start if start < file.size else 0
        try:
            start = _receive(url, file, part, start, progress)
            if is_published(part, file):
                return
            raise _Failed(f"not the published file: {_wrong_sum(part, file)}; it was removed", ELSEWHERE, True)
        except _Failed as error:
            if error.wrong:
                _remove(part)
            if not (error.wrong and start):  # a wrong beginning may have come from another address
                raise


def _receive(url: str, file: File, part: Path, start: int, progress: Progress) -> int:
    """Append the missing bytes to ``part``; return where they begin: 0 if the server cannot send a part of the file."""
    with _open(url, start) as answer:
        if answer.status != 206:
            start = 0
        _require_offer(answer, file.size - start)  # before the received part of the file is overwritten
        done = start
        try:
            with open(part, "ab" if start else "wb") as out, cut_when_still(answer, lambda: done, STILL_SECONDS):
                for chunk in _chunks(answer, file.size - start):
                    out.write(chunk)
                    done += len(chunk)
                    progress(file.name, done, file.size)
                out.flush()
                os.fsync(out.fileno())
        except OSError as error:  # network errors are _Failed already
            raise disk_error(part, error) from None
    if done < file.size:
        raise _Failed(f"download broke off ({done} of {file.size} bytes received)", GO_ON)
    return start


def _require_offer(answer: HTTPResponse, size: int) -> None:
    """Raise _Failed if the answer cannot be the published file: another size, or a web page (such as a log-in)."""
    kind = answer.headers.get_content_type()
    if answer.length not in (None, size) or kind == "text/html":
        offer = "a web page" if kind == "text/html" else f"{answer.length} bytes"
        raise _Failed(f"not the published file: the server offers {offer}, not {size} bytes", ELSEWHERE)


def _chunks(answer: HTTPResponse, room: int) -> Iterator[bytes]:
    """Yield received bytes until the end; raise _Failed if there are more than ``room``, or if they are too slow."""
    since, came = time.monotonic(), 0
    while True:
        try:
            chunk = answer.read1(CHUNK)  # not ``read``, which waits for all of them
        except (OSError, HTTPException, ValueError) as error:
            raise _Failed(f"download broke off ({_reason(error)})", GO_ON) from None
        if not chunk:
            return
        room, came = room - len(chunk), came + len(chunk)
        if room < 0:
            raise _Failed("not the published file: it is longer; it was removed", ELSEWHERE, True)
        yield chunk
        now = time.monotonic()
        if now - since > WINDOW:
            if came < SLOWEST * (now - since):
                raise _Failed(f"download broke off (slower than {SLOWEST / 1000:g} kB/s)", GO_ON)
            since, came = now, 0


_HTTP_ADVICE = {
    401: "try another network, or " + ELSEWHERE,
    403: "the server or a proxy forbids it: try another network, or " + ELSEWHERE,
    407: "log in to your network's proxy (https_proxy=http://USER:PASSWORD@HOST:PORT)",
    429: "the server is busy: try again later",
}


def _open(url: str, start: int) -> HTTPResponse:
    """Return the answer to a request for all bytes from ``start``; raise _Failed if there is none."""
    headers = {"User-Agent": "eqnp"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        return _in_time(urllib.request.Request(url, headers=headers))
    except urllib.error.HTTPError as error:
        error.close()
        later = "the server has an error: try again later" if error.code >= 500 else ELSEWHERE
        raise _Failed(f"{error.code} {error.reason}", _HTTP_ADVICE.get(error.code, later)) from None
    except (OSError, HTTPException, ValueError) as error:  # an invalid Location gives a ValueError
        cause = getattr(error, "reason", error)
        advice = AGAIN
        if isinstance(cause, ssl.SSLCertVerificationError):
            advice = "check this machine's date, or set SSL_CERT_FILE to the certificates of your network"
        raise _Failed(f"cannot be reached ({_reason(error)})", advice) from None


def _in_time(request: urllib.request.Request) -> HTTPResponse:
    """Open a request in a thread with a time limit; the limit of a socket starts again with every byte."""
    outcome: list[HTTPResponse | Exception] = []

    def work() -> None:
        try:
            outcome.append(urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=work, daemon=True)
    try:
        thread.start()
        thread.join(ANSWER_SECONDS)
    except RuntimeError:  # no thread can start (ulimit -u)
        work()
    if not outcome:
        raise TimeoutError(f"no answer within {ANSWER_SECONDS:g} s")
    result = outcome[0]
    if isinstance(result, Exception):
        raise result
    return result


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https, and to http only from http on the same local host."""

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage
    ) -> HTTPResponse | None:
        """Follow a redirect; close the connection if that fails. The page that comes with it is not read."""
        fp.read = lambda *args: b""  # type: ignore[method-assign]  # urllib reads it whole, however long it is
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except Exception:
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request for ``newurl``; raise _Failed if it must not be followed."""
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if new.scheme != "https" and (new.scheme, new.hostname) != (old.scheme, old.hostname):
            raise _Failed(f"redirects to {newurl}, which is not https", ELSEWHERE)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_allowed(url: str) -> bool:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOCAL)


def _reason(error: Exception) -> str:
    """Return why a connection failed, in a few words."""
    cause = getattr(error, "reason", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {cause.verify_message}"
    text = getattr(cause, "strerror", None) or str(cause)
    return text or type(cause).__name__


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(path, error) from None


def _size(path: Path) -> int:
    return os.path.getsize(path) if os.path.isfile(path) else 0


def _wrong_sum(path: Path, file: File) -> str:
    """Return which sum of a file is not the published one, or ""."""
    for name, kind, published in (
        ("SHA-256", hashlib.sha256, file.sha256),
        ("MD5", lambda: hashlib.md5(usedforsecurity=False), file.md5),
    ):
        if published and (found := _digest(path, kind)) != published:
            return f"its {name} is {found}, not {published}"
    return ""


def _digest(path: Path, kind: Callable[[], hashlib._Hash]) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, kind).hexdigest()
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read ({reason}); check its permissions, or remove it") from None
