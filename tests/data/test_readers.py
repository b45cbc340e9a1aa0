"""The readers of dataset files at their edges: limits that are met exactly, and parts that good files rarely have."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile

import datafiles
import hostile
import numpy as np
import pytest

from eqnp.backends.limits import Limit
from eqnp.data import packed
from eqnp.data.cifar import CIFAR10, PIXELS, read_cifar_binary, read_cifar_python
from eqnp.data.idx import read_idx
from eqnp.data.npz import read_npz
from eqnp.data.packed import DamagedError, gunzip
from eqnp.errors import DataError


class Bytes:
    def __init__(self, data):
        self.data = data

    def read_bytes(self):
        return self.data

    def __str__(self):
        return "file"


def refused(read, data, words):
    with pytest.raises(DataError, match=words):
        read(Bytes(data))


# ---- gzip


def test_a_bound_on_unpacked_bytes_is_kept_exactly():
    text = bytes(range(200)) * 500
    whole = gzip.compress(text)
    assert gunzip(whole, len(text)) == text
    for most in (0, 1, len(text) - 2, len(text) - 1):
        with pytest.raises(DamagedError, match=f"unpacks to more than {most} bytes"):
            gunzip(whole, most)
    assert gunzip(gzip.compress(b""), 0) == b""


def test_parts_share_the_bound_and_their_number_has_one(monkeypatch):
    parts = gzip.compress(b"a" * 1000) + gzip.compress(b"b" * 1000)
    assert gunzip(parts, 2000) == b"a" * 1000 + b"b" * 1000
    with pytest.raises(DamagedError, match="more than 1999"):
        gunzip(parts, 1999)
    monkeypatch.setattr(packed, "MOST_PARTS", 2)
    assert len(gunzip(parts, 2000)) == 2000
    with pytest.raises(DamagedError, match="more than 2 parts"):
        gunzip(parts + gzip.compress(b""), 2000)
    with pytest.raises(DamagedError, match="more than 2 parts"):
        gunzip(parts + gzip.compress(b"c"), 9999)


@pytest.mark.parametrize("zeros", [1, 2, 511, 40_000])
def test_zeros_after_and_between_parts_are_passed_over(zeros):
    one, two = gzip.compress(b"one"), gzip.compress(b"two")
    assert gunzip(one + bytes(zeros), 99) == b"one"
    assert gunzip(one + bytes(zeros) + two, 99) == b"onetwo"
    assert gunzip(one + bytes(zeros) + two + bytes(zeros), 99) == b"onetwo"
    for wrong in (one + bytes(zeros) + b"x", bytes(zeros) + one, bytes(zeros)):
        with pytest.raises(DamagedError):
            gunzip(wrong, 99)


def test_nothing_is_no_gzip_file():
    for data in (b"", gzip.compress(b"x")[:-1], gzip.compress(b"x") + b"\x1f"):
        with pytest.raises(DamagedError, match=r"ends early|incorrect|header"):
            gunzip(data, 99)


def test_large_chunks_are_unpacked_whole():
    data = np.random.default_rng(0).bytes(5 * packed.CHUNK + 3)  # does not compress
    assert gunzip(gzip.compress(data), len(data)) == data
    assert packed.begin_of_gzip(gzip.compress(b"begin" * 100)[:60], 5) == b"begin"
    assert packed.begin_of_gzip(b"no gzip", 5) == b""


def test_the_bound_holds_over_several_chunks():
    """The first chunk is unpacked in several pieces, and so are the bytes after it."""
    data = bytes(20 * packed.CHUNK)
    whole = gzip.compress(data + np.random.default_rng(0).bytes(packed.CHUNK))
    assert len(gunzip(whole, 21 * packed.CHUNK)) == 21 * packed.CHUNK
    for most in (packed.CHUNK, 20 * packed.CHUNK, 21 * packed.CHUNK - 1):
        with pytest.raises(DamagedError, match=f"more than {most} bytes"):
            gunzip(whole, most)


# ---- IDX


def test_headers_of_idx_at_their_ends():
    refused(read_idx, hostile.idx_header(3, 2)[:-1], "header is cut short")
    refused(read_idx, hostile.idx_header(3)[:4], "header is cut short")
    refused(read_idx, hostile.idx_header(3)[:3], "not an IDX file")
    refused(read_idx, hostile.idx_header(3, 2), "truncated: 0 bytes where its header says 6")
    refused(read_idx, hostile.idx_header(3, 2) + bytes(7), "too long: 7 bytes where its header says 6")
    refused(read_idx, hostile.idx_header(0, 5), r"gives the shape \(0, 5\)")
    refused(read_idx, hostile.idx_header(1, 1, 1, 1, 1) + b"x", "not an IDX file")
    refused(read_idx, b"\0\1\x08\1" + bytes(5), "not an IDX file")
    for shape in ((1,), (2, 1), (1, 2, 3), (2, 1, 1, 1)):
        data = bytes(range(int(np.prod(shape))))
        found = read_idx(Bytes(hostile.idx_header(*shape) + data))
        assert found.shape == shape and found.tobytes() == data and found.dtype == np.uint8


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf", b"\n \t"])
def test_pages_and_pointers_are_called_what_they_are(mark):
    for text, words in (
        (b"<!DOCTYPE html><p>", "a web page"),
        (b"<HTML>", "a web page"),
        (b"<?xml version='1.0'?>", "XML"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
    ):
        refused(read_idx, mark + text, f"is {words}")


# ---- CIFAR


def test_the_last_label_and_the_first_record():
    record = bytes([9]) + bytes(range(256)) * 12
    images, labels = read_cifar_binary(Bytes(record * 3))
    assert labels.tolist() == [9, 9, 9] and labels.dtype == np.uint8
    assert images.shape == (3, 32, 32, 3) and images[2, 0, 1].tolist() == [1, 1, 1]
    refused(read_cifar_binary, bytes([10]) + record[1:], "has the label 10")
    refused(read_cifar_binary, record[:-1], f"{PIXELS} bytes, not a multiple of {CIFAR10.record}")


LABELS = [0, 9, 3, 3]


def read(data):
    return read_cifar_python(Bytes(data))


@pytest.mark.parametrize(
    "labels",
    [
        b"]K\x00aK\x09aK\x03aK\x03a",  # APPEND, one by one
        b"](K\x00K\x09K\x03K\x03e",
        b"](M\x00\x00J\x09\x00\x00\x00I3\nK\x03e",  # BININT2, BININT, INT
        b"](K\x00K\x09K\x03q\x07h\x07e",  # BINPUT and BINGET
        b"](K\x00K\x09K\x03r\x07\x01\x00\x00j\x07\x01\x00\x00e",  # LONG_BINPUT and LONG_BINGET
        b"](K\x00K\x09\x8a\x01\x03K\x03e",  # LONG1
    ],
)
def test_numbers_come_in_every_published_form(labels):
    assert read(hostile.batch(labels=labels))[1].tolist() == LABELS


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": b"](K\x00K\x09K\x03e"}, "differ in length"),
        ({"filenames": b"](" + hostile.text(b"a.png") * 3 + b"e"}, "differ in length"),
        ({"filenames": b"](" + hostile.text(b"a.png") * 5 + b"e"}, "differ in length"),
        ({"labels": b"](K\x00K\x0aK\x03K\x03e"}, "not numbers from 0 to 9"),
        ({"labels": b"](K\x00J\xff\xff\xff\xffK\x03K\x03e"}, "not numbers from 0 to 9"),
        ({"labels": b"](K\x00" + hostile.text(b"1") + b"K\x03K\x03e"}, "not numbers"),
        ({"labels": b"N"}, "not numbers"),
        ({"filenames": b"N"}, "filenames are not strings"),
        ({"data": hostile.text(b"x" * 4 * PIXELS)}, "its keys differ"),
        ({"data": b"]" + hostile.text(b"x") + b"b"}, "builds something other than an array"),
        ({"data": hostile.NUMPY + hostile.DTYPE + b"b"}, "builds something other than an array"),
        ({"data": hostile.DTYPE + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x01tb"}, "something other"),
        ({"data": b"}(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"}, "something other"),
        ({"data": hostile.NUMPY + b"(K\x01K\x00K\x01\x86" + hostile.DTYPE + b"\x89U\x01xtb"}, "size of its shape"),
        ({"data": b"cos\nmkdir\n"}, "opcode GLOBAL 'os mkdir'"),
        ({"data": b"cnumpy\nndarray\n)R"}, "it calls numpy ndarray"),
        ({"data": b"K\x07)R"}, "it calls a int"),
        ({"data": b"0"}, r"opcode POP\)"),
    ],
)
def test_what_differs_is_named(changes, words):
    with pytest.raises(DataError, match=words):
        read(hostile.batch(**changes))


def array(version=b"K\x01", shape=b"K\x00M\x00\x0c\x86", dtype=None, fortran=b"\x89", data=b"U\x00"):
    """Return the pickle of an array of no rows, with one part of its state changed."""
    known = hostile.DTYPE + b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    return hostile.NUMPY + b"(" + version + shape + (known if dtype is None else dtype) + fortran + data + b"tb"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": b"K\x02"}, "C order"),
        ({"dtype": b"K\x07"}, "C order"),
        ({"fortran": b"\x88"}, "C order"),
        ({"fortran": b"K\x01"}, "C order"),
        ({"data": b"K\x00"}, "C order"),
        ({"data": b"]"}, "C order"),
        ({"shape": b"K\x00\x85"}, "size of its shape"),
        ({"shape": b"K\x00M\x00\x0cK\x01\x87"}, "size of its shape"),
        ({"shape": b"NM\x00\x0c\x86"}, "size of its shape"),
        ({"shape": b"K\x00U\x00\x86"}, "size of its shape"),
        ({"shape": b"K\x00J\x00\xf4\xff\xff\x86"}, "size of its shape"),
        ({"shape": b"J\xff\xff\xff\xffJ\xff\xff\xff\xff\x86", "data": b"U\x01x"}, "size of its shape"),
    ],
)
def test_every_part_of_an_array_is_checked(changes, words):
    empty = {"labels": b"]", "filenames": b"]"}
    for right in ({}, {"fortran": b"K\x00"}):
        assert read(hostile.batch(data=array(**right), **empty))[0].shape == (0, 32, 32, 3)
    with pytest.raises(DataError, match=words):
        read(hostile.batch(data=array(**changes), **empty))


def test_calls_and_dictionaries_that_differ_a_little():
    call = hostile.NUMPY.replace(b"K\x00\x85", b"K\x01\x85")
    assert call != hostile.NUMPY
    with pytest.raises(DataError, match=r"it calls numpy\.core\.multiarray _reconstruct"):
        read(hostile.batch(data=call))
    refused(read_cifar_python, b"\x80\x02}U\x01aK\x01s.", "KeyError: b'labels'")  # SETITEM
    refused(read_cifar_python, b"\x80\x02}K\x01s.", "keys are not strings")
    refused(read_cifar_python, b"\x80\x02}(U\x01au.", "do not fit together|damaged|zip")  # a key without a value
    refused(read_cifar_python, b"\x80\x02}}.", "it is not a dictionary")
    refused(read_cifar_python, b"\x80\x02K\x01.", "it is not a dictionary")


def test_an_array_of_no_rows_and_a_mark_below():
    empty = hostile.NUMPY + b"(K\x01K\x00M\x00\x0c\x86" + hostile.DTYPE
    empty += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x00tb"
    images, labels = read(hostile.batch(labels=b"]", filenames=b"]", data=empty))
    assert images.shape == (0, 32, 32, 3) and labels.shape == (0,) and labels.dtype == np.uint8
    refused(read_cifar_python, b"\x80\x02K\x01(K\x02\x86.", "do not fit together")
    refused(read_cifar_python, b"\x80\x02" + b"}" * 2_000_001 + b".", "too many opcodes")
    refused(read_cifar_python, b"\x80\x03}.", "opcode PROTO")


def test_the_reason_of_a_damaged_pickle_is_told():
    refused(read_cifar_python, b"\x80\x02\xff", "ValueError: at position 2, opcode b'")


# ---- npz


def archive(tmp_path, save=np.savez, **arrays):
    path = tmp_path / "a.npz"
    save(path, **arrays)
    return path


def test_arrays_in_any_order_and_byte_order_come_back(tmp_path):
    a = np.arange(24, dtype=">f4").reshape(2, 3, 4)
    for save in (np.savez, np.savez_compressed):
        found = read_npz(
            archive(tmp_path, save, a=np.asfortranarray(a), b=a[:0], c=np.array(7)), ["a", "b", "c"], ["d"]
        )
        np.testing.assert_array_equal(found["a"], a)
        assert found["a"].flags.c_contiguous and found["a"].dtype == np.dtype("f4") and found["a"].dtype.isnative
        assert found["b"].shape == (0, 3, 4) and found["c"] == 7 and list(found) == ["a", "b", "c"]


def test_what_an_archive_has_and_is_is_said(tmp_path):
    with pytest.raises(DataError, match=r"it has nothing; it is not my data$"):
        read_npz(archive(tmp_path), ["x"], what="my data")
    path = archive(tmp_path, **{f"a{n}": np.zeros(1) for n in range(8)})
    with pytest.raises(DataError, match=r"no array x; needed are x, y, it has a0, a1, a2, a3, a4, a5$"):
        read_npz(path, ["x", "y"])
    with pytest.raises(DataError, match=r"its arrays have 16 bytes, more than 15$"):
        read_npz(path, ["a0"], ["a1"], most=15)
    assert list(read_npz(path, ["a0"], ["a1"], most=16)) == ["a0", "a1"]
    path.write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"damaged or not a .npz file \(BadZipFile: "):
        read_npz(path, ["x"])


def test_how_far_large_arrays_may_be_compressed(tmp_path, monkeypatch):
    monkeypatch.setattr("eqnp.data.npz.LARGE", 10_000)
    path = archive(tmp_path, np.savez_compressed, small=np.zeros(10, np.uint8), large=np.zeros(90_000, np.uint8))
    with pytest.raises(DataError, match=r"would unpack from [\d.e-]+ MB to 9e-05 GB, mostly large; if that"):
        read_npz(path, ["small", "large"])
    assert read_npz(path, ["small"])["small"].shape == (10,)
    monkeypatch.setattr("eqnp.data.npz.LARGE", 90_010)
    assert read_npz(path, ["small", "large"])["large"].shape == (90_000,)


def test_a_member_with_a_wrong_checksum_or_length_is_damaged(tmp_path):
    path = archive(tmp_path, a=np.arange(3_000_000, dtype=np.uint8))  # more than is read at once
    data = bytearray(path.read_bytes())
    data[2_500_000] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged or not a .npz file .*CRC"):
        read_npz(path, ["a"])


@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_both_versions_of_headers_are_read(tmp_path, version):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.arange(5.0), version)
    (tmp_path / "a.npz").write_bytes(hostile.npz(x_train=file.getvalue()))
    np.testing.assert_array_equal(read_npz(tmp_path / "a.npz", ["x_train"])["x_train"], np.arange(5.0))


def test_versions_and_records_that_are_not_read(tmp_path):
    path, file = tmp_path / "a.npz", io.BytesIO()
    np.lib.format.write_array(file, np.arange(5.0), (3, 0))
    records = datafiles.npy(np.zeros(3, [("a", "f4")]))
    for member, words in (
        (file.getvalue(), r"version \(3, 0\) of the .npy format"),
        (b"\x93NUMPY\x02\x01" + file.getvalue()[8:], r"version \(2, 1\)"),
        (records, "x_train holds records"),
    ):
        path.write_bytes(hostile.npz(x_train=member))
        with pytest.raises(DataError, match=words):
            read_npz(path, ["x_train"])


def test_large_arrays_come_in_several_pieces(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, 2_500_000, dtype=np.uint8)
    for save in (np.savez, np.savez_compressed):
        np.testing.assert_array_equal(read_npz(archive(tmp_path, save, a=values), ["a"])["a"], values)


def test_a_member_shorter_than_its_header_says_is_damaged(tmp_path):
    """The archive itself says how long it is, so a cut member shows when it is read."""
    path = archive(tmp_path, a=np.zeros(20_000, np.uint8))
    data, whole = bytearray(path.read_bytes()), 20_000 + 128
    for place in range(len(data) - 4):
        if data[place : place + 4] == struct.pack("<I", whole):
            data[place : place + 4] = struct.pack("<I", whole - 10)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a is damaged: its header says .* but 19990 bytes follow"):
        read_npz(path, ["a"])


def test_arrays_beyond_the_memory_are_refused_and_an_unknown_memory_is_none(tmp_path, monkeypatch):
    path = archive(tmp_path, a=np.zeros(100, np.uint8))
    monkeypatch.setattr("eqnp.data.npz.limits.memory", lambda: Limit(100, "a test"))
    assert read_npz(path, ["a"])["a"].shape == (100,)
    monkeypatch.setattr("eqnp.data.npz.limits.memory", lambda: Limit(99, "a test"))
    with pytest.raises(DataError, match=rf"{path}: its arrays take 1e-07 GB, but only 9.9e-08 GB .*\(a test\)"):
        read_npz(path, ["a"])
    monkeypatch.setattr("eqnp.data.npz.limits.memory", lambda: None)
    assert read_npz(path, ["a"])["a"].shape == (100,)


def test_the_compression_that_is_believed_is_exact(tmp_path, monkeypatch):
    monkeypatch.setattr("eqnp.data.npz.LARGE", 1)
    path = archive(tmp_path, np.savez_compressed, a=np.zeros(90_000, np.uint8))
    with zipfile.ZipFile(path) as file:
        (info,) = file.infolist()
    monkeypatch.setattr("eqnp.data.npz.FACTOR", 90_000 / info.compress_size)
    assert read_npz(path, ["a"])["a"].shape == (90_000,)
    monkeypatch.setattr("eqnp.data.npz.FACTOR", 89_999 / info.compress_size)
    with pytest.raises(DataError, match="would unpack"):
        read_npz(path, ["a"])
