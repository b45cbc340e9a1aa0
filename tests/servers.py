"""A server on this machine for the tests of downloads, and what it serves and answers."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from eqnp.data.published import File, Source


class Server(ThreadingHTTPServer):
    """Serves ``files``; breaks off after ``limit`` bytes; answers ranges only if ``ranges``; no answer takes long."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.limit, self.ranges, self.log = {}, None, True, []
        self.answers = {}  # what is done for a path, in the place of serving its file
        self.daemon_threads = True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        self.server.log.append((self.path, asked))
        if self.path in self.server.answers:
            with contextlib.suppress(OSError):  # whoever asked went away
                self.server.answers[self.path](self)
            return
        data = self.server.files.get(self.path[1:])
        if data is None:
            self.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:][: self.server.limit])

    def log_message(self, *args):
        pass


def source(server, folder="there", **files):
    server.files |= {name.replace("__", "."): data for name, data in files.items()}
    listed = [
        File(name.replace("__", "."), len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
    ]
    return Source((server.url,), folder, tuple(listed))


def archive(batches) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin", "readme.html", "../outside"]
        for name, data in zip(names, [*batches, b"hello", b"escape"], strict=True):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def two(server, what):
    """Return the source with a first address, /bad/, before its own."""
    return Source((f"{server.url}bad/", *what.urls), what.folder, what.files)


def body(*chunks, seconds=0.0, headers=(), status=200):
    """Return an answer that sends chunks, with a pause before each."""

    def answer(handler):
        handler.send_response(status)
        for name, value in headers:
            handler.send_header(name, value)
        handler.end_headers()
        for chunk in chunks:
            time.sleep(seconds)
            handler.wfile.write(chunk)

    return answer


def redirect(server, location):
    server.answers["/bad/a"] = body(status=302, headers=[("Location", location)] if location is not None else [])
