"""Pairs: the three layouts, what is refused and how it is named, and the batches that the trainer gets."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pix2pix_edge.runtime.errors import InputError, native_stderr
from pix2pix_edge.runtime.images import list_images, read_image
from pix2pix_edge.train.data import Pairs, batches, checked, prefetch, read_pair
from pix2pix_edge.train.pairs.layouts import find_pairs
from tests.conftest import eventually, write_rgb
from tests.runtime.doubles import leaves_nothing

SIDE = 24


def image(value: int, height: int = SIDE, width: int = SIDE) -> NDArray[np.uint8]:
    """A picture that is `value` in red and has a gradient in blue, so that a mirror image differs."""
    made = np.full((height, width, 3), value, np.uint8)
    made[..., 2] = np.linspace(0, 255, width)
    return made


def write(path: Path, value: int, height: int = SIDE, width: int = SIDE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_rgb(path, image(value, height, width))


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Twelve training and two test pairs; label N is 10 N in red, its picture 10 N + 5."""
    for part, count in (("train", 12), ("test", 2)):
        for number in range(1, count + 1):
            write(tmp_path / f"{part}_label" / f"{number}.png", 10 * number)
            write(tmp_path / f"{part}_picture" / f"{number}.png", 10 * number + 5)
    return tmp_path


def reds(data: Path) -> list[tuple[int, int]]:
    return [tuple(int(side[0, 0, 0]) for side in read_pair(pair)) for pair in find_pairs(data)[0]]  # type: ignore[misc]


def check(data: Path) -> None:
    train, test = find_pairs(data)
    checked(data, (Pairs(train, 16, "label2picture"), Pairs(test, 16, "label2picture")))


def test_batches_are_fetched_ahead_in_their_order_and_errors_come_through() -> None:
    asked = []

    def source() -> Iterator[int]:
        for number in range(5):
            asked.append(number)
            yield number
        raise OSError("the disk is gone")

    feed = prefetch(source())
    assert next(feed) == 0
    assert eventually(lambda: len(asked) == 2), "the next one is fetched by itself"
    assert [next(feed) for _ in range(4)] == [1, 2, 3, 4]
    with pytest.raises(OSError, match="the disk is gone"):
        next(feed)
    assert list(prefetch([])) == []
    with leaves_nothing():
        left = prefetch(range(9))
        assert next(left) == 0
        left.close()


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_named_folders_in_natural_order(folders: Path) -> None:
    train, test = find_pairs(folders)
    assert [pair.label.stem for pair in train] == [str(number) for number in range(1, 13)]
    assert len(test) == 2
    assert reds(folders)[:2] == [(10, 15), (20, 25)]


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_side_by_side_has_the_picture_on_the_left(tmp_path: Path, held_out: str) -> None:
    for part in ("train", held_out):
        (tmp_path / part).mkdir()
        write_rgb(tmp_path / part / "1.png", np.hstack([image(1), image(2)]))
    train, test = find_pairs(tmp_path)
    assert len(train) == len(test) == 1
    assert reds(tmp_path) == [(2, 1)]
    assert read_pair(train[0], 16)[0].shape == (16, 16, 3)


def test_suffixes_and_endings_do_not_matter(tmp_path: Path) -> None:
    write(tmp_path / "train_label" / "house_A.png", 1)
    write(tmp_path / "train_picture" / "house_B.BMP", 2)
    assert reds(tmp_path) == [(1, 2)]


def test_hidden_and_other_files_are_not_looked_at(folders: Path) -> None:
    (folders / "train_label" / ".DS_Store.png").write_bytes(b"")
    (folders / "train_label" / "notes.txt").write_text("no image")
    assert len(find_pairs(folders)[0]) == 12
    assert list_images(folders / "nowhere") == []


def test_real_facades(facades: Path) -> None:
    train, test = find_pairs(facades)
    assert (len(train), len(test)) == (400, 66)
    label, picture = read_pair(train[0], 64)
    assert label.shape == picture.shape == (64, 64, 3)
    assert label[..., 2].mean() > picture[..., 2].mean()  # label maps are mostly blue, in RGB


# --- what is refused -------------------------------------------------------------------------------------------------


def test_no_layout(tmp_path: Path) -> None:
    write(tmp_path / "there" / "1.png", 1)
    write(tmp_path / "1.png", 1)
    (tmp_path / "else").mkdir()
    with pytest.raises(InputError, match=r"no pairs.*train_label/.*trainA/.*side by side"):
        find_pairs(tmp_path)


