"""Networks for other pictures than square RGB ones: from the pairs on disk to the picture that run.py writes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from pix2pix_edge.runtime import run as stream
from pix2pix_edge.runtime.images import read_image, write_image
from pix2pix_edge.train.__main__ import main
from pix2pix_edge.train.data import Pairs, batches, read_pair
from pix2pix_edge.train.pairs.layouts import find_pairs
from tests.commands import export

SMALL = ["--filters", "2", "--epochs", "1", "--recipe", "paper"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pairs of 96x64 with alpha, whose pictures are grey, and whose labels' alpha is half of their red."""
    random = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 1)):
        for number in range(count):
            red = np.kron(random.integers(0, 256, (4, 6, 1), np.uint8), np.ones((16, 16, 1), np.uint8))
            label = np.concatenate([red, red // 3, 255 - red, red // 2], axis=2)
            write_image(tmp_path / f"{split}_label" / f"{number}.png", label)
            write_image(tmp_path / f"{split}_picture" / f"{number}.png", red)
    return tmp_path


@pytest.mark.parametrize(("size", "channels"), [("96x64", (4, 1)), ("48x80", (1, 3)), ("32", (3, 4))])
def test_from_pairs_to_a_picture(tmp_path: Path, data: Path, size: str, channels: tuple[int, int]) -> None:
    words = ["--image-size", size, "--input-channels", str(channels[0]), "--output-channels", str(channels[1])]
    run = tmp_path / "run"
    assert main(["--data", str(data), "--out", str(run), "--validation", "1", *SMALL, *words]) == 0
    if channels == (4, 1):
        assert main(["--out", str(run), "--resume", "--epochs", "2"]) == 0
    exported = ["convert", str(run / "generator.keras"), "--out", str(tmp_path / "out"), "--input-range", "-1,1"]
    assert export(*exported) == 0
    engine = tmp_path / "out" / "generator.fp32.onnx"
    labels = data / "test_label"
    assert stream.main(["--engine", str(engine), "--source", str(labels), "--sink", str(tmp_path / "pictures")]) == 0
    picture = cv2.imread(str(tmp_path / "pictures" / "0.png"), cv2.IMREAD_UNCHANGED)
    width, _, height = size.partition("x")
    shape = (int(height or width), int(width), *([channels[1]] if channels[1] > 1 else []))
    assert picture.shape == shape and picture.dtype == np.uint8


def test_what_the_network_sees_is_what_an_engine_would_give_it(data: Path) -> None:
    (pair, *_), _ = find_pairs(data)
    rgb, _ = read_pair(pair, (64, 96))
    grey, mask = read_pair(pair, (64, 96), channels=(1, 1))
    assert np.array_equal(grey[..., 0], cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))
    assert np.array_equal(mask, read_image(pair.picture)[..., :1])
    rgba, _ = read_pair(pair, (64, 96), channels=(4, 3))
    assert np.array_equal(rgba[..., 3], rgb[..., 0] // 2), "its alpha, not an opaque one"


def test_a_batch_crops_both_members_alike(data: Path) -> None:
    pairs = Pairs(find_pairs(data)[0], (80, 112), "label2picture", channels=(4, 1))
    for source, target in batches(pairs, (64, 96), 1, seed=0, epoch=0):
        assert source.shape == (1, 64, 96, 4) and target.shape == (1, 64, 96, 1)
        assert np.abs(source[..., :1].numpy() - target.numpy()).max() <= 2.1 / 127.5, "red is the grey picture"


def test_drawn_pairs_are_square_and_rgb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--image-size", "96x64"], ["--input-channels", "1"]):
        assert main(["--data", "drawn:labels", "--out", str(tmp_path / "run"), *SMALL, *words]) == 2
        assert "drawn pairs are square and RGB" in capsys.readouterr().err
