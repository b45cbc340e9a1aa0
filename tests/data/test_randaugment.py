"""RandAugment: each operation against loops over pixels and against Pillow; its choices; its place in a batch."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eqnp.data import Augmentation, Batches
from eqnp.data.randaugment import OPERATIONS, draw, randaugment

NAMES = [operation.__name__ for operation, _ in OPERATIONS]
SHARES = (0.0, 0.3, -0.3, 1.0, -1.0)
SIZES = ((7, 9), (12, 5), (2, 2))


def images(channels, size=(7, 9), count=3):
    """Return images of various ranges, and one of a single colour."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (count, *size, channels)) * generator.random((count, 1, 1, channels))
    x[0] = 90
    return x.astype(np.uint8)


# ---- the simple form: one pixel after the other


def moved(image, source):
    """Return an image whose pixel (i, j) is the pixel under ``source(y, x)`` of its centre, or black."""
    h, w, _ = image.shape
    out = np.zeros_like(image)
    for i in range(h):
        for j in range(w):
            y, x = source(i + 0.5, j + 0.5)
            if 0 <= y < h and 0 <= x < w:
                out[i, j] = image[math.floor(y), math.floor(x)]
    return out


def rotated(image, share):
    h, w, _ = image.shape
    angle = math.radians(30 * share)

    def source(y, x):
        a, b = y - h / 2, x - w / 2
        return math.sin(angle) * b + math.cos(angle) * a + h / 2, math.cos(angle) * b - math.sin(angle) * a + w / 2

    return moved(image, source)


def grey(pixel):
    """Return the grey value of a pixel, a list of channels."""
    weights = (19595, 38470, 7471)
    return (
        int(pixel[0])
        if len(pixel) == 1
        else (sum(int(p) * w for p, w in zip(pixel, weights, strict=True)) + 32768) >> 16
    )


def blended(image, other, share):
    """Return other + factor (image - other) for every value, cut; ``other(i, j, c)``."""
    out = np.zeros_like(image)
    for place in np.ndindex(image.shape):
        start = np.float32(other(*place))
        value = start + np.float32(1 + 0.9 * share) * (np.float32(image[place]) - start)
        out[place] = min(max(int(value), 0), 255)
    return out