def test_two_layouts(folders: Path) -> None:
    write(folders / "trainA" / "1.png", 1)
    with pytest.raises(InputError, match=r"more than one layout.*trainB/, train_label/"):
        find_pairs(folders)


@pytest.mark.parametrize("side", ["train_label", "train_picture", "test_label", "test_picture"])
def test_one_sided(folders: Path, side: str) -> None:
    for path in (folders / side).iterdir():
        path.unlink()
    with pytest.raises(InputError, match=f"{side} holds no images"):
        find_pairs(folders)
    (folders / side).rmdir()
    with pytest.raises(InputError, match=f"{side} does not exist"):
        find_pairs(folders)


def test_unmatched_files_are_all_named(folders: Path) -> None:
    (folders / "train_label" / "3.png").unlink()
    (folders / "test_picture" / "2.png").unlink()
    with pytest.raises(InputError) as caught:
        find_pairs(folders)
    message = str(caught.value)
    assert message.startswith("2 of the files in")
    assert "train_picture/3.png has no partner in train_label/" in message
    assert "test_label/2.png has no partner in test_picture/" in message


def test_two_files_of_one_name(folders: Path) -> None:
    write(folders / "train_label" / "3.bmp", 1)
    with pytest.raises(InputError, match=r"train_label/3\.png has the name of 3\.bmp"):
        find_pairs(folders)


def test_a_long_list_is_cut_but_counted(folders: Path) -> None:
    for number in range(100, 130):
        write(folders / "train_label" / f"{number}.png", 1)
    with pytest.raises(InputError, match=r"^30 of the files.*and 10 more"):
        find_pairs(folders)


