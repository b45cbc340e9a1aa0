"""Dataset files that mean harm, by their format: what is written in the place of one file of a small dataset."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import zipfile
import zlib

import datafiles
import numpy as np

BIG = 120_000_000  # bytes; the small dataset has some thousands
IMAGES, LABELS = datafiles.digits(12, 1)
GOOD = datafiles.idx(IMAGES)
ZEROS = gzip.compress(bytes(BIG), 1)


def idx_header(*shape, kind=8) -> bytes:
    """Return the header of an IDX file."""
    return bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def bomb(header: bytes) -> bytes:
    """Return a gzip file of ``header`` and many zeros."""
    packer = zlib.compressobj(1, wbits=31)
    return packer.compress(header) + packer.compress(bytes(BIG >> 20 << 20)) + packer.flush()


def gzip_of_a_long_name(data: bytes) -> bytes:
    plain = gzip.compress(data)
    return plain[:3] + b"\x08" + plain[4:10] + b"n" * 60_000 + b"\0" + plain[10:]


IDX = {
    "a shape that NumPy refuses": idx_header(0, 2**32 - 1, 2**32 - 1),
    "a shape of nothing": idx_header(0, 28, 28),
    "a shape of 10^38": idx_header(*[2**32 - 1] * 4) + bytes(100),
    "a shape of 2^32 x 0": idx_header(2**32 - 1, 0, 5),
    "no dimensions": idx_header(),
    "255 dimensions": idx_header(*[1] * 255) + b"x",
    "doubles": idx_header(1, kind=14) + bytes(8),
    "a header cut short": idx_header(12, 28, 28)[:9],
    "nothing": b"",
    "one byte": b"\0",
    "one value too many": GOOD + b"x",
    "one value too few": GOOD[:-1],
    "a bomb": ZEROS,
    "a bomb after a header": bomb(idx_header(12, 28, 28)),
    "a bomb after a header that agrees": bomb(idx_header(BIG >> 20, 1 << 10, 1 << 10)),
    "a gzip cut short": gzip.compress(GOOD)[:-9],
    "a gzip without its checksum": gzip.compress(GOOD)[:-8],
    "a gzip of another checksum": gzip.compress(GOOD)[:-8] + bytes(4) + struct.pack("<I", len(GOOD)),
    "a gzip of another length": gzip.compress(GOOD)[:-4] + bytes(4),
    "a gzip of 20,001 parts": gzip.compress(b"") * 20_000 + gzip.compress(GOOD),
    "a gzip with words after it": gzip.compress(GOOD) + b"words",
    "a gzip in a gzip": gzip.compress(gzip.compress(GOOD)),
    "a gzip that has a long name and is cut": gzip_of_a_long_name(GOOD)[:-5],
    "bytes of gzip": b"\x1f\x8b",
    "an xz bomb": lzma.compress(bytes(BIG >> 3), preset=0),
    "a bzip2 bomb": bz2.compress(bytes(BIG >> 3)),
}


def npz(compression=zipfile.ZIP_DEFLATED, **members) -> bytes:
    """Return a .npz whose members are bytes; the others are good."""
    out = io.BytesIO()
    good = {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:5], "y_test": LABELS[:5]}
    with zipfile.ZipFile(out, "w", compression, compresslevel=1) as file:
        for name, value in (good | members).items():
            if value is not None:
                file.writestr(f"{name}.npy", value if isinstance(value, bytes) else datafiles.npy(value))
    return out.getvalue()


def npy(descr: str, shape: str, data: bytes = b"") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return datafiles.npy_header(text) + data


def lying(size: int) -> bytes:
    """Return a .npz whose directory states another size for each member."""
    data = bytearray(npz(zipfile.ZIP_STORED))
    place = data.find(b"PK\x01\x02")
    while place >= 0:
        struct.pack_into("<I", data, place + 24, size)
        place = data.find(b"PK\x01\x02", place + 4)
    return bytes(data)


def long_directory(count: int) -> bytes:
    """Return a .npz whose directory has ``count`` entries, all for one member of no bytes."""
    member = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0) + b"a"
    entry = struct.pack("<IHHHHHHIIIHHHHHII", 0x02014B50, 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    size, begin = len(entry) * count, len(member)
    end = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, size, begin)
    end += struct.pack("<IIQI", 0x07064B50, 0, begin + size, 1)
    return (
        member + entry * count + end + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, *[2**16 - 1] * 2, *[2**32 - 1] * 2, 0)
    )


class Calls:
    """Pickles as a call of ``os.mkdir``."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


