"""Fetching against a server on this machine: whole, broken off, gone on with, wrong, missing."""

from __future__ import annotations

import builtins
import contextlib
import errno
import gzip
import hashlib
import io
import os
import socket
import ssl
import tarfile
import threading
import time
import tracemalloc
import urllib.error
import urllib.request
from http.client import HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import datafiles
import pytest
from commands import run
from datafiles import assert_line

from eqnp.data import download, fetch, load
from eqnp.data.fetch import LOCK
from eqnp.data.published import SOURCES, File, Source
from eqnp.errors import ConfigurationError, DataError, DiskError
from eqnp.runs.locks import FileLock


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


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def source(server, folder="there", **files):
    server.files |= {name.replace("__", "."): data for name, data in files.items()}
    listed = [
        File(name.replace("__", "."), len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()
    ]
    return Source((server.url,), folder, tuple(listed))


def test_whole_files_come_once(server, tmp_path):
    what = source(server, a=b"1" * 100_000, b=b"2")
    seen = []
    place = fetch("mnist", tmp_path, source=what, progress=lambda *args: seen.append(args))
    assert place == tmp_path / "there"
    assert (place / "a").read_bytes() == b"1" * 100_000 and (place / "b").read_bytes() == b"2"
    assert ("a", 100_000, 100_000) in seen
    count = len(server.log)
    fetch("mnist", tmp_path, source=what)
    assert len(server.log) == count  # nothing is fetched again
    assert sorted(path.name for path in place.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("ranges", [True, False], ids=["with ranges", "without ranges"])
def test_a_broken_download_goes_on(server, tmp_path, ranges):
    data = bytes(range(256)) * 1000
    what = source(server, a=data)
    server.limit, server.ranges = 90_000, ranges
    with pytest.raises(DataError, match=r"broke off.*run the same command"):
        fetch("mnist", tmp_path, source=what)
    assert not (tmp_path / "there" / "a").exists()
    part = (tmp_path / "there" / "a.part").stat().st_size
    assert 0 < part <= 90_000
    server.limit = None
    fetch("mnist", tmp_path, source=what)
    assert (tmp_path / "there" / "a").read_bytes() == data
    assert server.log[-1] == ("/a", f"bytes={part}-")


def test_a_wrong_file_is_removed(server, tmp_path):
    what = source(server, a=b"right")
    server.files["a"] = b"wrong"
    with pytest.raises(DataError, match=r"not the published file.*SHA-256.*removed"):
        fetch("mnist", tmp_path, source=what)
    assert list((tmp_path / "there").iterdir()) == []
    server.files["a"] = b"right"
    fetch("mnist", tmp_path, source=what)


def test_a_damaged_file_in_place_is_fetched_again(server, tmp_path):
    what = source(server, a=b"right")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a").write_bytes(b"damaged")
    fetch("mnist", tmp_path, source=what)
    assert (tmp_path / "there" / "a").read_bytes() == b"right"


def test_a_file_in_place_that_cannot_be_read(server, tmp_path, monkeypatch):
    what = source(server, a=b"right")
    path = fetch("mnist", tmp_path, source=what) / "a"
    real = open

    def guarded(file, *args, **kwargs):
        if file == path:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(file, *args, **kwargs)

    monkeypatch.setattr(builtins, "open", guarded)
    with pytest.raises(
        DataError, match=r"a: cannot be read \(Permission denied\); check its permissions, or remove it"
    ):
        fetch("mnist", tmp_path, source=what)
    assert path.read_bytes() == b"right" and len(server.log) == 1


@pytest.mark.skipif(datafiles.READS_ALL, reason="root may read everything")
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_place_without_permissions(server, tmp_path, what):
    where = fetch("mnist", tmp_path, source=source(server, a=b"right"))
    locked = where / "a" if what == "file" else where
    locked.chmod(0)
    try:
        with pytest.raises((DataError, DiskError), match="Permission denied"):
            fetch("mnist", tmp_path, source=source(server, a=b"right"))
    finally:
        locked.chmod(0o700)


def test_a_part_as_long_as_the_whole_begins_again(server, tmp_path):
    what = source(server, a=b"right")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.part").write_bytes(b"wrong")
    fetch("mnist", tmp_path, source=what)
    assert (tmp_path / "there" / "a").read_bytes() == b"right"


def test_the_next_address_is_tried(server, tmp_path):
    what = source(server, a=b"right")
    both = Source((server.url + "gone/", server.url), what.folder, what.files)
    fetch("mnist", tmp_path, source=both)
    assert [path for path, _ in server.log] == ["/gone/a", "/a"]


def test_missing_refused_and_not_https(server, tmp_path):
    what = source(server, a=b"right")
    del server.files["a"]
    with pytest.raises(DataError, match="Not Found"):
        fetch("mnist", tmp_path, source=what)
    closed = Source(("http://127.0.0.1:9/",), "there", what.files)
    with pytest.raises(DataError, match="refused"):
        fetch("mnist", tmp_path, source=closed)
    with pytest.raises(ConfigurationError, match="only https"):
        fetch("mnist", tmp_path, source=Source(("http://example.org/",), "there", what.files))
    with pytest.raises(ConfigurationError, match="'imagenet' cannot be fetched; choose one of mnist"):
        fetch("imagenet", tmp_path)


def test_a_place_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DiskError, match="file"):
        fetch("mnist", tmp_path / "file", source=source(server, a=b"right"))


def archive(batches) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin", "readme.html", "../outside"]
        for name, data in zip(names, [*batches, b"hello", b"escape"], strict=True):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return out.getvalue()


def test_cifar_is_unpacked_and_found(server, tmp_path, small_files):
    data = archive([datafiles.cifar_binary(*datafiles.pictures(3, seed)) for seed in range(6)])
    what = source(server, ".", cifar__tar__gz=data)
    assert fetch("cifar10", tmp_path, source=what) == tmp_path / "cifar-10-batches-bin"
    assert load("cifar10", tmp_path).train_images.shape == (15, 32, 32, 3)
    assert not (tmp_path / "outside").exists()
    (tmp_path / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    fetch("cifar10", tmp_path, source=what)  # the archive is whole: unpacked again, not fetched
    assert len(server.log) == 1 and load("cifar10", tmp_path)


def test_an_archive_that_cannot_be_unpacked(server, tmp_path):
    with pytest.raises(DataError, match=r"cifar\.tar\.gz: cannot be unpacked"):
        fetch("cifar10", tmp_path, source=source(server, ".", cifar__tar__gz=b"no archive"))


# ---- hostile servers and bad networks


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


def test_two_fetches_at_once_both_succeed(server, tmp_path):
    for round_number in range(10):
        what = source(server, f"round{round_number}", a=os.urandom(600_000), b=os.urandom(300_000))
        begin, failed = threading.Barrier(2), []

        def one(what=what, begin=begin, failed=failed):
            try:
                begin.wait(10)
                fetch("mnist", tmp_path, source=what)
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not failed
        assert sorted(path.name for path in (tmp_path / what.folder).iterdir()) == ["a", "b"]
        assert (tmp_path / what.folder / "a").read_bytes() == server.files["a"]
    assert len(server.log) == 20  # the one that waited finds the files


def test_the_second_of_two_fetches_says_whom_it_waits_for(server, tmp_path):
    what, said = source(server, a=b"right"), []
    lock = FileLock(tmp_path / LOCK)
    assert lock.acquire()
    timer = threading.Timer(0.5, lock.release)
    timer.start()
    fetch("mnist", tmp_path, source=what, message=said.append)
    timer.join()
    assert len(said) == 1 and f"process {os.getpid()} on " in said[0] and "waiting" in said[0]


def test_where_nothing_can_be_locked_and_no_thread_started(server, tmp_path, monkeypatch):
    def no_locks(self):
        raise DiskError(f"{self.path}: cannot be locked")

    def no_threads(self):
        raise RuntimeError("can't start new thread")

    class Unstartable(threading.Thread):
        start = no_threads

    monkeypatch.setattr(FileLock, "acquire", no_locks)
    monkeypatch.setattr(download, "threading", SimpleNamespace(Thread=Unstartable))
    place = fetch("mnist", tmp_path, source=source(server, a=b"right"))
    assert (place / "a").read_bytes() == b"right"


POISON = {
    "same size": body(b"x" * 100_000, headers=[("Content-Length", "100000")]),
    "no length": body(b"x" * 100_000),
    "short": body(b"<html>log in</html>", headers=[("Content-Length", "19"), ("Content-Type", "text/html")]),
    "endless": body(*[b"x" * 65536] * 300),
    "of another size": body(b"x", headers=[("Content-Length", "1000000000000")]),
    "breaks off": body(b"x" * 10_000, headers=[("Content-Length", "100000")]),
    "claims the rest": body(b"x" * 100, headers=[("Content-Length", "100000"), ("Content-Range", "bytes 1-2/3")]),
}


@pytest.mark.parametrize("poison", POISON)
def test_a_poisoned_first_address_does_not_block_a_good_second(server, tmp_path, poison):
    what = source(server, a=b"right" * 20_000)
    server.answers["/bad/a"] = POISON[poison]
    fetch("mnist", tmp_path, source=two(server, what))
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["a"]
    assert (tmp_path / "there" / "a").read_bytes() == server.files["a"]


def test_a_poisoned_beginning_is_thrown_away(server, tmp_path):
    what = source(server, a=b"right" * 20_000)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.part").write_bytes(b"x" * 70_000)
    fetch("mnist", tmp_path, source=what)
    assert (tmp_path / "there" / "a").read_bytes() == server.files["a"]
    assert [asked for _, asked in server.log] == ["bytes=70000-", None]


@pytest.mark.parametrize("headers", [[("Content-Length", "5")], [("Content-Type", "text/html; charset=utf-8")]])
def test_a_log_in_page_costs_nothing_of_what_has_come(server, tmp_path, headers):
    what = source(server, a=b"right" * 20_000)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.part").write_bytes(server.files["a"][:70_000])
    server.answers["/a"] = body(b"<html", headers=headers)
    with pytest.raises(
        DataError, match=r"not the published file: the server offers .*, not 100000 bytes; get a elsewhere"
    ):
        fetch("mnist", tmp_path, source=what)
    del server.answers["/a"]
    fetch("mnist", tmp_path, source=what)
    assert server.log[-1] == ("/a", "bytes=70000-")


def test_a_whole_part_is_taken(server, tmp_path):
    what = source(server, a=b"right")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.part").write_bytes(b"right")
    fetch("mnist", tmp_path, source=what)
    assert (tmp_path / "there" / "a").read_bytes() == b"right" and not server.log


def test_an_endless_body_is_bounded(server, tmp_path):
    what, most = source(server, a=b"right" * 20_000), []
    server.answers["/a"] = body(*[b"x" * 65536] * 300)
    with pytest.raises(DataError) as error:
        fetch("mnist", tmp_path, source=what, progress=lambda name, done, total: most.append(done))
    assert_line(error, "not the published file: it is longer; it was removed", "get a elsewhere")
    assert max(most) <= 100_000
    assert list((tmp_path / "there").iterdir()) == []


def test_a_drip_ends(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "WINDOW", 0.3)
    what = source(server, a=b"right" * 20_000)
    server.answers["/a"] = body(*[b"r"] * 200, seconds=0.05, headers=[("Content-Length", "100000")])
    began = time.monotonic()
    message = r"broke off \(slower than 1 kB/s\); run the same command to continue from there"
    with pytest.raises(DataError, match=message):
        fetch("mnist", tmp_path, source=what)
    assert time.monotonic() - began < 5


def test_an_answer_whose_headers_drip_ends(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "ANSWER_SECONDS", 0.3)

    def drip(handler):
        for letter in b"HTTP/1.0 200 OK" + b" " * 60:
            handler.wfile.write(bytes([letter]))
            time.sleep(0.05)

    what = source(server, a=b"right")
    server.answers["/a"] = drip
    began = time.monotonic()
    with pytest.raises(DataError, match=r"cannot be reached \(no answer within 0\.3 s\); check the network"):
        fetch("mnist", tmp_path, source=what)
    assert time.monotonic() - began < 3


def redirect(server, location):
    server.answers["/bad/a"] = body(status=302, headers=[("Location", location)] if location is not None else [])


@pytest.mark.parametrize(
    "location",
    [
        "http://example.org/a",
        "ftp://127.0.0.1/a",
        "file:///etc/passwd",
        "http://[",
        "http://127.0.0.1:x/a",
        f"http://{'x' * 70}.y/a",
        "/bad/a",
        "http://exa\x01mple.org\x1b[2J/a",
        None,
    ],
)
def test_a_redirect_to_elsewhere_is_not_followed(server, tmp_path, monkeypatch, location):
    def resolve(host, *args, real=socket.getaddrinfo):
        assert host in ("127.0.0.1", "localhost"), host
        return real(host, *args)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    what = source(server, a=b"right")
    redirect(server, location)
    with pytest.raises(DataError) as error:
        fetch("mnist", tmp_path, source=Source((server.url + "bad/",), "there", what.files))
    assert_line(error, "/bad/a: ")
    assert str(error.value).isprintable()
    assert fetch("mnist", tmp_path, source=two(server, what))


def test_a_redirect_to_the_same_host_is_followed(server, tmp_path):
    what = source(server, a=b"right")
    redirect(server, "/a")
    fetch("mnist", tmp_path, source=Source((server.url + "bad/",), "there", what.files))
    assert (tmp_path / "there" / "a").read_bytes() == b"right"


def test_https_is_not_left_by_a_redirect():
    request = urllib.request.Request("https://127.0.0.1/a")
    for url in ("http://127.0.0.1/a", "http://localhost/a", "https.//x"):
        with pytest.raises(Exception, match="not https"):
            download._Redirects().redirect_request(request, io.BytesIO(), 302, "", {}, url)
    assert download._Redirects().redirect_request(request, io.BytesIO(), 302, "", {}, "https://other.org/a")


CERTIFICATE = ssl.SSLCertVerificationError(1, "certificate verify failed")
CERTIFICATE.verify_message = "self-signed certificate"
NETWORK = {
    "certificate": (urllib.error.URLError(CERTIFICATE), "its certificate is not valid: self-signed", "SSL_CERT_FILE"),
    "ssl": (urllib.error.URLError(ssl.SSLError(1, "[SSL] wrong version number")), "wrong version", "check the network"),
    "route": (urllib.error.URLError(OSError(errno.ENETUNREACH, "Network is unreachable")), "unreachable", "again"),
    "name": (urllib.error.URLError(socket.gaierror(-2, "Name or service not known")), "not known", "check the network"),
    "bare": (OSError(errno.EHOSTUNREACH, "No route to host"), "No route to host", "check the network"),
}


@pytest.mark.parametrize("kind", NETWORK)
def test_a_fault_of_the_network_is_none_of_the_disk(server, tmp_path, monkeypatch, kind):
    fault, *words = NETWORK[kind]

    def fail(self, *args, **kwargs):
        raise fault

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", fail)
    with pytest.raises(DataError) as error:
        fetch("mnist", tmp_path, source=source(server, a=b"right"))
    assert_line(error, f"{server.url}a: cannot be reached (", *words)
    assert "continue" not in str(error.value)


@pytest.mark.parametrize("fault", [ssl.SSLError(1, "bad record mac"), OSError(errno.EHOSTUNREACH, "No route to host")])
def test_a_fault_of_the_network_inside_a_download(server, tmp_path, monkeypatch, fault):
    def fail_later(self, count, real=HTTPResponse.read1):
        if self.length < 100_000:
            raise fault
        return real(self, count)

    monkeypatch.setattr(HTTPResponse, "read1", fail_later)
    with pytest.raises(DataError, match=r"broke off .*; run the same command to continue from there"):
        fetch("mnist", tmp_path, source=source(server, a=b"right" * 20_000))


def test_https_where_there_is_none(server, tmp_path):
    what = source(server, a=b"right")
    secure = Source((server.url.replace("http:", "https:"),), "there", what.files)
    with pytest.raises(DataError, match=r"cannot be reached .*; check the network"):
        fetch("mnist", tmp_path, source=secure)


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "try another network"),
        (403, "the server or a proxy forbids it: try another network, or get a elsewhere and put it in"),
        (404, "get a elsewhere and put it in"),
        (410, "get a elsewhere and put it in"),
        (429, "try again later"),
        (503, "try again later"),
    ],
)
def test_what_a_server_answers_in_the_place_of_a_file(server, tmp_path, status, advice):
    what = source(server, a=b"right")
    server.answers["/a"] = body(status=status)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.part").write_bytes(b"ri")  # from an earlier day
    with pytest.raises(DataError) as error:
        fetch("mnist", tmp_path, source=what)
    assert_line(error, f"{server.url}a: {status} ", advice)
    assert "continue" not in str(error.value)


