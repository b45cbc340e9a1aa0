"""Checkpoints made to harm, with a right checksum: each is refused in one line, in bounded time and memory."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc

import h5py
import numpy as np
import pytest
from commands import assert_fails, overrides, run, train_small

from eqnp.errors import CheckpointError
from eqnp.runs import checkpoint
from eqnp.runs.plainhdf5 import MOST_LEVELS

BLOCK = checkpoint.BLOCK
SECONDS, BYTES = 5, 100e6
CONTENT = {
    "parameters": {f"forward.{n}.weight": np.full((3, 4), n, np.float32) for n in range(12)},  # in a heap
    "optimizer": {"velocity": {"a": np.zeros((0, 2)), "b": np.arange(5.0)}, "count": 7},
    "progress": {"name": "ε\0", "rate": 0.5, "done": True, "large": 2**100, "text": "text " * 50},
}


def signed(rest):
    """Return a whole file with a right checksum."""
    return checkpoint._user_block(rest) + rest


def saved(path):
    checkpoint.save(path, CONTENT, kind="training")
    return path.read_bytes()[BLOCK:]


def leaves(tree):
    for value in tree.values():
        yield from leaves(value) if isinstance(value, dict) else [value]


def refusal(path):
    """Return why a file is refused, which takes little time, or None."""
    before = time.process_time()
    try:
        content = checkpoint.load(path, kind="training")
    except CheckpointError as error:
        text = str(error)
        assert text.startswith(f"{path}: ") and "\n" not in text and text.isprintable() and len(text) < 1000
        return text
    else:
        assert all(isinstance(value, (np.ndarray, str, bool, int, float)) for value in leaves(content))
        return None
    finally:
        assert time.process_time() - before < SECONDS


# ---- through h5py: what HDF5 has and eqnp never writes

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def dataset(name, **options):
    """Put a dataset with these options in place of an array."""

    def change(file):
        del file["optimizer/velocity/b"]
        file.create_dataset("optimizer/velocity/b", **{"track_times": False, **options})

    CASES[name] = change


def link(name, target):
    def change(file):
        del file["optimizer/velocity/b"]
        file["optimizer/velocity/b"] = target

    CASES[name] = change


def low_level(name, kind, shape=(), plan=None):
    """Put a dataset of a low-level type, or with a low-level plan, in place of an array."""

    def change(file):
        group = file["optimizer/velocity"]
        del group["b"]
        space = h5py.h5s.create(h5py.h5s.NULL) if shape is None else h5py.h5s.create_simple(shape)
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        if plan:
            plan(properties)
        h5py.h5d.create(group.id, b"b", kind(), space, properties)

    CASES[name] = change


five = np.arange(5.0)
link("soft link", h5py.SoftLink("/parameters/forward.0.weight"))
link("soft link to nothing", h5py.SoftLink("/nowhere"))
link("soft link to itself", h5py.SoftLink("/optimizer/velocity/b"))
link("external link", h5py.ExternalLink("other.h5", "/a"))
link("external link to a pipe", h5py.ExternalLink("/dev/stdin", "/a"))
dataset("chunked", data=five, chunks=(2,))
dataset("gzip", data=five, compression="gzip")
dataset("gzip bomb", shape=(400, 1000, 1000), dtype="f8", compression="gzip", fillvalue=1.0)
dataset("lzf", data=five, compression="lzf")
dataset("shuffle", data=five, shuffle=True, chunks=(5,))
dataset("fletcher32", data=five, fletcher32=True)
dataset("scale-offset", data=np.arange(5), scaleoffset=4)
dataset("growing", data=five, maxshape=(None,))
dataset("growing to a limit", data=five, maxshape=(9,), chunks=(5,))
dataset("external storage", shape=(5,), dtype="f8", external=[("/etc/passwd", 0, 40)])
dataset("external storage in a pipe", shape=(5,), dtype="f8", external=[("/tmp/eqnp-no-such-pipe", 0, 40)])
dataset("never written", shape=(5,), dtype="f8")
dataset("3 GB that were never written", shape=(3, 10**9), dtype="u1")
dataset("2^62 bytes that were never written", shape=(2**60,), dtype="f4")
dataset("no dataspace", data=h5py.Empty("f8"))
dataset("text in an array", data=["a", "b"])
dataset("text of fixed length", data=np.array(b"text"))
dataset("bytes of any length", data=b"text", dtype=h5py.string_dtype("ascii"))
dataset("ragged", shape=(2,), dtype=h5py.vlen_dtype(np.int32))
dataset("references", shape=(2,), dtype=h5py.ref_dtype)
dataset("references to regions", shape=(2,), dtype=h5py.regionref_dtype)
dataset("compound", data=np.zeros(3, [("a", "f4"), ("b", "i8")]))
dataset("subarrays", shape=(3,), dtype=np.dtype(("f4", (2, 2))))
dataset("opaque", data=np.zeros(3, "V5"))
dataset("enumeration", data=np.zeros(3, "i1"), dtype=h5py.enum_dtype({"A": 0, "B": 1}, "i1"))
dataset("long double", data=np.zeros(3, np.longdouble))
dataset("complex long double", data=np.zeros(3, np.clongdouble))
dataset("times recorded", data=five, track_times=True)
low_level("bit field", lambda: h5py.h5t.STD_B8LE, (3,))
low_level("odd float", lambda: h5py.h5t.IEEE_F16LE, None)
low_level("compact", lambda: h5py.h5t.IEEE_F64LE, (5,), lambda p: p.set_layout(h5py.h5d.COMPACT))
low_level("null space", lambda: h5py.h5t.IEEE_F64LE, None)
low_level("time type", lambda: h5py.h5t.UNIX_D32LE, (3,))
low_level("2^61 bytes by a low-level type", lambda: h5py.h5t.STD_I32BE, (2**59,))
low_level("32 dimensions", lambda: h5py.h5t.IEEE_F64LE, (4,) * 32)


@case
def virtual(file):
    layout = h5py.VirtualLayout((5,), "f8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "a", (5,))
    file.create_virtual_dataset("v", layout)


@case
def virtual_of_this_file(file):
    layout = h5py.VirtualLayout((5,), "f8")
    layout[:] = h5py.VirtualSource(".", "optimizer/velocity/b", (5,))
    file.create_virtual_dataset("v", layout)


@case
def hard_link(file):
    file["copy"] = file["optimizer/velocity/b"]


@case
def cycle(file):
    file["optimizer/again"] = file["optimizer"]


@case
def cycle_through_the_root(file):
    file["optimizer/again"] = file["/"]


@case
def forty_groups_of_two_links(file):
    group = file.create_group("g0")
    for n in range(40):
        below = file.create_group(f"g{n + 1}")
        group["a"] = group["b"] = below
        group = below


@case
def thousand_names(file):
    for n in range(1000):
        file[f"n{n}"] = file["optimizer/count"]


@case
def deep(file):
    file.create_group("/".join("d" * (MOST_LEVELS + 2)), track_order=True)


@case
def very_deep(file):
    group = file
    for _ in range(3000):
        group = group.create_group("d", track_order=True)


@case
def attribute_of_the_root(file):
    file.attrs["more"] = "x"


@case
def no_kind(file):
    del file.attrs["kind"]


@case
def kind_is_a_number(file):
    file.attrs["kind"] = 7


@case
def kind_is_an_array(file):
    file.attrs["kind"] = ["training"]


@case
def kind_is_bytes(file):
    file.attrs["kind"] = np.bytes_("training")


@case
def kind_is_empty_space(file):
    file.attrs["kind"] = h5py.Empty("S1")


@case
def attribute_of_a_group(file):
    file["optimizer"].attrs["python"] = "int"


@case
def attribute_of_an_array(file):
    file["optimizer/velocity/b"].attrs["unit"] = "m"


@case
def many_attributes(file):
    for n in range(100):
        file["optimizer"].attrs[f"a{n}"] = n


@case
def large_attribute(file):
    file.attrs["large"] = "x" * 60_000


@case
def another_type(file):
    file["optimizer/count"].attrs["python"] = "list"


@case
def float_of_another_type(file):
    file["progress/rate"].attrs["python"] = "list"


@case
def float_called_int(file):
    file["progress/rate"].attrs["python"] = "int"


@case
def array_called_float(file):
    file["optimizer/velocity/b"].attrs["python"] = "float"


@case
def number_called_text(file):
    file["optimizer/count"].attrs["python"] = "str"


@case
def text_without_a_type(file):
    del file["progress/text"].attrs["python"]


@case
def text_called_int(file):
    file["progress/text"].attrs["python"] = "int"


@case
def thousands_of_digits(file):
    del file["progress/large"]
    file["progress"].create_dataset("large", data="9" * 10_000).attrs["python"] = "int"


@case
def old_group(file):
    """A group in the form of a symbol table."""
    file.create_group("old", track_order=False)


@case
def named_type(file):
    file["type"] = np.dtype("f8")


@case
def array_of_a_named_type(file):
    file["type"] = np.dtype("f8")
    file.create_dataset("a", data=five, dtype=file["type"])


@case
def name_with_control_codes(file):
    file["\x1b[2J\u202eevil" + "x" * 5000] = h5py.SoftLink("/nowhere")


@case
def comment(file):
    h5py.h5o.set_comment(file["optimizer"].id, b"a comment")


@case
def deleted_members(file):
    """eqnp never deletes: the heap of the group has a hole."""
    del file["parameters/forward.3.weight"]


@pytest.mark.parametrize("name", CASES)
def test_what_eqnp_never_writes_is_refused(tmp_path, name):
    path = tmp_path / "a.h5"
    checkpoint.save(path, CONTENT, kind="training")
    try:
        with h5py.File(path, "r+") as file:
            CASES[name](file)
    except TypeError as error:  # this HDF5 has no such thing
        pytest.skip(str(error))
    path.write_bytes(signed(path.read_bytes()[BLOCK:]))
    tracemalloc.start()
    try:
        assert "cannot be read" in (refusal(path) or "it is accepted")
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("version", ["v108", "v110", "latest"])
def test_a_newer_layout_is_refused(tmp_path, version):
    with h5py.File(tmp_path / "a.h5", "w", userblock_size=BLOCK, track_order=True, libver=version) as file:
        file.attrs["kind"], file.attrs["eqnp"] = "training", "0"
        file["a"] = five
    path = tmp_path / "a.h5"
    path.write_bytes(signed(path.read_bytes()[BLOCK:]))
    assert "superblock is unusual" in refusal(path)


# ---- byte by byte


def refused_after(path, rest):
    path.write_bytes(signed(bytes(rest)))
    return refusal(path)


FIELDS = [struct.pack("<Q", value) for value in (0, 1, 8, 96, 2**16, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)]


def test_addresses_and_lengths_anywhere_are_checked(tmp_path):
    """Every aligned place gets lengths and addresses that are too large, too small, or lead to another object."""
    rest = saved(tmp_path / "a.h5")
    generator = np.random.default_rng(0)
    for place in range(0, len(rest) - 8, 24):
        other = bytearray(rest)
        other[place : place + 8] = FIELDS[generator.integers(len(FIELDS))]
        refused_after(tmp_path / "a.h5", other)


def mutations(path, count, seed):
    """Change random bytes, copy, swap, cut and zero random parts; ``refusal`` checks what each does."""
    rest, generator = saved(path), np.random.default_rng(seed)
    used = np.flatnonzero(np.frombuffer(rest, np.uint8))  # most of a small file is empty
    refused = 0
    for _ in range(count):
        other = bytearray(rest)
        for _ in range(generator.integers(1, 4)):
            a, b = map(int, generator.choice(used, 2))
            length = int(generator.integers(1, 40))
            match generator.integers(6):
                case 0 | 1:
                    other[a] = generator.integers(256)
                case 2:
                    other[a] ^= 1 << int(generator.integers(8))
                case 3:
                    other[a : a + length] = other[b : b + length]
                case 4:
                    other[a : a + length] = bytes(length)
                case 5:
                    other[a : a + 8] = FIELDS[generator.integers(len(FIELDS))]
        if generator.integers(20) == 0:
            other = other[: int(generator.integers(len(other)))]
        refused += refused_after(path, other) is not None
    assert refused > count / 5  # the rest changed numbers, or bytes without a meaning


def test_random_changes_with_a_right_checksum(tmp_path):
    mutations(tmp_path / "a.h5", 1000, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_many_random_changes_with_a_right_checksum(tmp_path, seed):
    mutations(tmp_path / "a.h5", 5000, seed)


def test_millions_of_messages_end_soon(tmp_path):
    """A header of 4 MB of empty messages, and one that continues in itself."""
    rest = bytearray(saved(tmp_path / "a.h5"))
    rest[64:72] = struct.pack("<Q", len(rest))  # the root
    flood = b"OHDR\x02\x06" + struct.pack("<I", 4_000_000) + bytes(4_000_004)
    assert "far more objects" in refused_after(tmp_path / "a.h5", rest + flood)
    again = struct.pack("<BBHIII", 1, 0, 1, 1, 24, 0) + struct.pack("<HHIQQ", 16, 16, 0, len(rest) + 16, 24)
    assert "overlap" in refused_after(tmp_path / "a.h5", rest + again)


def test_commands_refuse_in_one_line(capsys, tmp_path):
    folder = tmp_path / "run"
    assert train_small(capsys, folder, *overrides("training.epochs=1")).code == 0
    for name in ("last.h5", "best.h5"):
        with h5py.File(folder / name, "r+") as file:
            weight = file["parameters/forward.0.weight"]
            shape, dtype = weight.shape, weight.dtype
            del file["parameters/forward.0.weight"]
            file.create_dataset(
                "parameters/forward.0.weight",
                shape=shape,
                dtype=dtype,
                external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)],
            )
        (folder / name).write_bytes(signed((folder / name).read_bytes()[BLOCK:]))
    assert_fails(run(capsys, "train", "--resume", folder), 5, "last.h5: its checksum is right, but")
    assert_fails(run(capsys, "evaluate", folder), 5, "best.h5: its checksum is right, but")
    assert_fails(run(capsys, "states", folder, "--out", tmp_path / "s.h5"), 5, "best.h5")


def test_the_kind_of_a_file_is_shown_escaped_and_cut(tmp_path):
    checkpoint.save(tmp_path / "a.h5", {}, kind="\x1b[2J\u202e" + "x" * 1_000_000)
    assert "holds \\x1b[2J\\u202exx" in refusal(tmp_path / "a.h5")


def test_a_file_far_larger_than_the_network_is_not_read(capsys, tmp_path):
    """Here 3 GB, of which the disk holds only the beginning."""
    folder = tmp_path / "run"
    assert train_small(capsys, folder, *overrides("training.epochs=1")).code == 0
    path = folder / "last.h5"
    data = path.read_bytes()
    length = struct.pack("<Q", 3 * 10**9 - BLOCK)
    path.write_bytes(data[:12] + length + data[20:])
    os.truncate(path, 3 * 10**9)
    result = run(capsys, "train", "--resume", folder)
    assert_fails(result, 5, "last.h5: has 3000000000 bytes, far more than this network needs")