NPZ = {
    "a bomb": npz(x_train=bytes(BIG)),
    "a bomb with its header": npz(x_train=npy("'|u1'", f"({BIG},)", bytes(BIG))),
    "a shape of a terabyte": npz(x_train=npy("'|u1'", "(1099511627776,)", b"x")),
    "a shape beyond 64 bits": npz(x_train=npy("'|u1'", "(2**70,)".replace("2**70", str(2**70)), b"x")),
    "a shape of nothing and much": npz(x_train=npy("'|u1'", "(0, 4294967295, 4294967295)")),
    "a negative shape": npz(x_train=npy("'|u1'", "(-12, 28, 28)", IMAGES.tobytes())),
    "a shape that is no tuple": npz(x_train=npy("'|u1'", "12", b"x" * 12)),
    "items of 2 GB": npz(x_train=npy("'|V2147483647'", "(1,)", b"x")),
    "an array of objects that calls": npz(y_train=np.array([Calls()] * 12, object)),
    "records with objects": npz(y_train=npy("[('a', '|O')]", "(12,)", bytes(96))),
    "a header that calls": npz(x_train=npy("__import__('os').mkdir('executed')", "(1,)", b"x")),
    "a header of 60 kB": npz(x_train=npy("'|u1'" + " " * 60_000, "(1,)", b"x")),
    "a header of brackets": npz(x_train=npy("(" * 5_000, "(1,)", b"x")),
    "a header of signs": npz(x_train=npy("-" * 5_000 + "1", "(1,)", b"x")),
    "an unknown version": npz(x_train=b"\x93NUMPY\x09\x00" + bytes(100)),
    "a member of LZMA": npz(zipfile.ZIP_LZMA),
    "a member of bzip2": npz(zipfile.ZIP_BZIP2, x_train=bytes(BIG >> 3)),
    "sizes of a terabyte": lying(2**32 - 2),
    "sizes of nothing": lying(0),
    "an array is missing": npz(y_test=None),
    "paths for names": npz(**{"../x_train": IMAGES, "/tmp/eqnp-evil": IMAGES}, x_train=None),
    "bytes of zip": b"PK\x03\x04" + bytes(200),
    "its end alone": npz()[-22:],
    "a directory of a million entries": long_directory(1_000_000),
}


def text(data: bytes) -> bytes:
    return datafiles._string(data)


def batch(**changes) -> bytes:
    """Return a batch of CIFAR-10 in the python form, ``changes`` being opcodes in the place of its values."""
    pixels, labels = datafiles.pictures(4)
    good = datafiles.cifar_python(pixels, labels)
    values = {
        "batch_label": text(b"x"),
        "labels": b"](" + b"".join(b"K" + bytes([n]) for n in labels) + b"e",
        "data": good[good.index(b"cnumpy.core") : good.index(text(b"filenames"))],
        "filenames": b"](" + text(b"a.png") * 4 + b"e",
    } | changes
    return b"\x80\x02}(" + b"".join(text(name.encode()) + value for name, value in values.items()) + b"u."


TWICE = b"(K\x00t" + b"".join(b"q%c" % n + b"h%c\x86" % n for n in range(40))  # a tuple of itself twice, 40 times
NUMPY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"

DTYPE = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"