def test_every_bad_file_is_named_before_training(folders: Path) -> None:
    label, picture = folders / "train_label", folders / "train_picture"
    (label / "1.png").write_bytes(b"")
    (picture / "2.png").write_text("a text file")
    whole = cv2.imencode(".jpg", image(1, 200, 200))[1].tobytes()
    (label / "3.png").write_bytes(whole[: len(whole) // 2])
    write(picture / "4.png", 45, height=SIDE + 8)
    with pytest.raises(InputError) as caught:
        check(folders)
    message = str(caught.value)
    assert message.startswith("4 of the files in")
    for expected in (
        "train_label/1.png is empty",
        "train_picture/2.png is not a whole image",
        "train_label/3.png is not a whole image",
        "train_label/4.png is 24x24 but its picture 24x32",
    ):
        assert expected in message
    assert "\n" not in message


def test_a_png_with_an_odd_colour_profile_is_whole(folders: Path) -> None:
    """libpng warns of it, and decodes every pixel."""
    path = folders / "train_label" / "5.png"
    content = path.read_bytes()
    profile = b"iCCPodd\0\0" + zlib.compress(b"too short")
    chunk = struct.pack(">I", len(profile) - 4) + profile + struct.pack(">I", zlib.crc32(profile))
    path.write_bytes(content[:33] + chunk + content[33:])
    with native_stderr() as complaints:
        assert np.array_equal(read_image(path), image(50))
        assert complaints.seek(0, os.SEEK_END) > 0
    check(folders)


@pytest.mark.parametrize("oddity", ["extraneous bytes", "scan parameters", "JFIF version"])
def test_what_decoders_only_remark_on_is_whole(folders: Path, oddity: str) -> None:
    """As phones and network cameras write them; the pixels are the same."""
    clean = cv2.imencode(".jpg", image(50, 64, 64))[1].tobytes()
    content = bytearray(clean)
    if oddity == "extraneous bytes":
        content[-2:-2] = bytes(4)
    elif oddity == "scan parameters":
        scan = content.rindex(b"\xff\xda")
        end = scan + 5 + 2 * content[scan + 4]
        content[end : end + 3] = bytes(3)
    else:
        content[content.index(b"JFIF") + 5] = 2
    (folders / "train_label" / "5.png").write_bytes(content)
    (folders / "train_picture" / "5.png").write_bytes(clean)
    with native_stderr() as complaints:
        np.testing.assert_array_equal(
            *(read_image(folders / f"train_{side}" / "5.png") for side in ("label", "picture"))
        )
        assert complaints.seek(0, os.SEEK_END) > 0
    check(folders)


def test_a_jpeg_damaged_in_its_middle_is_named(folders: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    content = bytearray(cv2.imencode(".jpg", noise)[1].tobytes())
    content[2000:2100] = bytes(range(100))
    (folders / "train_label" / "5.png").write_bytes(content)
    (folders / "train_picture" / "5.png").write_bytes(cv2.imencode(".png", noise)[1].tobytes())
    with pytest.raises(InputError, match=r"1 of the files.*train_label/5.png is damaged"):
        check(folders)


def test_odd_width_is_not_side_by_side(tmp_path: Path) -> None:
    write(tmp_path / "train" / "1.png", 1, width=SIDE + 1)
    with pytest.raises(InputError, match=r"1.png is 25x24, but .* twice as wide.*call their folders train_label/"):
        check(tmp_path)


# --- batches ---------------------------------------------------------------------------------------------------------


def loaded(data: Path, side: int = SIDE, direction: str = "label2picture") -> Pairs:
    pairs = Pairs(find_pairs(data)[0], side, direction)
    checked(data, [pairs])
    return pairs


def epoch(
    pairs: Pairs, number: int = 0, *, size: int = SIDE, batch: int = 1, seed: int = 0, skip: int = 0
) -> np.ndarray:
    """All batches of an epoch: float32 [steps, 2, N, S, S, 3]."""
    return np.array([[side.numpy() for side in item] for item in batches(pairs, size, batch, seed, number, skip)])


def test_each_epoch_holds_every_pair_once_in_another_order(folders: Path) -> None:
    pairs = loaded(folders)
    first, second = epoch(pairs, 0), epoch(pairs, 1)
    assert first.shape == (12, 2, 1, SIDE, SIDE, 3)
    assert first.dtype == np.float32
    reds = [np.rint((each[:, :, 0, 0, 0, 0] + 1) * 127.5).astype(int) for each in (first, second)]
    assert sorted(map(tuple, reds[0].tolist())) == [(10 * n, 10 * n + 5) for n in range(1, 13)]
    assert reds[0].tolist() != reds[1].tolist()
    assert first.min() == -1
    assert first.max() == 1


def test_direction_swaps_the_pair(folders: Path) -> None:
    forth, back = epoch(loaded(folders)), epoch(loaded(folders, direction="picture2label"))
    np.testing.assert_array_equal(forth, back[:, ::-1])


def test_epochs_repeat_exactly_and_can_start_in_the_middle(folders: Path) -> None:
    pairs = loaded(folders, side=SIDE + 3)
    whole = epoch(pairs, 4, batch=2)
    np.testing.assert_array_equal(whole, epoch(pairs, 4, batch=2))
    np.testing.assert_array_equal(whole[2:], epoch(pairs, 4, batch=2, skip=2))
    assert not np.array_equal(whole, epoch(pairs, 4, batch=2, seed=1))


def test_augmentation_treats_both_alike(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    for number in range(12):
        for side in ("label", "picture"):
            (tmp_path / f"train_{side}").mkdir(exist_ok=True)
            write_rgb(tmp_path / f"train_{side}" / f"{number}.png", noise)
    made = np.rint((epoch(loaded(tmp_path), size=16) + 1) * 127.5).astype(int)
    np.testing.assert_array_equal(made[:, 0], made[:, 1])
    views = np.lib.stride_tricks.sliding_window_view(noise, (16, 16, 3))[:, :, 0]
    mirrored = 0
    for crop in made[:, 0, 0]:
        plain = (views == crop).all(axis=(2, 3, 4)).any()
        turned = (views == crop[:, ::-1]).all(axis=(2, 3, 4)).any()
        assert plain or turned
        mirrored += bool(turned and not plain)
    assert 0 < mirrored < 12
    assert len({crop.tobytes() for crop in made[:, 0]}) > 6


def test_a_last_incomplete_batch_is_left_out(folders: Path) -> None:
    assert len(epoch(loaded(folders), batch=5)) == 2


def test_pairs_beyond_the_memory_are_read_again(folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = epoch(loaded(folders))
    monkeypatch.setattr("pix2pix_edge.train.data.KEPT_IN_MEMORY", 3 * 2 * 3 * SIDE * SIDE)
    pairs = loaded(folders)
    assert len(pairs.memory) == 3
    assert all(pair is not None for pair in pairs.memory)
    np.testing.assert_array_equal(epoch(pairs), kept)


@pytest.mark.parametrize("direction", ["label2picture", "picture2label"])
def test_some_of_the_pairs_stay_in_memory(folders: Path, direction: str) -> None:
    train = find_pairs(folders)[0]
    pairs = Pairs(train, 16, direction)
    expected = [pairs[index] for index in range(len(pairs))]
    for pair in train:
        pair.label.unlink()
    some = pairs.only([train[7], train[2]])
    for (source, target), (known, true) in zip((some[0], some[1]), (expected[7], expected[2]), strict=True):
        np.testing.assert_array_equal(source, known)
        np.testing.assert_array_equal(target, true)
    assert len(some) == 2
