from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pix2pix_edge.runtime.frame import Frame
from pix2pix_edge.runtime.sinks import encoders, open_sink
from pix2pix_edge.runtime.sinks.encoders import LIBVPX, NoEncoderError, open_encoder
from tests.conftest import picture, read_video


def textured(index: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return a grey wall, for its colours would be halved, that moves below a fixed sky."""
    wall = np.random.default_rng(0).integers(0, 256, (height // 4 + 30, width // 4 + 30), np.uint8)
    grey = cv2.resize(wall, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)[index:, index:][:height, :width]
    image = np.dstack([grey] * 3)
    image[: height // 4] = (90, 140, 220)
    return image


def write(path: Path, images: list[NDArray[np.uint8]]) -> Path:
    sink = open_sink(path, fps=30.0)
    for index, image in enumerate(images):
        sink.write(Frame(index, 0, "x", image, image, image))
    sink.close()
    return path


def test_pyav_encodes_where_it_is_installed_and_opencv_elsewhere(encoder: str) -> None:
    kind = encoders._Libvpx if encoder == "PyAV" else encoders._Piped
    opened = open_encoder("VP80", 30.0, (64, 64), lambda number, packet: None)
    opened.close()
    assert isinstance(opened, kind)


@pytest.mark.parametrize("codec", LIBVPX)
def test_every_packet_comes_once_in_order_and_with_pyav_at_once(codec: str, encoder: str) -> None:
    numbers: list[int] = []
    opened = open_encoder(codec, 29.97, (64, 48), lambda number, packet: numbers.append(number))
    for index in range(10):
        opened.write(picture(index, 48, 64))
        assert encoder == "OpenCV" or len(numbers) == index + 1
    opened.close()
    assert numbers == list(range(10))


def test_a_pyav_without_that_encoder_leaves_it_to_opencv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("av")
    monkeypatch.setitem(LIBVPX, "VP80", ("libabsent", "1"))
    assert len(read_video(write(tmp_path / "out.webm", [picture(index) for index in range(5)]))) == 5


def test_a_size_that_nothing_encodes_is_said(encoder: str) -> None:
    with pytest.raises(NoEncoderError):
        open_encoder("VP80", 30.0, (17_000, 16), lambda number, packet: None)


@pytest.mark.parametrize("ending", [".webm", ".mp4"])
def test_pyav_gives_up_no_quality_and_few_bytes(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("av")
    images = [textured(index, 128, 192) for index in range(60)]
    fast = write(tmp_path / f"fast{ending}", images)
    monkeypatch.setitem(sys.modules, "av", None)
    slow = write(tmp_path / f"slow{ending}", images)

    def psnr(path: Path) -> float:
        return float(np.mean([cv2.PSNR(a, b) for a, b in zip(read_video(path), images, strict=True)]))

    assert psnr(fast) > psnr(slow) - 0.5 and fast.stat().st_size < 1.2 * slow.stat().st_size


@pytest.mark.parametrize("ending", [".webm", ".mp4"])
def test_pyav_keeps_the_last_column_and_row_of_an_odd_size(ending: str, tmp_path: Path) -> None:
    pytest.importorskip("av")
    images = [np.full((63, 65, 3), (index * 9, 60, 200), np.uint8) for index in range(20)]
    found = read_video(write(tmp_path / f"out{ending}", images))
    assert {image.shape for image in found} == {(63, 65, 3)}
    assert all(np.abs(image.astype(int) - wanted).max() < 16 for image, wanted in zip(found, images, strict=True))
