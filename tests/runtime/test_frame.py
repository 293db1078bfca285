from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import Frame, as_image, fit, view

RANDOM = np.random.default_rng(5)


def test_fit_returns_a_picture_of_the_right_size_itself() -> None:
    image = RANDOM.integers(0, 256, (16, 16, 3), np.uint8)
    for mode in ("stretch", "crop", "pad"):
        assert fit(image, (16, 16, 3), mode) is image


def test_stretch_is_the_mean_over_a_pixels_area() -> None:
    image = RANDOM.integers(0, 256, (32, 64, 3), np.uint8)
    expected = image.reshape(16, 2, 16, 4, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(fit(image, (16, 16, 3)) - expected).max() <= 0.5


def test_enlarging_a_label_map_mixes_no_colours() -> None:
    labels = RANDOM.integers(0, 2, (8, 8, 1), np.uint8) * np.array([[[255, 85, 170]]], np.uint8)
    assert np.array_equal(fit(labels, (32, 32, 3)), labels.repeat(4, axis=0).repeat(4, axis=1))


@pytest.mark.parametrize(("height", "width"), [(16, 48), (48, 16), (17, 40)])
def test_crop_takes_the_middle(height: int, width: int) -> None:
    image = RANDOM.integers(0, 256, (height, width, 3), np.uint8)
    side, top, left = min(height, width), (height - min(height, width)) // 2, (width - min(height, width)) // 2
    middle = image[top : top + side, left : left + side]
    assert np.array_equal(fit(image, (16, 16, 3), "crop"), cv2.resize(middle, (16, 16), interpolation=cv2.INTER_AREA))


def test_pad_keeps_the_aspect_and_adds_black_bars() -> None:
    image = np.full((20, 40, 3), 200, np.uint8)
    padded = fit(image, (16, 16, 3), "pad")
    assert (padded[4:12] == 200).all() and not padded[:4].any() and not padded[12:].any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 2000), (2000, 1), (3, 7)])
@pytest.mark.parametrize("mode", ["stretch", "crop", "pad"])
def test_fit_takes_any_shape_and_gives_a_contiguous_square(shape: tuple[int, int], mode: str) -> None:
    fitted = fit(np.full((*shape, 3), 9, np.uint8), (16, 16, 3), mode)
    assert fitted.shape == (16, 16, 3) and fitted.dtype == np.uint8 and fitted.flags.c_contiguous


def test_view_side_by_side_has_the_input_on_the_left() -> None:
    left, right = (RANDOM.integers(0, 256, (8, 8, 3), np.uint8) for _ in range(2))
    frame = Frame(0, time.monotonic_ns(), "a", left, left, right)
    assert np.shares_memory(view(frame), right) and np.array_equal(view(frame), right)
    assert np.array_equal(view(frame, "side-by-side"), np.hstack([left, right]))


def test_as_image_converts_grey_alpha_and_16_bits() -> None:
    rgb = RANDOM.integers(0, 256, (4, 5, 3), np.uint8)
    assert np.shares_memory(as_image(rgb), rgb)
    assert np.array_equal(as_image(np.dstack([rgb, rgb[..., 0]])), rgb)
    assert np.array_equal(as_image(rgb[..., 0]), np.dstack([rgb[..., 0]] * 3))
    assert np.array_equal(as_image(rgb.astype(np.uint16) * 256 + 255), rgb)
    assert as_image(rgb[:, ::-1]).flags.c_contiguous


@pytest.mark.parametrize(
    "garbage", [None, "x", np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 2), np.uint8)]
)
def test_as_image_says_what_it_was_given(garbage: object) -> None:
    with pytest.raises(InputError, match=r"the source gave .*uint8"):
        as_image(garbage)