def smoothed(image, i, j, c):
    h, w, _ = image.shape
    if not (0 < i < h - 1 and 0 < j < w - 1):
        return image[i, j, c]
    window = [int(image[i + a, j + b, c]) * (5 if (a, b) == (0, 0) else 1) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    return math.floor(sum(window) / 13 + 0.5)


def by_value(image, table):
    """Return an image with ``table(values)[value]`` for every value of a channel."""
    out = np.zeros_like(image)
    for c in range(image.shape[2]):
        values = [int(v) for v in image[..., c].ravel()]
        new = table(values)
        out[..., c] = np.array([new[v] for v in values]).reshape(image.shape[:2])
    return out


def stretched(values):
    low, high = min(values), max(values)
    if low == high:
        return {low: low}
    scale = 255 / (high - low)
    return {v: min(max(int(v * scale + -low * scale), 0), 255) for v in values}


def equalized(values):
    counts = [values.count(v) for v in range(256)]
    step = (len(values) - counts[max(values)]) // 255
    if not step:
        return list(range(256))
    return [min((step // 2 + sum(counts[:v])) // step, 255) for v in range(256)]


def solarized(image, share):
    return by_value(image, lambda values: [v if v < 255 - 255 * share else 255 - v for v in range(256)])


def translation(size, share):
    return math.trunc(150 / 331 * size * share)


SIMPLE = {
    "identity": lambda image, s: image,
    "shear_x": lambda image, s: moved(image, lambda y, x: (y, x + 0.3 * s * y)),
    "shear_y": lambda image, s: moved(image, lambda y, x: (y + 0.3 * s * x, x)),
    "translate_x": lambda image, s: moved(image, lambda y, x: (y, x - translation(image.shape[1], s))),
    "translate_y": lambda image, s: moved(image, lambda y, x: (y - translation(image.shape[0], s), x)),
    "rotate": rotated,
    "brightness": lambda image, s: blended(image, lambda i, j, c: 0, s),
    "color": lambda image, s: blended(image, lambda i, j, c: grey(image[i, j]), s) if image.shape[2] == 3 else image,
    "contrast": lambda image, s: blended(
        image, lambda i, j, c: int(np.mean([grey(p) for p in image.reshape(-1, image.shape[2])]) + 0.5), s
    ),
    "sharpness": lambda image, s: blended(image, lambda i, j, c: smoothed(image, i, j, c), s),
    "posterize": lambda image, s: image // 2 ** round(4 * s) * 2 ** round(4 * s),
    "solarize": lambda image, s: by_value(
        image, lambda values: [v if v < 255 - 255 * s else 255 - v for v in range(256)]
    ),
    "autocontrast": lambda image, s: by_value(image, stretched),
    "equalize": lambda image, s: by_value(image, equalized),
}


def shares(signed):
    return [share for share in SHARES if signed or share >= 0]


@pytest.mark.parametrize(("operation", "signed"), OPERATIONS, ids=NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_against_its_simple_form(operation, signed, channels):
    for size in SIZES:
        x = images(channels, size)
        before = x.copy()
        for share in shares(signed):
            expected = np.stack([SIMPLE[operation.__name__](image, share) for image in x])
            found = operation(x, share)
            assert found.dtype == np.uint8
            np.testing.assert_array_equal(found, expected, err_msg=f"{size} {share}")
        np.testing.assert_array_equal(x, before)  # the input is left as it is
        assert len(operation(x[:0], 0.3)) == 0


def by_pillow(name, picture, share):
    """Return a picture after an operation of Pillow, as torchvision calls it."""
    from PIL import Image, ImageEnhance, ImageOps

    w, h = picture.size
    matrices = {
        "shear_x": (1, 0.3 * share, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, 0.3 * share, 1, 0),
        "translate_x": (1, 0, -translation(w, share), 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, -translation(h, share)),
    }
    if name in matrices:
        return picture.transform((w, h), Image.Transform.AFFINE, matrices[name], Image.Resampling.NEAREST)
    if name in ("brightness", "color", "contrast", "sharpness"):
        return getattr(ImageEnhance, name.title())(picture).enhance(1 + 0.9 * share)
    if name == "rotate":
        return picture.rotate(30 * share, Image.Resampling.NEAREST)
    if name == "posterize":
        return ImageOps.posterize(picture, 8 - round(4 * share))
    if name == "solarize":
        return ImageOps.solarize(picture, 255 - 255 * share)
    return picture if name == "identity" else getattr(ImageOps, name)(picture)


@pytest.mark.parametrize(("operation", "signed"), OPERATIONS, ids=NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_operation_against_pillow(operation, signed, channels):
    image = pytest.importorskip("PIL.Image")
    x = images(channels, (32, 30), 5)
    for share in shares(signed):
        pictures = [image.fromarray(each if channels == 3 else each[..., 0]) for each in x]
        expected = [np.asarray(by_pillow(operation.__name__, each, share)).reshape(x.shape[1:]) for each in pictures]
        np.testing.assert_array_equal(operation(x, share), expected, err_msg=str(share))


def test_the_published_fourteen_and_their_strengths_at_magnitude_nine():
    published = "identity shear_x shear_y translate_x translate_y rotate brightness color contrast sharpness"
    assert " ".join(NAMES) == published + " posterize solarize autocontrast equalize"
    x = np.full((1, 32, 32, 1), 200, np.uint8)
    x[:, 16, 16] = 100
    at = {name: operation(x, 9 / 30) for name, (operation, _) in zip(NAMES, OPERATIONS, strict=True)}
    assert at["translate_x"][0, 16, 20] == 100 and at["translate_y"][0, 20, 16] == 100  # int(4.35) pixels
    assert at["solarize"][0, 0, 0] == 55 and at["solarize"][0, 16, 16] == 100  # from 178.5
    assert at["posterize"][0, 16, 16] == 100 and at["brightness"][0, 16, 16] == 127  # 7 bits; times 1.27


# ---- the choices, and their place in a batch


def test_choices_are_uniform_and_signs_apply_to_each_image_alone():
    choices = draw(np.random.default_rng(0), 20_000, 2)
    counts = np.bincount(choices.ravel(), minlength=28)
    assert len(counts) == 28 and counts.min() > 1200 and counts.max() < 1700
    x = images(3, (8, 8), 28 * 2)
    every = np.repeat(np.arange(28, dtype=np.uint8), 2)[:, None]
    found = randaugment(x, every, 20)
    for n, (choice,) in enumerate(every):
        operation, signed = OPERATIONS[choice // 2]
        expected = operation(x[n : n + 1], 20 / 30 * (-1 if signed and choice % 2 else 1))
        np.testing.assert_array_equal(found[n : n + 1], expected)
    twice = randaugment(x, np.concatenate([every, every[::-1]], axis=1), 20)
    np.testing.assert_array_equal(twice, randaugment(found, every[::-1], 20))


def epoch(batch_size, seed=3, number=2, **options):
    """Return all images of an epoch, sorted by the sample that they come from."""
    x = images(3, (9, 8), 23)
    augmentation = Augmentation(operations=3, **options)
    batches = Batches(x, np.arange(23), batch_size, seed=seed, augmentation=augmentation, dtype=np.float64)
    parts = [batches.batch(number, index) for index in range(batches.count)]
    labels = np.concatenate([y for _, y in parts])
    return np.concatenate([images for images, _ in parts])[np.argsort(labels)]


def test_a_batch_is_a_function_of_seed_epoch_and_sample():
    np.testing.assert_array_equal(epoch(5), epoch(5))
    np.testing.assert_array_equal(epoch(5), epoch(7))  # whatever the size of a batch
    assert (epoch(5) != epoch(5, seed=4)).any() and (epoch(5) != epoch(5, number=3)).any()
    assert (epoch(5) != epoch(5, magnitude=20)).any()


def test_batches_in_any_order_and_from_a_position_are_the_same():
    x, y = images(1, (9, 8), 23), np.arange(23)

    def make():
        return Batches(x, y, 5, seed=1, augmentation=Augmentation(True, 2, 2))

    forward = {(number, index): make().batch(number, index) for number in (0, 1) for index in range(5)}
    again = make()
    for place in [(1, 4), (0, 0), (1, 1), (0, 3), (1, 0)]:
        np.testing.assert_array_equal(again.batch(*place)[0], forward[place][0])


def test_the_order_is_flip_randaugment_crop():
    """Flips and crops are drawn as they are without RandAugment, which stands between them."""
    x = images(3, (9, 8), 40)
    choices = draw(np.random.default_rng(7), 40, 2)
    found = Augmentation(True, 3, 2, 15)(x, np.random.default_rng(1), choices)
    generator = np.random.default_rng(1)
    flipped = Augmentation(flip=True)(x, generator)
    expected = Augmentation(crop=3)(randaugment(flipped, choices, 15), generator)
    np.testing.assert_array_equal(found, expected)


def test_off_by_default_and_evaluation_is_not_augmented():
    x = images(3, (9, 8), 10)
    np.testing.assert_array_equal(Augmentation()(x, np.random.default_rng(0)), x)
    ordered = Batches(x, np.arange(10), 4, augmentation=Augmentation(operations=3), in_order=True, dtype=np.float64)
    np.testing.assert_array_equal(ordered.batch(0, 1)[0], x[4:8] * (1 / 255))


@pytest.mark.parametrize(
    "x", [np.zeros((4, 5, 5, 2), np.uint8), np.zeros((4, 25), np.uint8)], ids=["two channels", "no images"]
)
def test_what_cannot_be_augmented(x):
    with pytest.raises(ValueError, match="RandAugment needs uint8 images of 1 or 3 channels; these are uint8"):
        Batches(x, np.arange(4), 2, augmentation=Augmentation(operations=1))
