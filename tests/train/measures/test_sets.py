"""Measures of a set of pictures: each falls for the fault that it is there for, and no blur pleases them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.train.drawings.__main__ import draw_pair
from pix2pix_edge.train.measures.label_reader import classes_of, trained_label_reader
from pix2pix_edge.train.measures.sets import LabelReading, compare, kernel_distance, picture_statistics
from pix2pix_edge.train.pairs.palette import shows_facade_classes

COUNT = 12


@pytest.fixture(scope="module")
def drawn() -> list[tuple[Image, Image]]:
    return [draw_pair(0, number, 128) for number in range(COUNT)]


def scores(pictures: list[Image], real: list[Image]) -> dict[str, float]:
    sides = []
    for side in (pictures, real):
        reading = LabelReading(trained_label_reader())
        for picture in side:
            reading.add(picture, None)
        sides.append(picture_statistics(side, reading.features))
    return compare(*sides)


def grey(picture: Image) -> Image:
    return np.repeat(picture.mean(-1, keepdims=True), 3, -1).astype(np.uint8)


def hatched(picture: Image) -> Image:
    """Add what a decoder's upsampling leaves: every second column is redder, the others bluer."""
    odd = (np.arange(picture.shape[1]) % 2 * 2 - 1)[None, :, None] * np.array([12, 0, -12])
    return np.clip(picture + odd, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("spoil", "measure", "low", "high"),
    [
        (lambda picture: cv2.GaussianBlur(picture, (0, 0), 2), "fine", 0.0, 0.2),
        (grey, "chroma", 0.0, 0.05),
        (hatched, "fringes", 1.5, 1000.0),
    ],
)
def test_each_fault_is_seen(
    drawn: list[tuple[Image, Image]], spoil: Callable[[Image], Image], measure: str, low: float, high: float
) -> None:
    real = [picture for _, picture in drawn]
    same = scores(real, real)
    assert same["fine"] == same["fringes"] == same["chroma"] == 1
    spoiled = scores([spoil(picture) for picture in real], real)
    assert low <= spoiled[measure] < high
    assert spoiled["patches"] > same["patches"] + 0.1


def test_kernel_distance_has_no_bias_and_grows_with_the_difference() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 400, 8))
    assert abs(kernel_distance(first, second)) < 0.05
    assert 0.05 < kernel_distance(first, second + 0.5) < kernel_distance(first, second + 1)


def test_labels_read_back_where_they_are(facades: Path) -> None:
    """On real pictures that the reader was not trained on; shifted labels no longer fit."""
    from pix2pix_edge.train.data import Pairs
    from pix2pix_edge.train.pairs.layouts import find_pairs

    pairs = Pairs(find_pairs(facades)[1][:16], 256, "label2picture")
    straight, shifted = LabelReading(trained_label_reader()), LabelReading(trained_label_reader())
    for index in range(len(pairs)):
        label, picture = pairs[index]
        straight.add(picture, label)
        shifted.add(picture, np.roll(label, 24, 1))
    assert straight.mean_iou() > 1.3 * shifted.mean_iou() > 0


def test_classes_are_found_by_the_nearest_colour(drawn: list[tuple[Image, Image]]) -> None:
    labels, pictures = zip(*drawn, strict=True)
    assert shows_facade_classes(labels)
    assert not shows_facade_classes(pictures)
    compressed = cv2.imdecode(cv2.imencode(".jpg", labels[0])[1], cv2.IMREAD_COLOR)
    same = classes_of(labels[0] / np.float32(127.5) - 1) == classes_of(compressed / np.float32(127.5) - 1)
    assert np.mean(same) > 0.9
