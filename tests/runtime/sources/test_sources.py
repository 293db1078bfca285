from __future__ import annotations

import os
import re
import shutil
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import BadPictureError, Frame, Source
from pix2pix_edge.runtime.images import read_image
from pix2pix_edge.runtime.sources import open_source
from pix2pix_edge.runtime.sources.containers import find_break, has_sound
from tests.conftest import index_of, picture, write_rgb, write_video


def drain(source: Source) -> list[Frame]:
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    assert source.read() is None
    source.close()
    return frames


def test_an_image_is_one_rgb_frame(tmp_path: Path) -> None:
    path = write_rgb(tmp_path / "house.png", picture(5))
    source = open_source(str(path))
    assert (source.name, source.live, source.frames, source.fps) == ("house", False, 1, None)
    (frame,) = drain(source)
    assert np.array_equal(frame.image, picture(5))
    assert (frame.index, frame.source) == (0, "house") and frame.timings["capture"] > 0


def test_a_folder_is_read_in_natural_order_and_sizes_may_differ(tmp_path: Path) -> None:
    for name, index in (("10.png", 3), ("2.png", 2), ("1.PNG", 1), ("b2.png", 5), ("b1.png", 4)):
        write_rgb(tmp_path / name, picture(index, 32 + index, 64))
    (tmp_path / "notes.txt").write_text("not a picture")
    (tmp_path / "sub.png").mkdir()
    source = open_source(tmp_path)
    assert source.frames == 5
    frames = drain(source)
    assert [frame.source for frame in frames] == ["1", "2", "10", "b1", "b2"]
    assert [index_of(frame.image) for frame in frames] == [1, 2, 3, 4, 5]
    assert [frame.image.shape[0] for frame in frames] == [33, 34, 35, 36, 37]


def test_a_glob_matches_across_folders_and_clashing_stems_get_distinct_names(tmp_path: Path) -> None:
    for folder, name in (("a", "x.png"), ("b", "x.png"), ("b", "x.jpg"), ("c", "x_2.png")):
        (tmp_path / folder).mkdir(exist_ok=True)
        write_rgb(tmp_path / folder / name, picture(1))
    names = [frame.source for frame in drain(open_source(f"{tmp_path}/**/*"))]
    assert names == ["a_x", "b_x.jpg", "b_x.png", "x_2"]


def test_a_glob_enters_a_folder_that_is_linked_to_itself_once(tmp_path: Path) -> None:
    (tmp_path / "p" / "q").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for folder in ("p", "p/q", "elsewhere"):
        write_rgb(tmp_path / folder / f"{folder[-1]}.png", picture(1))
    for name, target in (("b", "p"), ("c", "p"), ("d", "elsewhere")):
        (tmp_path / "p" / name).symlink_to(tmp_path / target)
    for pattern in ("p/**", "p/**/*.png", "**/*.png"):
        names = [path.name for path in open_source(f"{tmp_path}/{pattern}").files]
        assert sorted(names) == ["e.png", "p.png", "q.png"], pattern


def test_what_a_folder_holds_besides_is_known(tmp_path: Path) -> None:
    write_rgb(tmp_path / "a.png", picture(1))
    for name in ("b.HEIC", "c.gif", "d.mov", "notes.txt", "._a.png"):
        (tmp_path / name).write_bytes(b"x")
    source = open_source(tmp_path)
    assert [path.name for path in source.files] == ["a.png"]
    assert [path.name for path in source.skipped] == ["b.HEIC", "c.gif", "d.mov"]
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"holds no images.*reads no \.gif, \.heic, \.mov there: convert them"):
        open_source(tmp_path)


def test_one_bad_picture_is_not_the_end_of_a_folder(tmp_path: Path) -> None:
    for name in ("1.png", "3.png"):
        write_rgb(tmp_path / name, picture(1))
    (tmp_path / "2.png").write_bytes(b"broken")
    (tmp_path / "4.png").symlink_to("nothing.png")
    for spec in (tmp_path, f"{tmp_path}/*.png"):
        assert [path.name for path in open_source(spec).files] == ["1.png", "2.png", "3.png", "4.png"]
    source = open_source(tmp_path)
    first = source.read()
    with pytest.raises(BadPictureError, match=r"2\.png is not a whole image"):
        source.read()
    third = source.read()
    assert first and third and (first.index, third.index) == (0, 1) and third.source == "3", "no frame was lost"
    with pytest.raises(BadPictureError, match=r"cannot read .*4\.png: No such file"):
        source.read()
    assert source.read() is None