def test_every_address_that_failed_is_named(server, tmp_path):
    what = source(server, a=b"right" * 20_000)
    server.limit = 10_000
    with pytest.raises(DataError) as error:
        fetch("mnist", tmp_path, source=Source((server.url, server.url + "gone/"), "there", what.files))
    broken = "/a: download broke off (10000 of 100000 bytes received)"
    assert_line(error, broken, "/gone/a: 404", "to continue from there")


# ---- what would be read


def mnist_source(server, tmp_path):
    """Return the source of a small MNIST, and what its plain files hold."""
    datafiles.write_mnist(tmp_path / "made", counts=(12, 10), like="mnist")
    plain = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    return source(server, "MNIST/raw", **{f"{name}__gz": gzip.compress(data) for name, data in plain.items()}), plain


@pytest.mark.parametrize("damage", ["cut", "other bytes"])
def test_a_damaged_plain_file_beside_what_is_fetched_is_renamed(server, tmp_path, monkeypatch, damage):
    datafiles.publish(monkeypatch, (12, 10))
    what, plain = mnist_source(server, tmp_path)
    place = tmp_path / "x" / "MNIST" / "raw"
    place.mkdir(parents=True)
    good, bad = "t10k-images-idx3-ubyte", "train-images-idx3-ubyte"
    (place / good).write_bytes(plain[good])
    data = plain[bad]
    (place / bad).write_bytes(data[:-1] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    said = []
    fetch("mnist", tmp_path / "x", source=what, message=said.append)
    assert [f"{place / bad}: differs from the published {bad}.gz; renamed to {bad}.damaged"] == said
    assert (place / good).exists() and not (place / bad).exists() and (place / f"{bad}.damaged").exists()
    assert load("mnist", tmp_path / "x").train_images[-1, -1, -1, 0] == data[-1]


def test_a_short_batch_is_replaced(server, tmp_path, small_files):
    batches = [datafiles.cifar_binary(*datafiles.pictures(3, seed)) for seed in range(6)]
    what, said = source(server, ".", cifar__tar__gz=archive(batches)), []
    folder = fetch("cifar10", tmp_path, source=what)
    (folder / "data_batch_2.bin").write_bytes(batches[1][:3073])
    (folder / "data_batch_3.bin").write_bytes(batches[3])
    fetch("cifar10", tmp_path, source=what, message=said.append)
    assert [(folder / f"data_batch_{n}.bin").read_bytes() for n in range(1, 6)] == batches[:5]
    assert [line.partition(":")[2] for line in said] == [" differs from the published archive; replaced"] * 2


def test_an_archive_without_a_batch(server, tmp_path):
    out = io.BytesIO()
    tarfile.open(fileobj=out, mode="w:gz").close()
    with pytest.raises(DataError, match=r"cifar\.tar\.gz: does not hold data_batch_1\.bin"):
        fetch("cifar10", tmp_path, source=source(server, ".", cifar__tar__gz=out.getvalue()))


def test_the_command_says_what_train_would_read(server, tmp_path, monkeypatch, nowhere, capsys):
    datafiles.publish(monkeypatch, (12, 10))
    what, _ = mnist_source(server, tmp_path)
    monkeypatch.setitem(SOURCES, "mnist", what)
    result = run(capsys, "data", "fetch", "mnist")
    own = tmp_path / "XDG_DATA_HOME" / "eqnp" / "MNIST" / "raw"
    assert (result.code, result.out, result.err) == (0, f"mnist is in {own}\n", "")
    result = run(capsys, "data", "fetch", "mnist", "--folder=~/x")
    assert result.out == f"mnist is in {tmp_path}/HOME/x/MNIST/raw\n"
    assert f"eqnp reads mnist from {own} by default" in result.err and "--set data.folder=" in result.err
    assert not any(path.name.startswith("~") for path in Path().iterdir())
    datafiles.write_mnist(tmp_path / "HOME" / "x", True, counts=(12, 9), like="mnist")
    (own / "train-labels-idx1-ubyte.gz").unlink()
    monkeypatch.setenv("EQNP_DATA", str(tmp_path / "HOME" / "x"))
    assert run(capsys, "data", "fetch", "mnist").code == 0  # whole again
    assert "HOME" in load("mnist").source


# ---- servers that mean harm


def chunked(*pieces, seconds=0.0):
    """Return an answer in chunks, sent as they are: sizes, extensions and trailers are in ``pieces``."""

    def answer(handler):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")
        for piece in pieces:
            handler.wfile.write(piece)
            time.sleep(seconds)

    return answer


def forever(piece, limit=400):
    """Yield ``piece`` again and again, for a test that would fail by then."""
    return (piece for _ in range(limit))


STILL = {
    "trailers": lambda: chunked(b"5\r\nright\r\n0\r\n", *forever(b"X: y\r\n"), seconds=0.02),
    "a size that drips": lambda: chunked(*forever(b"0"), seconds=0.02),
    "an extension that drips": lambda: chunked(b"5;", *forever(b"x"), seconds=0.02),
}


@pytest.mark.parametrize("kind", STILL)
def test_bytes_around_the_content_do_not_hold_a_download_open(server, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(download, "STILL_SECONDS", 0.2)
    what = source(server, a=b"right" * 1000)
    server.answers["/bad/a"] = STILL[kind]()
    began = time.monotonic()
    fetch("mnist", tmp_path, source=two(server, what))
    assert time.monotonic() - began < 4
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["a"]


def test_the_page_of_a_redirect_is_not_read(server, tmp_path):
    what, sent = source(server, a=b"right"), []

    def answer(handler):
        body(status=302, headers=[("Location", "/a")])(handler)
        for _ in range(1000):
            handler.wfile.write(b"x" * 65536)
            sent.append(1)

    server.answers["/bad/a"] = answer
    fetch("mnist", tmp_path, source=Source((server.url + "bad/",), "there", what.files))
    assert len(sent) < 200


def test_text_of_a_server_is_shown_escaped_and_cut(server, tmp_path):
    what = source(server, a=b"right")
    for reason in ("\x1b]0;owned\x07\x9b2J", "long" * 10_000):

        def answer(handler, reason=reason):
            handler.wfile.write(f"HTTP/1.1 503 {reason}\r\n\r\n".encode("latin-1"))

        server.answers["/a"] = answer
        with pytest.raises(DataError) as error:
            fetch("mnist", tmp_path, source=what)
        text = str(error.value)
        assert text.isprintable() and len(text) < len(str(tmp_path)) + 400, text
    assert_line(error, "/a: 503 long", "try again later")
    redirect(server, "http://other.org/\x1b[2J" + "x" * 5000)
    with pytest.raises(DataError) as error:
        fetch("mnist", tmp_path, source=Source((server.url + "bad/",), "there", what.files))
    assert_line(error, "redirects to http://other.org/%1B[2J", "which is not https")
    assert str(error.value).isprintable() and len(str(error.value)) < len(str(tmp_path)) + 400


@pytest.mark.parametrize("loop", [["/bad/a"], ["/x", "/bad/a"], [f"/x{n}" for n in range(30)]], ids=["1", "2", "30"])
def test_redirects_in_a_loop_end(server, tmp_path, loop):
    what = source(server, a=b"right")
    for place, location in zip(["/bad/a", *loop[:-1]], loop, strict=True):
        server.answers[place] = body(status=302, headers=[("Location", location)])
    fetch("mnist", tmp_path, source=two(server, what))
    assert len(server.log) < 20
    with pytest.raises(DataError, match=r"302 The HTTP server returned a redirect error .*; get a elsewhere"):
        fetch("mnist", tmp_path / "other", source=Source((server.url + "bad/",), "there", what.files))
    assert not any((tmp_path / "other" / "there").iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize("kind", ["a link", "a pipe"])
def test_a_part_that_is_none_is_neither_followed_nor_waited_for(server, tmp_path, kind):
    what = source(server, a=b"right")
    (tmp_path / "there").mkdir()
    (tmp_path / "precious").write_bytes(b"mine")
    part = tmp_path / "there" / "a.part"
    part.symlink_to(tmp_path / "precious") if kind == "a link" else os.mkfifo(part)
    fetch("mnist", tmp_path, source=what)
    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert (tmp_path / "there" / "a").read_bytes() == b"right"


def tar(*members) -> bytes:
    """Return a .tar.gz of (TarInfo, content)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as file:
        for member, content in members:
            file.addfile(member, io.BytesIO(content))
    return out.getvalue()


def member(name, size=0, **fields):
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def header(info) -> bytes:
    """Return the header of a member alone, whatever its size."""
    return gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))


BATCH = "cifar-10-batches-bin/data_batch_1.bin"
ARCHIVES = {
    "a link to elsewhere": tar((member(BATCH, type=tarfile.SYMTYPE, linkname="/etc/passwd"), b"")),
    "a hard link to elsewhere": tar((member(BATCH, type=tarfile.LNKTYPE, linkname="../../precious"), b"")),
    "a pipe": tar((member(BATCH, type=tarfile.FIFOTYPE), b"")),
    "a device": tar((member(BATCH, type=tarfile.CHRTYPE), b"")),
    "a folder": tar((member(BATCH, type=tarfile.DIRTYPE), b"")),
    "a path above": tar((member("../precious", 4), b"evil"), (member(f"x/../../{BATCH}", 4), b"evil")),
    "an absolute path": tar((member("/tmp/eqnp-evil", 4), b"evil")),
    "a folder that is a link": tar(
        (member("cifar-10-batches-bin", type=tarfile.SYMTYPE, linkname=".."), b""),
        (member("cifar-10-batches-bin/precious", 4), b"evil"),
    ),
    "a terabyte": header(member(BATCH, 1 << 40)),
    "a negative size": header(member(BATCH, -5)),
    "a sparse terabyte": header(member(BATCH, 1 << 40, type=tarfile.GNUTYPE_SPARSE)),
    "a name of a terabyte": header(member("././@LongLink", 1 << 40, type=tarfile.GNUTYPE_LONGNAME)),
    "a header of a terabyte": header(member("x", 1 << 40, type=tarfile.XHDTYPE)),
    "cut": tar((member(BATCH, 5000), bytes(5000)))[:-20],
    "zeros": gzip.compress(bytes(50_000_000)),
    "no gzip": b"BZh91AY&SY" + bytes(100),
    "xz": b"\xfd7zXZ\0" + bytes(100),
    "escape codes": tar((member("\x1b[2J\u202e" + "x" * 3000, 1 << 20), bytes(1 << 20))),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_hostile_archive_writes_nothing(server, tmp_path, kind):
    (tmp_path / "precious").write_bytes(b"mine")
    what = source(server, ".", cifar__tar__gz=ARCHIVES[kind])
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as error:
            fetch("cifar10", tmp_path / "x", source=what)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert_line(error, "cifar.tar.gz: ", "remove it and fetch again")
    assert str(error.value).isprintable() and len(str(error.value)) < len(str(tmp_path)) + 300
    assert peak < 20_000_000
    assert (tmp_path / "precious").read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 2
    assert not any((tmp_path / "x" / "cifar-10-batches-bin").iterdir()) and not Path("/tmp/eqnp-evil").exists()
