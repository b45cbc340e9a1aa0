"""Writes dataset files byte by byte, in the published formats."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
from contextlib import suppress
from dataclasses import replace
from itertools import product

import numpy as np

from eqnp.data.published import DATASETS

READS_ALL = getattr(os, "geteuid", lambda: 0)() == 0  # root, and Windows, where chmod forbids no reading


def assert_line(error, *words):
    """Assert that an error says so in one line."""
    text = str(error.value)
    assert "\n" not in text
    for word in words:
        assert str(word) in text, text


def accept_small(monkeypatch):
    """Let a test's own files pass for published ones: any number of images, labels that begin in any way."""
    for name, published in DATASETS.items():
        monkeypatch.setitem(DATASETS, name, replace(published, counts=None, first_labels=((), ())))


def publish(monkeypatch, mnist=(12, 5), cifar10=(20, 4), cifar100=(6, 3)):
    """Let the published datasets have so many images; the labels that they begin with are as published."""
    for name, published in DATASETS.items():
        counts = {"cifar10": cifar10, "cifar100": cifar100}.get(name, mnist)
        if name != "mnist-small":
            monkeypatch.setitem(DATASETS, name, replace(published, counts=counts))


def label_as(name, arrays):
    """Let the labels among (images, labels, test images, test labels) begin as those of a published dataset."""
    for labels, first in zip(arrays[1::2], DATASETS[name].first_labels, strict=True):
        labels[: len(first)] = first[: len(labels)]


def idx(array) -> bytes:
    """Return a uint8 array as an IDX file."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def digits(count, seed=0, size=28):
    """Return random images (count, size, size) and labels."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, size, size), np.uint8), (np.arange(count) % 10).astype(np.uint8)


def write_mnist(folder, compress=False, dot=False, counts=(12, 5), like=None):
    """Write the four files of MNIST, with labels that begin ``like`` a published dataset's, and return the arrays."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = [*digits(counts[0], 1), *digits(counts[1], 2)]
    if like:
        label_as(like, arrays)
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    for name, array in zip(names, arrays, strict=True):
        name = name.replace("-idx", ".idx") if dot else name
        data = idx(array)
        path = folder / f"{name}-ubyte{'.gz' if compress else ''}"
        path.write_bytes(gzip.compress(data) if compress else data)
    return arrays


def keras(**changes) -> bytes:
    """Return Keras' mnist.npz of 6 and 2 images; ``changes`` are other arrays, or bytes in the place of one."""
    x, y = digits(6)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, value in ({"x_train": x, "y_train": y, "x_test": x[:2], "y_test": y[:2]} | changes).items():
            file.writestr(f"{name}.npy", value if isinstance(value, bytes) else npy(value))
    return out.getvalue()


def npy(array) -> bytes:
    """Return an array as a .npy file."""
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npy_header(text: bytes) -> bytes:
    """Return a .npy file of nothing but a header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def zip_fields(data: bytes, offset: int, value: int) -> bytes:
    """Return an archive with two bytes of the headers of every member replaced: 6 is for the flags, 8 the method."""
    data = bytearray(data)
    for sign, start in ((b"PK\x03\x04", offset), (b"PK\x01\x02", offset + 2)):
        place = data.find(sign)
        while place >= 0:
            struct.pack_into("<H", data, place + start, value)
            place = data.find(sign, place + 4)
    return bytes(data)


def pictures(count, seed=0):
    """Return random pixels (count, 3072), channel-major, and labels."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, 3072), np.uint8), generator.integers(0, 10, count, np.uint8)


def cifar_binary(pixels, *labels) -> bytes:
    """Return a batch of the binary version; CIFAR-100 has coarse and fine labels."""
    return np.concatenate([*(each[:, None] for each in labels), pixels], axis=1).astype(np.uint8).tobytes()


def _string(text: bytes) -> bytes:
    return b"U" + bytes([len(text)]) + text if len(text) < 256 else b"T" + struct.pack("<i", len(text)) + text


def cifar_python(pixels, *labels) -> bytes:
    """Return a batch of the python version: the opcodes that Python 2's cPickle wrote, without memoising.

    CIFAR-100 has coarse and fine labels.
    """
    dtype = b"cnumpy\ndtype\n" + _string(b"u1") + b"K\x00K\x01\x87R" + b"(K\x03" + _string(b"|") + b"NNN"
    dtype += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + _string(b"b") + b"\x87R"
    array += b"(K\x01M" + struct.pack("<H", len(pixels)) + b"M\x00\x0c\x86" + dtype + b"\x89"
    array += _string(pixels.tobytes()) + b"tb"
    items = _string(b"batch_label") + _string(b"training batch 1 of 5")
    for name, each in zip(
        (b"labels",) if len(labels) == 1 else (b"coarse_labels", b"fine_labels"), labels, strict=True
    ):
        items += _string(name) + b"](" + b"".join(b"K" + bytes([n]) for n in each) + b"e"
    items += _string(b"data") + array
    items += _string(b"filenames") + b"](" + b"".join(_string(b"%d.png" % n) for n in range(len(pixels))) + b"e"
    return b"\x80\x02}(" + items + b"u."


def write_cifar(folder, form, count=4):
    """Write the six files of CIFAR-10 in a form and return (pixels, labels) of each."""
    folder.mkdir(parents=True, exist_ok=True)
    end = ".bin" if form == "binary" else ""
    names = [*(f"data_batch_{i}{end}" for i in range(1, 6)), f"test_batch{end}"]
    batches = [pictures(count, seed) for seed in range(6)]
    write = cifar_binary if form == "binary" else cifar_python
    for name, batch in zip(names, batches, strict=True):
        (folder / name).write_bytes(write(*batch))
    return batches


def pictures100(count, seed=0):
    """Return random pixels (count, 3072), channel-major, and the coarse and fine labels of CIFAR-100."""
    pixels, _ = pictures(count, seed)
    fine = np.random.default_rng(seed + 50).permutation(100)[:count].astype(np.uint8)
    return pixels, fine // 5, fine


def write_cifar100(folder, form, counts=(6, 3)):
    """Write the two files of CIFAR-100 in a form and return (pixels, coarse, fine) of each."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [pictures100(count, seed) for seed, count in enumerate(counts)]
    write = cifar_binary if form == "binary" else cifar_python
    for name, part in zip(("train", "test"), parts, strict=True):
        (folder / (name + ".bin" * (form == "binary"))).write_bytes(write(*part))
    return parts


def write_own(folder):
    """Write data of a user: mine.npz and, where Pillow is installed, a folder photos; 28x28, 3 classes."""
    folder.mkdir(parents=True, exist_ok=True)
    x, y = digits(60)
    np.savez(folder / "mine.npz", x_train=x, y_train=y % 3, x_test=x, y_test=y % 3)
    with suppress(ImportError):
        from PIL import Image

        for part, number in product(("train", "test"), range(60)):
            place = folder / "photos" / part / f"class{number % 3}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x[number]).save(place / f"{number}.png")