PICKLES = {
    "a call of os.mkdir": b"cos\nmkdir\n(S'executed'\ntR.",
    "a call of os.mkdir in protocol 2": b"\x80\x02cposix\nmkdir\nU\x08executed\x85R.",
    "a call in the place of labels": batch(labels=b"cos\nmkdir\n(U\x08executedtR"),
    "an instance": b"(U\x08executedios\nmkdir\n.",
    "an object": b"(cos\nmkdir\nU\x08executedo.",
    "a persistent name": b"Pexecuted\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "a stack name": b"\x8c\x02os\x8c\x05mkdir\x93.",
    "a tuple twice, called": b"\x80\x02" + TWICE + b")R.",
    "a tuple twice, as arguments": b"\x80\x02cnumpy\ndtype\n" + TWICE + b"R.",
    "a tuple twice, as a key": b"\x80\x02}" + TWICE + b"K\x01s.",
    "a tuple twice, as labels": batch(labels=TWICE),
    "a tuple twice, as a label": batch(labels=b"](" + TWICE + b"K\x01K\x02K\x03e"),
    "a tuple twice, as data": batch(data=TWICE),
    "a tuple twice, as a shape": batch(data=NUMPY + b"(K\x01" + TWICE + DTYPE + b"\x89U\x01xtb"),
    "a tuple twice, as a state": batch(data=NUMPY + TWICE + b"b"),
    "a tuple twice, as filenames": batch(filenames=TWICE),
    "a tuple twice, alone": b"\x80\x02" + TWICE + b".",
    "60,000 marks": b"\x80\x02" + b"(" * 60_000 + b"t" * 60_000 + b".",
    "60,000 marks on 60,000 numbers": b"\x80\x02" + b"K\x00" * 60_000 + b"(t" * 60_000 + b".",
    "bytes after the end": batch() + b"cos\nmkdir\n(S'executed'\ntR.",
    "a byte after the end": batch() + b"\0",
    "no end": batch()[:-1],
    "a list of itself": batch(labels=b"]q\x00h\x00ah\x00ah\x00ah\x00a"),
    "two million dictionaries": b"\x80\x02" + b"}" * 2_000_000 + b".",
    "a stack that is empty": b"\x80\x02tR.",
    "a mark that is missing": b"\x80\x02K\x01t.",
    "things below a mark": b"\x80\x02K\x01K\x02(\x86.",
    "a memo that is empty": b"\x80\x02h\x05.",
    "a memo of nothing": b"\x80\x02q\x05.",
    "a build on nothing": b"\x80\x02K\x01b.",
    "a build on a dictionary": b"\x80\x02}}b.",
    "a number of a megabyte": b"\x80\x02\x8b" + struct.pack("<i", 1_000_000) + b"\x7f" * 1_000_000 + b".",
    "a number of 100,000 digits": b"I" + b"9" * 100_000 + b"\n.",
    "a string longer than the file": b"\x80\x02T\xff\xff\xff\x7fxx.",
    "a string of a negative length": b"\x80\x02T\xff\xff\xff\xffxx.",
    "words longer than the file": b"\x80\x04\x8d" + b"\xff" * 8 + b"x.",
    "a shape that lies": batch(data=datafiles.cifar_python(*datafiles.pictures(3))[25:]),
    "labels that are truths": batch(labels=b"](\x88\x88\x89\x89e"),
    "labels that are large": batch(labels=b"](" + b"J\xff\xff\xff\x7f" * 4 + b"e"),
    "labels that are a string": batch(labels=text(b"1234")),
    "filenames that are numbers": batch(filenames=b"](K\x01K\x02K\x03K\x04e"),
    "one more key": batch(more=b"K\x01"),
    "a list": b"\x80\x02].",
    "nothing": b"",
    "escape codes": b"c\x1b]0;owned\x07\n\x1b[2J\n.",
}

BINARY = {
    "nothing": b"",
    "half a record": bytes(3073 + 100),
    "a label of 200": bytes([200]) + bytes(3072),
    "a bomb": ZEROS,
    "another format": batch(),
}
