"""Servers that mean harm: endless answers, redirects, text for a terminal, archives."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import time
import tracemalloc
from pathlib import Path

import pytest
from datafiles import assert_line
from servers import body, redirect, source, two

from eqnp.data import download, fetch
from eqnp.data.published import Source
from eqnp.errors import DataError


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
