"""Drawn facades: the same seed gives the same bytes, label and picture belong together, and bad options are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pix2pix_edge.runtime.facades.scene import label_map, random_scene
from pix2pix_edge.runtime.facades.styles import CLASSES, STYLES
from pix2pix_edge.train.drawings.__main__ import draw_pair, main
from tests.commands import in_process


def written(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_same_seed_same_bytes_other_seed_other_houses(tmp_path: Path) -> None:
    options = ["--pairs", "2", "--test-pairs", "1", "--size", "64"]
    for name, seed in (("a", "5"), ("b", "5"), ("c", "6")):
        assert main(["--out", str(tmp_path / name), "--seed", seed, *options]) == 0
    first, second, third = (written(tmp_path / name) for name in "abc")
    parts = {"test_label": 1, "test_picture": 1, "train_label": 2, "train_picture": 2}
    assert list(first) == [f"{part}/{n}.png" for part, count in parts.items() for n in range(1, count + 1)]
    assert first == second
    assert len({*first.values(), *third.values()}) == 12


def test_more_pairs_leave_the_first_ones_as_they_are(tmp_path: Path) -> None:
    for name, pairs in (("few", "1"), ("more", "3")):
        assert main(["--out", str(tmp_path / name), "--pairs", pairs, "--test-pairs", "0", "--size", "32"]) == 0
    few, more = written(tmp_path / "few"), written(tmp_path / "more")
    assert few.items() < more.items()
    assert not (tmp_path / "few" / "test_label").exists()


def test_folders_are_what_training_takes(tmp_path: Path) -> None:
    from pix2pix_edge.train.data import Pairs, checked
    from pix2pix_edge.train.pairs.layouts import find_pairs

    assert main(["--out", str(tmp_path), "--pairs", "2", "--test-pairs", "1", "--size", "48"]) == 0
    train, test = find_pairs(tmp_path)
    assert (len(train), len(test)) == (2, 1)
    checked(tmp_path, [Pairs(train + test, 48, "label2picture")])
    np.testing.assert_array_equal(cv2.imread(str(train[0].label))[..., ::-1], draw_pair(0, 0, 48)[0])


@pytest.mark.parametrize("size", [32, 100, 256])
def test_a_pair(size: int) -> None:
    label, picture = draw_pair(0, 0, size)
    assert label.shape == picture.shape == (size, size, 3)
    assert label.dtype == picture.dtype == np.uint8
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > size


def test_every_class_and_style_appears_and_no_other_colour() -> None:
    colours: set[tuple[int, ...]] = set()
    styles = set()
    for number in range(40):
        scene = random_scene(np.random.default_rng((0, 0, number)), 128)
        colours |= {tuple(colour) for colour in np.unique(label_map(scene).reshape(-1, 3), axis=0).tolist()}
        styles |= {house.style.texture for house in scene.houses}
        assert np.mean(label_map(scene) == CLASSES["facade"]) > 0.1
    assert colours == set(CLASSES.values())
    assert styles == {style.texture for style in STYLES.values()}


def test_the_picture_follows_the_label_map() -> None:
    """Windows are darker than the wall around them; what the label map calls background holds sky."""
    darker = []
    for number in range(8):
        label, picture = draw_pair(1, number)
        window = (label == CLASSES["window"]).all(axis=2)
        wall = (label == CLASSES["facade"]).all(axis=2)
        darker.append(picture[wall].mean() - picture[window].mean())
        sky = picture[:6].reshape(-1, 3).mean(axis=0)
        assert sky[2] > sky[0], "blue above red"
    assert np.mean(darker) > 25


def test_a_folder_with_images_is_left_alone(tmp_path: Path, refused: Callable[[int], str]) -> None:
    options = ["--out", str(tmp_path), "--pairs", "1", "--size", "32"]
    assert main(options) == 0
    before = written(tmp_path)
    assert "train_label already holds images" in refused(main([*options, "--seed", "9"]))
    assert written(tmp_path) == before


@pytest.mark.parametrize("option", [["--pairs", "0"], ["--size", "8"], ["--seed", "-1"], ["--pairs", "many"]])
def test_bad_options(refused: Callable[[int], str], option: list[str]) -> None:
    refused(in_process(main, words=["--out", "drawn", "--pairs", "1", *option]))
