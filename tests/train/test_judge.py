"""Judging pictures: the metrics, whose batch norm they see, and the command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from pix2pix_edge.export.fidelity import psnr, ssim
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.train.data import Pairs, read_pair
from pix2pix_edge.train.drawings.__main__ import draw_folders
from pix2pix_edge.train.judge import REAL, judge, judge_real, main, score, with_batch_statistics
from pix2pix_edge.train.networks import discriminator, feature_extractor, generator
from pix2pix_edge.train.pairs.layouts import find_pairs
from pix2pix_edge.train.saved import load
from pix2pix_edge.train.settings import Settings, write_settings
from tests.commands import export


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw_folders(folder, 2, 3, 64, 0)
    return folder


@pytest.fixture(scope="module")
def pairs(data: Path) -> Pairs:
    return Pairs(find_pairs(data)[1], 64, "label2picture")


@pytest.fixture(scope="module")
def seen_by() -> Any:
    keras.utils.set_random_seed(0)
    return feature_extractor(discriminator(4, 64))


def test_scores_are_those_of_the_rounded_picture(data: Path, pairs: Pairs, seen_by: Any) -> None:
    found = judge(lambda source: source * 0.9, seen_by, pairs)
    sides = [read_pair(pair) for pair in find_pairs(data)[1]]
    fake = [np.clip(np.rint(((label / 127.5 - 1) * 0.9 + 1) * 127.5), 0, 255).astype(np.uint8) for label, _ in sides]
    true = [picture for _, picture in sides]
    both = list(zip(fake, true, strict=True))
    assert found["l1"] == pytest.approx(np.mean([np.abs(f.astype(float) - t).mean() for f, t in both]), rel=1e-3)
    assert found["psnr"] == pytest.approx(np.mean([psnr(f, t) for f, t in both]), rel=1e-3)
    assert found["ssim"] == pytest.approx(np.mean([ssim(f, t) for f, t in both]), abs=1e-3)


def test_perceptual_distance_is_nothing_for_the_truth_and_grows(pairs: Pairs, seen_by: Any) -> None:
    random = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)
    distances = [judge(lambda s, n=n: s + n * random, seen_by, Truth(pairs))["perceptual"] for n in (0, 0.1, 0.5)]  # type: ignore[arg-type, misc]
    assert distances[0] == pytest.approx(0, abs=1e-6)
    assert distances[0] < distances[1] < distances[2]
    assert "perceptual" not in judge(lambda source: source, None, pairs)


def test_batch_statistics_are_those_of_training_without_dropout(pairs: Pairs) -> None:
    network = generator(2, 64)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(layer.moving_mean + 1.0)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 64, 64, 3)).astype(np.float32)
    before = network.get_weights()
    translate = with_batch_statistics(network)
    fake = np.array(translate(image))
    np.testing.assert_array_equal(fake, translate(image))  # no dropout, and no statistics that move
    assert not np.allclose(fake, network(image, training=False), atol=1e-3)
    for weight, then in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, then)
    found = score(network, None, pairs)
    of_sets = {"fine", "fringes", "chroma", "patches", "labels"}
    assert set(found) == {"l1", "psnr", "ssim", "l1_batch", *of_sets}
    assert found["l1_batch"] != found["l1"]


def test_the_command(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str], refused: Callable[[int], str]
) -> None:
    for index in range(2):
        generator(1, 64).save(tmp_path / f"{index}.keras")
    discriminator(1, 64).save(tmp_path / "d.keras")
    arguments = [str(tmp_path / f"{index}.keras") for index in range(2)] + ["--data", str(data)]
    out = tmp_path / "judged.json"
    assert main([*arguments, "--by", str(tmp_path / "d.keras"), "--out", str(out)]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    real = rows.pop()
    assert real.startswith(REAL) and len(real.removeprefix(REAL).split()) == 5
    written = json.loads(out.read_text())["rows"]
    assert list(written) == [*arguments[:2], REAL]
    assert "perceptual" in header
    assert [row.split()[0] for row in rows] == arguments[:2]
    assert all(len(row.split()) == 11 for row in rows)

    generator(1, 32).save(tmp_path / "small.keras")
    discriminator(1, 32).save(tmp_path / "small-d.keras")
    (tmp_path / "other-way").mkdir()
    generator(1, 64).save(tmp_path / "other-way" / "generator.keras")
    write_settings(tmp_path / "other-way", Settings(direction="picture2label"))
    (tmp_path / "text.keras").write_text("no network")
    (tmp_path / "empty.keras").touch()
    (tmp_path / "pointer.keras").write_text("version https://git-lfs.github.com/spec/v1")
    network = generator(1, 64)
    network.set_weights([weight * np.nan for weight in network.get_weights()])
    network.save(tmp_path / "diverged.keras")
    keras.Sequential([keras.Input((64, 64, 3)), keras.layers.Lambda(lambda x: x)]).save(tmp_path / "own.keras")
    content = bytearray((tmp_path / "0.keras").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    (tmp_path / "damaged.keras").write_bytes(content)
    for name, inputs, layer in (
        ("vector", keras.Input((10,)), keras.layers.Dense(3)),
        ("classifier", keras.Input((64, 64, 3)), keras.layers.GlobalAveragePooling2D()),
    ):
        keras.Model(inputs, layer(inputs)).save(tmp_path / f"{name}.keras")
    two = [keras.Input((64, 64, 3)) for _ in range(2)]
    keras.Model(two, keras.layers.Add()(two)).save(tmp_path / "sum.keras")
    (tmp_path / "foreign").mkdir()
    shutil.copy(tmp_path / "0.keras", tmp_path / "foreign")
    (tmp_path / "foreign" / "settings.json").write_text('{"editor.fontSize": 12}')
    assert main([str(tmp_path / "foreign" / "0.keras"), "--data", str(data)]) == 0  # it tells nothing of a direction
    capsys.readouterr()
    for wrong, expected in (
        (["text.keras"], "is not a network saved by Keras"),
        (["missing.keras"], "there is no file"),
        (["missing.onnx"], "there is no file"),
        (["foreign"], "foreign is a folder; give the network in it"),
        (["empty.keras"], "is empty"),
        (["pointer.keras"], "git lfs pull"),
        (["diverged.keras"], "not finite"),
        (["own.keras"], "has a layer that only its own code knows (Lambda)"),
        (["damaged.keras"], "is damaged; copy it again"),
        (["vector.keras"], "is not a generator of this project"),
        (["classifier.keras"], "is not a generator of this project"),
        (["0.keras", "--by", "sum.keras"], "is no discriminator"),
        (["0.keras", "small.keras"], "judge it apart"),
        (["d.keras"], "is not a generator of this project"),
        (["0.keras", "--by", "small.keras"], "is no discriminator of such pictures"),
        (["0.keras", "--by", "small-d.keras"], "is no discriminator of such pictures"),
        (["other-way/generator.keras"], "was trained with --direction picture2label"),
    ):
        words = [word if word.startswith("--") else str(tmp_path / word) for word in wrong]
        assert expected in refused(main([*words, "--data", str(data)]))
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(InputError, match=r"\(its name ends in .onnx\); make one"):
        load(tmp_path / "text.onnx")
    with pytest.raises(InputError):
        load(tmp_path / "text.keras")


def test_an_engine_is_judged_like_the_generator_that_it_was_exported_from(tmp_path: Path, data: Path) -> None:
    keras.utils.set_random_seed(0)
    generator(1, 64).save(tmp_path / "g.keras")
    assert export("convert", tmp_path / "g.keras", "--out", tmp_path, "--name", "g", "--input-range=-1,1") == 0
    out = tmp_path / "judged.json"
    engine = str(tmp_path / "g.fp32.onnx")
    assert main([str(tmp_path / "g.keras"), engine, "--data", str(data), "--out", str(out)]) == 0
    source, exported, _ = json.loads(out.read_text())["rows"].values()
    del source["l1_batch"]  # an engine has none
    assert exported == pytest.approx(source, rel=0.05)


def test_the_scale_is_real_against_real(pairs: Pairs) -> None:
    scale = judge_real(pairs)
    assert 0.5 < scale["chroma"] < 2 and 0 < scale["labels"] < 1
    alike = judge(lambda source: source, None, Truth(pairs))  # type: ignore[arg-type]
    assert alike["fine"] == alike["fringes"] == alike["chroma"] == 1
    assert abs(alike["patches"]) < abs(scale["patches"])


class Truth:
    """Pairs whose source is the truth itself."""

    flip = True

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def __getitem__(self, index: int) -> Any:
        return (self.pairs[index][1],) * 2

    def __len__(self) -> int:
        return len(self.pairs)