def test_a_name_that_is_not_utf_8(tmp_path: Path, clip: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    shutil.copy(clip, tmp_path / f"{name}.mp4")
    write_rgb(tmp_path / "a.png", picture(1)).rename(tmp_path / f"{name}.png")
    assert len(drain(open_source(tmp_path / f"{name}.mp4"))) == 40
    assert [frame.source for frame in drain(open_source(f"{tmp_path}/*.png"))] == [name]


def count(source: Source) -> tuple[int, list[str]]:
    """Read to the end; return how many frames came, and what was said of those that did not."""
    frames, messages = 0, []
    while True:
        try:
            if source.read() is None:
                return frames, messages
            frames += 1
        except BadPictureError as error:
            messages.append(str(error))


def trimmed(whole: bytes, start: int, count: int) -> bytes:
    """Return an MP4 file whose edit list shows `count` frames from the start-th on, of 25 a second."""
    at = whole.index(b"elst") + 12
    scale = int.from_bytes(whole[(mvhd := whole.index(b"mvhd") + 16) : mvhd + 4], "big")
    media = int.from_bytes(whole[(mdhd := whole.index(b"mdhd") + 16) : mdhd + 4], "big")
    edit = struct.pack(">Ii", count * scale // 25, start * media // 25)
    return whole[:at] + edit + whole[at + 8 :]


def test_a_trimmed_video_is_not_called_truncated(tmp_path: Path, clip: Path) -> None:
    path = tmp_path / "trimmed.mp4"
    path.write_bytes(trimmed(clip.read_bytes(), 12, 20))
    frames = drain(open_source(path))
    assert len(frames) < 40 and index_of(frames[-1].image) < 39, "the edit list is followed"


@pytest.mark.parametrize(
    ("ending", "codec"),
    [(".avi", "MJPG"), (".mkv", "mp4v"), (".ts", "mp4v"), (".mpg", "PIM1"), (".wmv", "WMV2"), (".flv", "FLV1")],
)
def test_a_video_that_has_lost_a_part_gives_what_it_has_and_says_so(tmp_path: Path, ending: str, codec: str) -> None:
    whole = write_video(tmp_path / f"whole{ending}", 40, size=(480, 640), codec=codec).read_bytes()
    at, part = len(whole) * 6 // 10 | 1, len(whole) // 10
    path = tmp_path / f"video{ending}"
    for data, said in (
        (whole, ""),
        (whole + bytes(2048), ""),
        (whole[:at], r" is truncated: it gave \d+( of about \d+)? frames"),
        (whole[:at] + bytes(part) + whole[at + part :], r" is damaged (at byte \d+ of \d+: it gave|behind frame) \d+"),
    ):
        path.write_bytes(data)
        frames, messages = count(open_source(path))
        assert len(messages) == bool(said) and re.search(said, "".join(messages)), (said, messages)
        assert 5 < frames < 40 if said else frames == 40


@pytest.mark.parametrize("codec", ["VP90", "MJPG"])
def test_what_follows_a_damaged_part_of_a_video_is_read_and_the_damage_is_said(tmp_path: Path, codec: str) -> None:
    path = write_video(tmp_path / "whole.mp4", 40, size=(480, 640), codec=codec)
    data = path.read_bytes()
    half, part = len(data) // 2, len(data) // 10
    path.write_bytes(data[:half] + bytes(part) + data[half + part :])
    shown, messages = count(open_source(path))
    assert messages and all("is damaged behind frame" in message for message in messages) and 25 < shown < 40


def test_a_truncated_video_without_its_index_is_called_so(tmp_path: Path) -> None:
    path = write_video(tmp_path / "index_last.mp4", 40)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"is truncated: it ends before its index"):
        open_source(path)


def test_an_mp4_whose_index_comes_first_is_truncated_too(tmp_path: Path, clip: Path) -> None:
    whole = clip.read_bytes()
    for length, truncated in ((len(whole), False), (len(whole) - 1, True), (44, True)):
        (tmp_path / "a.mp4").write_bytes(whole[:length])
        found = find_break(tmp_path / "a.mp4")
        assert found.cut if truncated else found is None


def test_frames_know_their_place_in_the_video(clip: Path) -> None:
    positions = [frame.position_ns for frame in drain(open_source(clip))]
    assert positions == pytest.approx([index * 40_000_000 for index in range(40)], abs=1_000_000)


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    write_rgb(tmp_path / "a[1].png", picture(7))
    assert index_of(drain(open_source(f"{tmp_path}/a[1].png"))[0].image) == 7


def test_a_video_gives_every_frame_in_order(clip: Path) -> None:
    source = open_source(str(clip))
    assert (source.name, source.live, source.frames, source.fps) == ("clip", False, 40, 25.0)
    frames = drain(source)
    assert [index_of(frame.image) for frame in frames] == list(range(40))
    assert [frame.index for frame in frames] == list(range(40))
    assert frames[7].source == "clip_000007" and frames[0].image.shape == (64, 96, 3)
    assert frames[0].image[..., 2].max() > 150 > frames[0].image[40:, :, 0].max(), "the gradient is in blue: RGB"


def test_a_damaged_video_with_a_number_in_its_name_is_no_image_sequence(tmp_path: Path) -> None:
    for index in range(3):
        write_rgb(tmp_path / f"clip{index:02d}.png", picture(index))
    (tmp_path / "clip00.mp4").write_bytes(b"\0" * 4096)
    with pytest.raises(InputError, match=r"clip00\.mp4 is not a video"):
        open_source(tmp_path / "clip00.mp4")


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".avi"])
def test_sound_is_found(tmp_path: Path, ending: str) -> None:
    path = write_video(tmp_path / f"clip{ending}", 5)
    whole = path.read_bytes()
    assert not has_sound(path)
    if ending in (".mp4", ".mov"):  # the same track again, called one of sound
        movie, track = (whole.rindex(name) - 4 for name in (b"moov", b"trak"))
        size = int.from_bytes(whole[track : track + 4], "big")
        added = whole[track : track + size].replace(b"vide", b"soun")
        total = int.from_bytes(whole[movie : movie + 4], "big") + size
        spoken = whole[:movie] + total.to_bytes(4, "big") + whole[movie + 4 : track] + added + whole[track:]
    else:
        spoken = whole.replace(b"V_MPEG4/ISO/ASP", b"A_MPEG4/ISO/ASP").replace(b"strh8\0\0\0vids", b"strh8\0\0\0auds")
    path.write_bytes(spoken)
    assert has_sound(path)


