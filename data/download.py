"""One published file over https: from the first address that has it, bounded, resumable, in place only when right."""

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
from eqnp.errors import ConfigurationError, DataError
from eqnp.runs.storage import disk_error

Progress = Callable[[str, int, int], None]  # file name, bytes so far, bytes in all
CHUNK = 1 << 16
TIMEOUT = 30.0  # seconds without a byte
ANSWER_SECONDS = 90.0  # until the headers have come, after redirects
WINDOW, SLOWEST = 30.0, 1000.0  # seconds over which the speed is measured, and the least bytes per second
LOCAL = ("127.0.0.1", "localhost")  # the only hosts that need no https

AGAIN = "check the network and run the same command again"
GO_ON = "run the same command to go on from there"
ELSEWHERE = "get {file} elsewhere and put it in {folder}"  # if no address has the published file


class _Failed(Exception):
    """An address did not give the file: why, and what to do. ``wrong``: what came is not the published file."""

    def __init__(self, reason: object, advice: str, wrong: bool = False) -> None:
        text = " ".join(str(reason).split())
        super().__init__("".join(c if c.isprintable() else "?" for c in text)[:200])  # some of it is a server's text
        self.advice = advice
        self.wrong = wrong


def download(urls: tuple[str, ...], file: File, path: Path, progress: Progress) -> None:
    """Download ``file`` to ``path`` from the first of ``urls`` (folders, ending in /) that gives the published one.

    What has come is kept in a ``.part`` file beside it, and the next call goes on with it.

    Raises:
        ConfigurationError: an address is not https.
        DataError: no address gives the published file; each is named with its reason, and what to do.
        DiskError: the disk does not take it.
    """
    for url in urls:
        if not _is_allowed(url):
            raise ConfigurationError(f"{url}: only https is fetched")
    part = path.with_name(path.name + ".part")
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


def is_published(path: Path, file: File) -> bool:
    """Return whether ``path`` is there and is the published file.

    Raises:
        DataError: it is there and cannot be read.
    """
    return os.path.isfile(path) and os.path.getsize(path) == file.size and _sha256(path) == file.sha256


def _download(url: str, file: File, part: Path, progress: Progress) -> None:
    """Leave the whole published file in ``part``. What is wrong is removed, and fetched from its beginning once."""
    while not is_published(part, file):
        start = _size(part)
        start = start if start < file.size else 0
        try:
            start = _receive(url, file, part, start, progress)
            if is_published(part, file):
                return
            found = _sha256(part)
            raise _Failed(
                f"not the published file: its SHA-256 is {found}, not {file.sha256}; it was removed", ELSEWHERE, True
            )
        except _Failed as error:
            if error.wrong:
                _remove(part)
            if not (error.wrong and start):  # or else its beginning may have come from another address
                raise


def _receive(url: str, file: File, part: Path, start: int, progress: Progress) -> int:
    """Append what is missing to ``part`` and return from where: 0 if the server does not send from the middle."""
    with _open(url, start) as answer:
        if answer.status != 206:
            start = 0
        _require_offer(answer, file.size - start)  # before what there is of the file is given up for it
        done = start
        try:
            with open(part, "ab" if start else "wb") as out:
                for chunk in _chunks(answer, file.size - start):
                    out.write(chunk)
                    done += len(chunk)
                    progress(file.name, done, file.size)
                out.flush()
                os.fsync(out.fileno())
        except OSError as error:  # the network's own errors are _Failed already
            raise disk_error(part, error) from None
    if done < file.size:
        raise _Failed(f"download broke off ({done} of {file.size} bytes came)", GO_ON)
    return start


def _require_offer(answer: HTTPResponse, size: int) -> None:
    """Refuse an answer that cannot be the published file: another size, or a web page (of a network's log-in)."""
    kind = answer.headers.get_content_type()
    if answer.length not in (None, size) or kind == "text/html":
        offer = "a web page" if kind == "text/html" else f"{answer.length} bytes"
        raise _Failed(f"not the published file: the server offers {offer}, not {size} bytes", ELSEWHERE)


def _chunks(answer: HTTPResponse, room: int) -> Iterator[bytes]:
    """Yield what comes, at most ``room`` bytes, until the end or until it comes too slowly."""
    since, came = time.monotonic(), 0
    while True:
        try:
            chunk = answer.read1(CHUNK)  # what there is: ``read`` would wait for all of it
        except (OSError, HTTPException, ValueError) as error:
            raise _Failed(f"download broke off ({_reason(error)})", GO_ON) from None
        if not chunk:
            return
        room, came = room - len(chunk), came + len(chunk)
        if room < 0:
            raise _Failed("not the published file: it does not end where that ends; it was removed", ELSEWHERE, True)
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
    """Return the answer to a request for all bytes from ``start``; _Failed if there is none."""
    headers = {"User-Agent": "eqnp"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        return _in_time(urllib.request.Request(url, headers=headers))
    except urllib.error.HTTPError as error:
        error.close()
        later = "the server has a fault: try again later" if error.code >= 500 else ELSEWHERE
        raise _Failed(f"{error.code} {error.reason}", _HTTP_ADVICE.get(error.code, later)) from None
    except (OSError, HTTPException, ValueError) as error:  # a Location that is none gives a ValueError
        cause = getattr(error, "reason", error)
        advice = AGAIN
        if isinstance(cause, ssl.SSLCertVerificationError):
            advice = "check this machine's date, or set SSL_CERT_FILE to the certificates of your network"
        raise _Failed(f"cannot be reached ({_reason(error)})", advice) from None


def _in_time(request: urllib.request.Request) -> HTTPResponse:
    """Open a request in a thread, since one byte now and then keeps a socket's own time limit from ending it."""
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
    except RuntimeError:  # no thread can be started (ulimit -u)
        work()
    if not outcome:
        raise TimeoutError(f"no answer within {ANSWER_SECONDS:g} s")
    result = outcome[0]
    if isinstance(result, Exception):
        raise result
    return result


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to https; to http only from http, on the same local host."""

    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage
    ) -> HTTPResponse | None:
        """Follow; the connection does not stay open if that fails."""
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except Exception:
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        """Return the request for ``newurl``; _Failed if it must not be followed."""
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


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be read ({reason}); check its permissions, or remove it") from None
