"""Colours of label maps: class indices painted, dark maps told from others, and what a run says of its palette."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.facades.styles import CLASSES
from pix2pix_edge.train.drawings.__main__ import draw_pair
from pix2pix_edge.train.pairs.palette import class_colours, is_dark, painted, palette_of, write_palette


def indices(count: int) -> np.ndarray:
    return np.repeat(np.arange(24 * 24).reshape(24, 24, 1) % count, 3, 2).astype(np.uint8)


def test_indices_become_colours_far_apart() -> None:
    colours = class_colours().astype(int)
    distances = np.abs(colours[:40, None] - colours[None, :40]).sum(-1) + 1000 * np.eye(40, dtype=int)
    assert distances.min() > 30
    label = painted(indices(5), Path("label.png"))
    np.testing.assert_array_equal(label[0, :5], class_colours()[:5])
    with pytest.raises(InputError, match=r"label.png is in colours.*leave out --palette"):
        painted(label, Path("label.png"))


def test_dark_maps_are_told_from_others() -> None:
    assert is_dark([indices(12), indices(3)])
    assert not is_dark([indices(12), painted(indices(12), Path())])


def test_pixels_without_a_class_hide_no_darkness() -> None:
    label = indices(12)
    label[:8] = 255
    assert is_dark([label, indices(3)])
    mask = np.where(indices(2) > 0, 255, 0).astype(np.uint8)
    assert not is_dark([mask, mask])


def test_indices_of_sixteen_bits_keep_their_lower_half(tmp_path: Path) -> None:
    path = tmp_path / "ids.png"
    cv2.imwrite(str(path), indices(5)[..., 0].astype(np.uint16))
    np.testing.assert_array_equal(painted(indices(1), path)[0, :5], class_colours()[:5])
    cv2.imwrite(str(path), indices(5)[..., 0].astype(np.uint16) + 999)
    with pytest.raises(InputError, match=r"numbers up to 1003.*classes up to 255"):
        painted(indices(1) + 3, path)


def test_the_palette_is_what_the_maps_show(tmp_path: Path) -> None:
    facade = palette_of([draw_pair(0, 0, 64)[0]])
    assert [(each.name, each.colour) for each in facade] == list(CLASSES.items())
    own = palette_of([painted(indices(3), Path())])
    assert {each.name for each in own} == {"class 0", "class 1", "class 2"}
    assert palette_of([draw_pair(0, 0, 64)[1]]) == ()  # a picture
    write_palette(tmp_path, own[:1])
    expected = [{"name": own[0].name, "colour": list(own[0].colour)}]
    assert json.loads((tmp_path / "palette.json").read_text()) == expected
