"""export check: two engines side by side, the gate, the gallery."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.export.images import HELD_OUT, calibration_split, judging_files
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.images import read_image, write_image
from tests.commands import export
from tests.conftest import write_inverter


def check(*words: object) -> int:
    return export("check", *words, "--backend", "onnxruntime")


@pytest.fixture()
def photos(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name in ("1", "2", "3"):
        write_image(tmp_path / "photos" / f"{name}.png", random.integers(0, 256, (40, 40, 3), np.uint8))
    return tmp_path / "photos"


def test_a_file_equals_itself_and_the_gallery_shows_no_difference(
    inverter: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(inverter, inverter, "--data", photos, "--gallery", tmp_path / "gallery.png") == 0
    said = capsys.readouterr().out
    assert "mean PSNR 100.00 dB, SSIM 1.0000, largest difference 0 of 255, 3 images" in said
    assert "A and B are one file" in said and "no fidelity to anything else" in said
    gallery = read_image(tmp_path / "gallery.png")
    size = (gallery.shape[1] - 8) // 4 - 8
    last = gallery[34 : 34 + size, -(size + 8) : -8]
    assert gallery.shape[0] == 34 + 3 * (size + 8) and not last.any()


def test_a_gallery_is_not_written_over_a_picture_that_is_compared(
    inverter: Path, photos: Path, tmp_path: Path, refused: Callable[[int], str]
) -> None:
    (tmp_path / "link.png").symlink_to(photos / "2.png")
    before = (photos / "2.png").read_bytes()
    said = refused(check(inverter, inverter, "--data", photos, "--gallery", tmp_path / "link.png"))
    assert "link.png is read, and would be written over" in said
    assert (photos / "2.png").read_bytes() == before


def test_below_the_gate_it_ends_with_1_and_one_line(
    inverter: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(inverter, inverter, "--data", photos, "--min-psnr", 101) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "101 dB" in error


def test_a_folder_and_another_size_are_refused(
    inverter: Path, photos: Path, tmp_path: Path, refused: Callable[[int], str]
) -> None:
    assert "photos" in refused(check(inverter, photos, "--data", photos))
    other = write_inverter(tmp_path / "other.onnx", size=16)
    assert "[N, 16, 16, 3]" in refused(check(inverter, other, "--data", photos))


def test_a_data_set_is_judged_on_its_test_labels_and_calibrated_on_the_others(tmp_path: Path) -> None:
    for folder in ("train_label", "test_label", "train_picture", "test_picture"):
        write_image(tmp_path / folder / "1.png", np.zeros((8, 8, 3), np.uint8))
    assert judging_files(tmp_path) == [tmp_path / "test_label" / "1.png"]
    assert calibration_split(tmp_path) == ([tmp_path / "train_label" / "1.png"], [tmp_path / "test_label" / "1.png"])


def test_a_flat_folder_is_split_and_nothing_is_in_both(tmp_path: Path) -> None:
    for index in range(2 * HELD_OUT + 1):
        write_image(tmp_path / f"{index}.png", np.zeros((8, 8, 3), np.uint8))
    calibrating, judging = calibration_split(tmp_path)
    assert len(judging) == 2 and len(calibrating) == 2 * HELD_OUT - 1 and not set(calibrating) & set(judging)
    with pytest.raises(InputError, match="at least"):
        write_image(tmp_path / "few" / "1.png", np.zeros((8, 8, 3), np.uint8))
        calibration_split(tmp_path / "few")
