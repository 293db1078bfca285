"""Image files: what is read, what is refused before it is decoded, and what they are called."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from pix2pix_edge.runtime.files import distinct_names
from pix2pix_edge.runtime.frame import BadPictureError
from pix2pix_edge.runtime.images import IMAGE_ENDINGS, decode_image, list_images, read_image, size_of
from tests.conftest import picture, write_rgb
from tests.runtime.doubles import chunk

NOISE = np.random.default_rng(1).integers(0, 256, (40, 64, 3), np.uint8)


def encoded(ending: str, *options: int) -> bytes:
    grey = ending in (".pbm", ".pgm")
    return bytes(cv2.imencode(ending, NOISE[..., 0] if grey else NOISE, options)[1].tobytes())


@pytest.mark.parametrize("ending", IMAGE_ENDINGS)
def test_the_size_is_known_from_the_header_and_a_cut_file_is_refused(tmp_path: Path, ending: str) -> None:
    whole = encoded(ending)
    assert size_of(whole) == (64, 40)
    path = tmp_path / f"a{ending}"
    path.write_bytes(whole)
    assert read_image(path).shape == (40, 64, 3)
    for part in (0.02, 0.1, 0.5, 0.9, 0.98):
        path.write_bytes(whole[: int(len(whole) * part)])
        with pytest.raises(BadPictureError, match="is not a whole image"):
            read_image(path)


@pytest.mark.parametrize(
    "options",
    [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2), (cv2.IMWRITE_JPEG_QUALITY, 3)],
)
def test_what_follows_a_jpegs_end_or_strays_before_it_is_no_damage(tmp_path: Path, options: tuple[int, ...]) -> None:
    whole, path = encoded(".jpg", *options), tmp_path / "phone.jpg"
    thumbnail = b"\xff\xe1" + struct.pack(">H", 2 + len(whole)) + whole  # its own end marker is not the file's
    with_thumbnail = whole[:2] + thumbnail + whole[2:]
    for data in (
        whole + b"\0" * 99,
        whole + whole,
        whole[:-2] + b"stray\xff\xff\xd9",
        with_thumbnail,
    ):  # MPO: two in one
        path.write_bytes(data)
        assert read_image(path).shape == (40, 64, 3)
    for data in (whole[:-2], whole[:-2] + b"\0" * 4096, with_thumbnail[: len(whole) + 300]):
        path.write_bytes(data)
        with pytest.raises(BadPictureError, match="is not a whole image"):
            read_image(path)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(BadPictureError, match=r"60000 × 60000 pixels.*--max-pixels 3600000000"):
        read_image(tmp_path / "bomb.png")
    small = write_rgb(tmp_path / "small.png", picture(1, 32, 32))
    assert read_image(small, max_pixels=1024).shape == (32, 32, 3)
    with pytest.raises(BadPictureError, match="32 × 32 pixels"):
        read_image(small, max_pixels=1023)


def test_an_animation_is_refused_with_what_to_do(tmp_path: Path) -> None:
    whole = encoded(".png")
    body = whole.index(b"IDAT") - 4
    (tmp_path / "it's.png").write_bytes(whole[:body] + chunk(b"acTL", struct.pack(">II", 3, 0)) + whole[body:])
    frame = encoded(".webp")[12:]
    extended = chunk_of_riff(b"VP8X", bytes([2, 0, 0, 0, 63, 0, 0, 39, 0, 0]))
    body_of_webp = b"WEBP" + extended + chunk_of_riff(b"ANIM", b"\0" * 6) + frame
    (tmp_path / "a.webp").write_bytes(b"RIFF" + struct.pack("<I", len(body_of_webp)) + body_of_webp)
    cv2.imwritemulti(str(tmp_path / "pages.tif"), [NOISE, NOISE])
    for name, command in (("it's.png", "magick apng:'"), ("a.webp", "magick /"), ("pages.tif", "magick /")):
        with pytest.raises(BadPictureError, match=f"holds several pictures.*{command}"):
            read_image(tmp_path / name)
    pages = (tmp_path / "pages.tif").read_bytes()
    smaller = pages.replace(struct.pack("<HHI", 254, 4, 1) + struct.pack("<I", 2), struct.pack("<HHII", 254, 4, 1, 1))
    assert smaller != pages, "OpenCV marks each as a page"
    assert decode_image(smaller, "overviews.tif").shape == NOISE.shape


@pytest.mark.parametrize(("tag", "value"), [(259, 34712), (259, 50002), (339, 2), (262, 8)])
def test_a_tiff_that_opencv_would_make_black_wrap_or_tint_is_refused(tag: int, value: int) -> None:
    whole = cv2.imencode(".tif", NOISE[..., 0])[1].tobytes()
    assert decode_image(whole, "a.tif").shape == NOISE.shape
    at = whole.index(struct.pack("<HHI", tag, 3, 1)) + 8  # compression: JPEG 2000, JPEG XL; samples: signed; Lab
    with pytest.raises(BadPictureError, match="is not a whole image"):
        decode_image(whole[:at] + struct.pack("<H", value) + whole[at + 2 :], "a.tif")


@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_JPEG_OPTIMIZE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 4]])
def test_a_jpeg_with_a_hole_of_zeros_is_refused(options: list[int]) -> None:
    photo = cv2.resize(np.random.default_rng(1).integers(0, 256, (24, 24, 3), np.uint8), (256, 256))
    whole = cv2.imencode(".jpg", photo, options)[1].tobytes()
    assert decode_image(whole, "a.jpg").shape == (256, 256, 3)
    half = len(whole) // 2
    with pytest.raises(BadPictureError, match="is not a whole image"):
        decode_image(whole[:half] + bytes(512) + whole[half + 512 :], "a.jpg")
    flat = cv2.imencode(".jpg", np.zeros((1024, 1024, 3), np.uint8), options)[1].tobytes()
    padded = flat[:-2] + bytes(100) + flat[-2:]
    assert not decode_image(flat, "a.jpg").any() and not decode_image(padded, "a.jpg").any()


def chunk_of_riff(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data


def test_names_tell_their_source(tmp_path: Path) -> None:
    def names(*paths: str) -> list[str]:
        return distinct_names([tmp_path / path for path in paths])

    assert names("a.jpg", "b.png") == ["a", "b"]
    assert names("a.jpg", "a.png", "a_2.png") == ["a.jpg", "a.png", "a_2"]
    assert names("1/a.png", "2/a.png", "2/b.png") == ["1_a", "2_a", "b"]
    assert names("1/a.png", "2/a.png", "2/A.jpg") == ["1_a", "2_a.png", "2_A.jpg"], "some file systems mind no case"
    assert len(set(names("a_b/c.png", "a/b_c.png", "c.png", "b_c.jpg", "a_b_c.png"))) == 5


def test_a_folder_that_is_linked_to_itself_is_listed_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_rgb(tmp_path / "a" / "x.png", picture(1))
    write_rgb(tmp_path / "a" / "._x.png", picture(1))
    for name in ("b", "c"):
        (tmp_path / "a" / name).symlink_to(tmp_path / "a")
    assert [path.name for path in list_images(tmp_path, recursive=True)] == ["x.png"]
    assert [path.name for path in list_images(tmp_path / "a")] == ["x.png"]
    assert list_images(tmp_path / "absent") == []