@pytest.mark.parametrize("loop", [1, 3])
def test_loop_plays_a_stored_source_again(clip: Path, tmp_path: Path, loop: int) -> None:
    write_rgb(tmp_path / "a.png", picture(1))
    write_rgb(tmp_path / "b.png", picture(2))
    source = open_source(tmp_path, loop=loop)
    assert source.frames == 2 * loop
    frames = drain(source)
    assert [frame.source for frame in frames] == ["a", "b"] * loop, "the same picture keeps its name"
    assert [frame.index for frame in frames] == list(range(2 * loop))
    assert len(drain(open_source(clip, loop=loop))) == 40 * loop


def test_loop_for_ever(tmp_path: Path) -> None:
    source = open_source(write_rgb(tmp_path / "a.png", picture(1)), loop=0)
    assert source.frames is None
    frames = [source.read() for _ in range(50)]
    assert [frame.index for frame in frames if frame] == list(range(50))
    source.close()
    assert source.read() is None


def _png(path: Path, array: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), array)
    return path


def test_16_bit_grey_and_alpha_images_are_converted(tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for name, array in (
        ("grey.png", grey),
        ("grey16.png", grey.astype(np.uint16) * 257),
        ("alpha.png", np.dstack([grey, grey, grey, 255 - grey])),
        ("colour16.tiff", np.dstack([grey, grey, grey]).astype(np.uint16) * 257),
        ("alpha16.png", np.dstack([grey, grey, grey, grey]).astype(np.uint16) * 257),
    ):
        image = read_image(_png(tmp_path / name, array))
        assert image.dtype == np.uint8 and np.array_equal(image, np.dstack([grey] * 3)), name


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("*.webp", "no image matches"),
        ("telnet://host", "does not know telnet://"),
        ("/dev/null", "neither a file nor a folder"),
    ],
)
def test_what_cannot_be_a_source_says_why(spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_source(spec)
