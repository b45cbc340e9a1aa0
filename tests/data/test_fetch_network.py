"""Fetching from hostile servers and over bad networks."""

from __future__ import annotations

import errno
import io
import socket
import ssl
import time
import urllib.error
import urllib.request
from http.client import HTTPResponse

import pytest
from datafiles import assert_line
from servers import body, redirect, source, two

from eqnp.data import download, fetch
from eqnp.data.published import Source
from eqnp.errors import DataError

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
