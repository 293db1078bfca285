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
        ("train/masks_png/{}.png", "train/images_jpg/{}.jpg", "train/masks_png/ -> train/images_jpg/"),
        ("train/urban/masks_png/{}.png", "train/urban/images_png/{}.png", "*_label -> its picture"),
        ("input/{}.png", "target/{}.png", "input/ -> target/"),
        ("train/{}_label.png", "train/{}_real.png", "*_label -> its picture"),
        ("trainB/{}_gtFine_color.png", "trainA/{}_leftImg8bit.png", "trainB/ -> trainA/"),
        ("trainB/img_{}.png", "trainA/IMG_00{}.PNG", "trainB/ -> trainA/"),
        ("trainB/a/{}.png", "trainA/a/{}.png", "trainB/ -> trainA/"),
        ("deep/er/trainB/{}.png", "deep/er/trainA/{}.png", "trainB/ -> trainA/"),
        ("train/input/{}.png", "train/output/{}.png", "train/input/ -> train/output/"),
        ("edges/{}.png", "photos/{}.png", "edges/ -> photos/"),
        ("training_set/gt/{}.png", "training_set/rgb/{}.png", "training_set/gt/ -> training_set/rgb/"),
        ("annotations/training/{}.png", "images/training/{}.png", "annotations/training/ -> images/training/"),
        (
            "gtFine/train/aachen/{}_gtFine_color.png",
            "leftImg8bit/train/aachen/{}_leftImg8bit.png",
            "gtFine/train/ -> leftImg8bit/train/",
        ),
        ("train_masks/{}_mask.png", "train/{}.png", "train_masks/ -> train/"),
        ("train_label/mask_{}.png", "train_picture/image_{}.png", "train_label/ -> train_picture/"),
        ("trainB/{}.jpg.png", "trainA/{}.jpg", "trainB/ -> trainA/"),
        ("trainB/house ({}).png", "trainA/house-{}.png", "trainB/ -> trainA/"),
        ("labels_train/{}.png", "images_train/{}.png", "labels_train/ -> images_train/"),
        ("trainmask/{}.png", "trainimage/{}.png", "trainmask/ -> trainimage/"),
        ("train/{}.png", "train/{}_photo.png", "*_label -> its picture"),
        ("train/{}-sketch.png", "train/{}-photo.png", "*_label -> its picture"),
        ("trainannot/{}.png", "train/{}.png", "trainannot/ -> train/"),
        ("train2017_label/{}.png", "train2017_img/{}.png", "train2017_label/ -> train2017_img/"),
        ("train label/{}.png", "train picture/{}.png", "train label/ -> train picture/"),
        ("trainB/{}_gtCoarse_labelTrainIds.png", "trainA/{}_leftImg8bit.png", "trainB/ -> trainA/"),
        ("trainB/um_road_00{}.png", "trainA/um_00{}.png", "trainB/ -> trainA/"),
        ("train_labels/{}_L.png", "train/{}.png", "train_labels/ -> train/"),
        ("{}_label.png", "{}_real.png", "*_label -> its picture"),
        ("net/test_latest/images/{}_real_A.png", "net/test_latest/images/{}_real_B.png", "*_label -> its picture"),
        ("real_A/{}.png", "real_B/{}.png", "real_A/ -> real_B/"),
        ("train/{}/label.png", "train/{}/image.png", "*_label -> its picture"),
        ("train/s{}/masks/1.png", "train/s{}/images/1.png", "*_label -> its picture"),
        ("train/{}_mask.png", "train/{}_sat.png", "*_label -> its picture"),
        ("conditioning_images/{}.png", "images/{}.png", "conditioning_images/ -> images/"),
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


@pytest.mark.parametrize("held_out", ["test", "testing", "val", "valid", "validation", "dev"])
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


def test_zeros_within_a_number_count(tmp_path: Path) -> None:
    for number in (1, 10, 100):
        put(tmp_path / "trainA" / f"{number:05}.png", 1)
        put(tmp_path / "trainB" / f"{number}.png", 1)
    pairs = find_data_set(tmp_path).train
    assert [(pair.label.stem, int(pair.picture.stem)) for pair in pairs] == [("1", 1), ("10", 10), ("100", 100)]


def test_of_a_picture_s_label_maps_the_one_in_colours_is_taken(tmp_path: Path) -> None:
    put(tmp_path / "trainA" / "x_leftImg8bit.png", 1)
    for kind in ("color", "labelIds", "instanceIds"):
        put(tmp_path / "trainB" / f"x_gtFine_{kind}.png", 1)
    found = find_data_set(tmp_path)
    assert [pair.label.name for pair in found.train] == ["x_gtFine_color.png"]
    assert len(found.left_out) == 2


def test_names_that_differ_in_a_number_do_not_pair_up(tmp_path: Path) -> None:
    for number in (1, 2):
        put(tmp_path / "trainA" / f"2019_{number}.png", 1)
        put(tmp_path / "trainB" / f"2020_{number}.png", 1)
    with pytest.raises(InputError, match="has no partner"):
        find_data_set(tmp_path)


def test_a_folder_named_like_labels_may_be_the_data_set(tmp_path: Path) -> None:
    for split in ("train", "val"):
        put(tmp_path / "maps" / split / "1.png", 1, 48)
    assert len(find_data_set(tmp_path).train) == len(find_data_set(tmp_path).held_out) == 1


def test_what_is_not_read_is_said(tmp_path: Path) -> None:
    for split in ("train", "test", "val"):
        for side in "AB":
            put(tmp_path / f"{split}{side}" / "1.png", 1)
            put(tmp_path / f"{split}{side}" / "more" / "2.png", 1)
    (tmp_path / "train.txt").write_text("1")
    found = find_data_set(tmp_path)
    assert found.way("label2picture") == "learning: trainB/ -> trainA/ (valA/, valB/, train.txt: not read)"
    assert [path.name for path in found.left_out] == ["2.png"] * 4


