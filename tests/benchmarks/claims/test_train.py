"""benchmarks train: both sides really train, and the command says by how much they differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pix2pix_edge.benchmarks.claims.train import FORMAT, ArticleLoop, TrainingReport
from pix2pix_edge.benchmarks.report.reader import read
from pix2pix_edge.train.drawings.__main__ import draw_folders
from pix2pix_edge.train.settings import Settings
from tests.commands import benchmarks

SMALL = Settings(filters=1, image_size=32)


def test_the_article_s_loop_moves_both_networks_and_each_by_its_own_loss() -> None:
    loop = ArticleLoop(SMALL)
    random = np.random.default_rng(0)
    source, target = random.uniform(-1, 1, (2, 1, 32, 32, 3)).astype(np.float32)

    def weights(network: Any) -> list[Any]:
        return [np.array(weight) for weight in network.weights if "moving" not in weight.path]

    before = weights(loop.generator), weights(loop.discriminator)
    loop.step(source, target)
    for network, then in zip((loop.generator, loop.discriminator), before, strict=True):
        moved = [not np.array_equal(now, was) for now, was in zip(weights(network), then, strict=True)]
        assert np.mean(moved) > 0.9
    still = weights(loop.discriminator)
    loop.combined.train_on_batch(source, [loop.real, target])
    for now, was in zip(weights(loop.discriminator), still, strict=True):
        np.testing.assert_array_equal(now, was)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:

    draw_folders(tmp_path / "data", 4, 0, 40, 0)
    words = ["train", "--data", str(tmp_path / "data"), "--filters", "1", "--image-size", "32"]
    out = tmp_path / "training.json"
    options = [*words, "--rounds", "5", "--turn", "0.05", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["benchmarks", *options])
    status = benchmarks(*options)
    assert status == 0
    report = read(out, TrainingReport, FORMAT, "")
    assert report.command == " ".join(["python -m benchmarks", *options])
    (result,) = report.widths
    assert result.steps >= 15
    assert result.speed_up.low <= result.speed_up.value <= result.speed_up.high
    assert 0 < result.waiting_share < 1
    assert result.sentence() in capsys.readouterr().out
    for wrong, expected in (
        (["--turn", "0"], "--turn must be"),
        (["--data", str(tmp_path / "nowhere")], "is not a folder"),
        (["--image-size", "100"], "--image-size must be of multiples of 16"),
    ):
        assert benchmarks(*words, *wrong) == 2
        assert expected in capsys.readouterr().err
