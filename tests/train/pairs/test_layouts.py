"""Layouts of pairs as people have them: found, or refused in a sentence that mends it."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.train.data import read_pair
from pix2pix_edge.train.pairs.layouts import find_data_set
from tests.conftest import write_rgb

LABEL, PICTURE = 40, 90


def put(path: Path, level: int, width: int = 24) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rgb(path, np.full((24, width, 3), level, np.uint8))


@pytest.mark.parametrize(
    ("label", "picture", "way"),
    [
        ("train_label/{}.png", "train_img/{}.jpg", "train_label/ -> train_img/"),
        ("train_A/{}.png", "train_B/{}.png", "train_A/ -> train_B/"),
        ("trainB/{}.png", "trainA/{}.png", "trainB/ -> trainA/"),
        ("Train_Label/{}.png", "Train_Picture/{}.png", "Train_Label/ -> Train_Picture/"),
        ("train/B/{}.png", "train/A/{}.png", "train/B/ -> train/A/"),
        ("B/train/{}.png", "A/train/{}.png", "B/train/ -> A/train/"),
        ("train/masks/{}.png", "train/images/{}.png", "train/masks/ -> train/images/"),
        ("input/{}.png", "target/{}.png", "input/ -> target/"),
        ("train/{}_label.png", "train/{}_real.png", "*_label -> its picture"),
        ("trainB/{}_gtFine_color.png", "trainA/{}_leftImg8bit.png", "trainB/ -> trainA/"),
        ("trainB/img_{}.png", "trainA/IMG_00{}.PNG", "trainB/ -> trainA/"),
        ("trainB/a/{}.png", "trainA/a/{}.png", "trainB/ -> trainA/"),
        ("deep/er/trainB/{}.png", "deep/er/trainA/{}.png", "trainB/ -> trainA/"),
    ],
)
def test_found(tmp_path: Path, label: str, picture: str, way: str) -> None:
    for number in (1, 2):
        put(tmp_path / label.format(number), LABEL + number)
        put(tmp_path / picture.format(number), PICTURE + number)
    found = find_data_set(tmp_path)
    levels = [tuple(int(side[0, 0, 0]) for side in read_pair(pair)) for pair in found.train]
    assert all(abs(one - LABEL - i) < 3 and abs(two - PICTURE - i) < 3 for i, (one, two) in enumerate(levels, 1))
    assert len(levels) == 2
    assert found.way("label2picture") == f"learning: {way}"
    assert found.way("picture2label") == "learning: " + " -> ".join(way.split(" -> ")[::-1])


@pytest.mark.parametrize("held_out", ["test", "val", "valid", "validation"])
def test_held_out_pairs_by_any_name(tmp_path: Path, held_out: str) -> None:
    for split in ("train", held_out):
        for side in ("A", "B"):
            put(tmp_path / f"{split}{side}" / "1.png", 1)
    found = find_data_set(tmp_path)
    assert [str(pair.label.relative_to(tmp_path)) for pair in found.held_out] == [f"{held_out}B/1.png"]


def test_accents_in_one_or_two_characters_are_alike(tmp_path: Path) -> None:
    for form, side in (("NFC", "A"), ("NFD", "B")):
        put(tmp_path / f"train{side}" / f"{unicodedata.normalize(form, 'Žižkov')}.png", 1)
    assert len(find_data_set(tmp_path).train) == 1


def test_a_and_b_go_by_the_layout(tmp_path: Path) -> None:
    for layout, way in (("train{}", "picture2label"), ("train_{}", "label2picture")):
        for side in "AB":
            put(tmp_path / layout / layout.format(side) / "1.png", 1)
        found = find_data_set(tmp_path / layout)
        assert found.direction("AtoB") == way != found.direction("BtoA")
        assert found.direction("picture2label") == "picture2label"


def test_kinds_that_nothing_reads_are_counted(tmp_path: Path) -> None:
    for side in "AB":
        put(tmp_path / f"train{side}" / "1.png", 1)
        (tmp_path / f"train{side}" / "2.heic").write_bytes(b"ftypheic")
    assert [path.name for path in find_data_set(tmp_path).left_out] == ["2.heic", "2.heic"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["train/1.png", "train/1.jpg"], r"1\.jpg, 1\.png and the like.*train_label/"),
        (["trainA/1.png", "trainB/1.gif"], r"trainB holds no images that can be read here \(1 \.gif\).*mogrify"),
        (["one/trainA/1.png", "one/trainB/1.png", "two/x.txt"], r"pairs stand in .*one: give --data"),
        (["photos/1.png", "maps/1.png", "note.txt"], r"it holds maps/, note.txt, photos/.*rename"),
        (["testA/1.png", "testB/1.png"], "nothing to train on"),
        (["train/1_label.png", "train/1_real.png", "train/2_real.png"], "only one of label and picture of 2"),
    ],
)
def test_refused_with_what_mends_it(tmp_path: Path, files: list[str], expected: str) -> None:
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".png", ".jpg"):
            put(path, 1)
        else:
            path.write_bytes(b"x")
    with pytest.raises(InputError, match=expected):
        find_data_set(tmp_path)


def test_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    for side in "AB":
        put(tmp_path / f"train{side}" / "1.png", 1)
    (tmp_path / "trainA" / "2.png").symlink_to("/nowhere/2.png")
    with pytest.raises(InputError, match=r"trainA/2.png is a link to nothing"):
        find_data_set(tmp_path)
