"""Batches: their order, augmentation and normalisation as functions of (seed, epoch, index)."""

from __future__ import annotations

import datafiles
import numpy as np
import pytest

from eqnp.data import Augmentation, Batches, Normalisation


def images(count=23, size=(6, 5), channels=3):
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (count, *size, channels), np.uint8), np.arange(count)


def make(**options):
    return Batches(*images(), 5, **options)


def everything(batches, epoch):
    return [batches.batch(epoch, index) for index in range(batches.count)]


def test_an_epoch_has_every_sample_once_and_another_order_each_time():
    batches = make(seed=3)
    assert batches.count == 5
    orders = [np.concatenate([y for _, y in everything(batches, epoch)]) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(23))
    assert (orders[0] != orders[1]).any() and (orders[1] != orders[2]).any()
    assert len(batches.batch(0, 4)[1]) == 3


def test_in_order():
    x, y = images()
    ordered = make(in_order=True, augmentation=Augmentation(True, 2))
    np.testing.assert_array_equal(np.concatenate([b for _, b in everything(ordered, 7)]), y)
    np.testing.assert_allclose(np.concatenate([a for a, _ in everything(ordered, 7)]), x / 255, atol=1e-6)


def test_a_batch_depends_on_seed_epoch_and_index_alone():
    options = {"seed": 1, "augmentation": Augmentation(True, 2)}
    forward = [everything(make(**options), epoch) for epoch in range(3)]
    again = make(**options)
    for epoch, index in [(2, 4), (0, 0), (1, 3), (0, 2), (2, 0)]:  # any order, no replay
        for a, b in zip(again.batch(epoch, index), forward[epoch][index], strict=True):
            np.testing.assert_array_equal(a, b)
    other = make(**(options | {"seed": 2}))
    assert (other.batch(0, 0)[0] != forward[0][0][0]).any()


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("crop", [0, 1, 4])
def test_augmentation_is_one_of_the_possible_pictures_and_all_of_them_occur(flip, crop):
    """Against the loop: pad by the edge, cut at every place, mirrored or not."""
    image = images(1, (12, 11))[0]
    drawn = Augmentation(flip, crop)(np.repeat(image, 8000, axis=0), np.random.default_rng(0))
    h, w = image.shape[1:3]
    possible = {}
    for mirrored in {False, flip}:
        source = image[0, :, ::-1] if mirrored else image[0]
        padded = np.pad(source, ((crop, crop), (crop, crop), (0, 0)), mode="edge")
        for i in range(2 * crop + 1):
            for j in range(2 * crop + 1):
                possible[padded[i : i + h, j : j + w].tobytes()] = (mirrored, i, j)
    counts = dict.fromkeys(possible.values(), 0)
    for each in drawn:
        counts[possible[each.tobytes()]] += 1
    expected = 8000 / len(counts)
    assert min(counts.values()) > 0.3 * expected and max(counts.values()) < 2 * expected


def test_normalisation():
    x = datafiles.pictures(2)[0].reshape(2, 32, 32, 3)
    np.testing.assert_allclose(Normalisation.named("unit", "cifar10")(x, np.float64), x / 255, atol=1e-15)
    published = Normalisation.named("published", "cifar10")(x, np.float64)
    mean, deviation = np.array([0.4914, 0.4822, 0.4465]), 3 * np.array([0.2023, 0.1994, 0.2010])
    np.testing.assert_allclose(published, (x / 255 - mean) / deviation, atol=1e-14)
    assert Normalisation.named("published", "mnist") == Normalisation.named("unit", "mnist")
    assert Normalisation()(x, np.float32).dtype == np.float32


NO_PIXELS = {
    "0 to 1": (np.linspace(0, 1, 48).reshape(3, 4, 4, 1), r"float64 from 0 to 1; expected uint8.*255\).round\(\)"),
    "float32": (np.full((3, 4, 4, 1), 200, np.float32), r"float32 from 200 to 200; .*give images\.astype\(np\.uint8\)"),
    "int64": (np.arange(48).reshape(3, 4, 4, 1), r"int64 from 0 to 47; expected uint8 .*give images\.astype"),
    "signed": (np.full((3, 4, 4, 1), -1, np.int8), r"int8 from -1 to -1; expected uint8 pixels from 0 to 255,.* here$"),
    "nan": (np.full((3, 4, 4, 1), np.nan), r"float64 from nan to nan; .* here$"),
    "truths": (np.ones((3, 4, 4, 1), bool), r"images are bool; expected uint8"),
    "none": (np.ones((0, 4, 4, 1)), r"images are float64; expected uint8"),
    "no channels": (np.ones((3, 4, 4), np.uint8), r"images are \(3, 4, 4\); expected \(N, H, W, C\), channels last"),
}


@pytest.mark.parametrize("kind", NO_PIXELS)
def test_images_that_are_no_pixels_are_refused_and_not_divided_again(kind):
    images, message = NO_PIXELS[kind]
    with pytest.raises(ValueError, match=message):
        Batches(images, np.arange(len(images)), 2)
    with pytest.raises(ValueError, match=message):
        Normalisation()(images, np.float32)


@pytest.mark.parametrize("labels", [np.arange(2), np.arange(4), np.zeros((3, 1)), np.array(3)])
def test_labels_that_do_not_belong_to_the_images(labels):
    with pytest.raises(ValueError, match=r"3 images need labels \(3,\), not an array"):
        Batches(np.zeros((3, 4, 4, 1), np.uint8), labels, 2)
    with pytest.raises(ValueError, match="batch size of 0"):
        Batches(np.zeros((3, 4, 4, 1), np.uint8), np.arange(3), 0)