def test_other_folders_of_pictures_are_said_to_be_left(tmp_path: Path) -> None:
    for folder in ("train/label", "train/label_small", "train/picture", "holdout_label"):
        put(tmp_path / folder / "1.png", 1)
    assert find_data_set(tmp_path).unread == ("holdout_label/", "train/label_small/")


def test_a_run_in_the_data_is_no_side_of_them(tmp_path: Path) -> None:
    for folder in ("input", "target", "output/samples"):
        put(tmp_path / folder / "1.png", 1)
    (tmp_path / "output" / "settings.json").write_text("{}")
    assert find_data_set(tmp_path).way("label2picture").startswith("learning: input/ -> target/ ")


def test_images_side_by_side_in_no_folder(tmp_path: Path) -> None:
    put(tmp_path / "1.png", 1, 48)
    found = find_data_set(tmp_path)
    assert (len(found.train), found.way("label2picture")) == (1, "learning: right half -> left half")


def test_of_pix2pix_results_what_the_network_made_is_left_out(tmp_path: Path) -> None:
    for kind in ("real_A", "real_B", "fake_B"):
        put(tmp_path / "images" / f"1_{kind}.png", 1)
    found = find_data_set(tmp_path)
    assert [path.name for pair in found.train for path in pair.files] == ["1_real_A.png", "1_real_B.png"]
    assert [path.name for path in found.left_out] == ["1_fake_B.png"]
    assert found.direction("AtoB") == "label2picture"  # whichever its A was, it was the input


def test_notes_beside_folders_of_pictures_hide_nothing(tmp_path: Path) -> None:
    for side in "AB":
        put(tmp_path / f"train{side}" / "street" / "1.png", 1)
        (tmp_path / f"train{side}" / "Thumbs.db").write_bytes(b"x")
    assert len(find_data_set(tmp_path).train) == 1


def test_names_of_sides_on_files_that_hold_both_are_asked_about(tmp_path: Path) -> None:
    for side in "ab":
        put(tmp_path / "train" / f"house_{side}.png", 1, 48)
    (pair,) = find_data_set(tmp_path).train
    with pytest.raises(InputError, match="twice as wide as tall: if each holds"):
        read_pair(pair)


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
        for name in ("2.heic", "3.mpo", "4", "notes.txt"):
            (tmp_path / f"train{side}" / name).write_bytes(b"ftypheic")
    assert [path.name for path in find_data_set(tmp_path).left_out] == ["2.heic", "3.mpo", "4"] * 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["train/1.png", "train/1.jpg"], r"1\.jpg, 1\.png and the like.*labels into \S+/train_label and"),
        (["trainA/1.png", "trainB/1.gif"], r"trainB holds no images that can be read here \(1 \.gif\).*mogrify"),
        (["one/trainA/1.png", "one/trainB/1.png", "two/x.txt"], r"pairs stand in .*one: give --data"),
        (
            ["night/1.png", "day/1.png", "note.txt"],
            r"it holds day/, night/, note.txt.*mv \S+day \S+/label; mv \S+night",
        ),
        (["JPEGImages/1.png", "SegmentationClass/1.png"], r"mv \S+Class \S+/label; mv \S+Images \S+/picture"),
        (["HE/train/1.png", "IHC/train/1.png", "HE/test/2.png", "IHC/test/2.png"], r"mv \S+/HE \S+/label; mv \S+/IHC"),
        (
            ["training/images/1.png", "training/v1.2/labels/1.png"],
            r"rename one: mv \S+training/v1.2/labels \S+training/label$",
        ),
        (["train/masks/1.png", "train/edges/1.png", "train/rgb/1.png"], r"train/edges/ and train/masks/.*the labels"),
        (["train/1_label.png", "train/1_depth.png", "train/1_rgb.png"], r"1_depth.png and 1_label.png.*move one kind"),
        ([f"train{'AB'[i // 11]}/{i}.png" for i in range(22)], r"no file in \S+trainB has a partner in \S+trainA"),
        (["one/1.png", "two/1.png", "three/1.png"], r"it holds one/, three/, two/.*rename"),
        (
            ["train/images/1.png", "train/1st_manual/1.png"],
            r"train/label does not exist.*mv \S+1st_manual \S+train/label",
        ),
        (["trainA/1.png", "trainB/1.npy"], r"1 \.npy\).*np\.load"),
        (["trainA/1.png", "trainB/1"], "its files are without an ending"),
        (
            ["trainA/1.png", "trainA/2.heic", "trainB/1.png", "trainB/2.png"],
            r"2.heic is not read here;.*has no partner",
        ),
        (["testA/1.png", "testB/1.png"], "nothing to train on"),
        (["1_rec_A.png", "1_real_A.png", "1_real_B.png"], "of a CycleGAN, whose two sides are no pairs"),
        (["leftImg8bit/train/bonn/1_leftImg8bit.png"], "leftImg8bit/train holds pictures alone, by names like 1_left"),
        (["images/1.png"], "images is named as the pictures alone; give --data the folder above"),
        (["base/1.png", "base/1.jpg"], "move the labels into .*base/train_label and the pictures into .*train_picture"),
        (["train_label/1.png", "train_picture/1.png", "test_label/1.png"], r"\(.*\), or test_label/ taken away"),
        (["data/train-0.parquet"], "holds no images, but data/train-0.parquet; unpack it, or write"),
        (["trainA/1.png"], r"trainB does not exist; it needs one image of every pair \([^)]*\)$"),
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
