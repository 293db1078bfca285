"""Batch norm's statistics measured anew: they are those of inference, and the rest of the network stays."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from pix2pix_edge.train.data import Pairs
from pix2pix_edge.train.drawings.__main__ import draw_folders
from pix2pix_edge.train.measures.statistics import main, settle
from pix2pix_edge.train.networks import generator
from pix2pix_edge.train.pairs.layouts import find_pairs


def test_each_norm_s_inputs_have_the_statistics_that_it_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_folders(tmp_path / "data", 3, 1, 64, 0)
    keras.utils.set_random_seed(0)
    before = generator(4, 64)
    before.save(tmp_path / "generator.keras")
    words = [str(tmp_path / "generator.keras"), "--data", str(tmp_path / "data"), "--out"]
    assert main([*words, str(tmp_path / "settled.keras")]) == 0
    assert "statistics of 3 sources" in capsys.readouterr().out
    after = keras.models.load_model(tmp_path / "settled.keras", compile=False)
    sources = np.stack([pair[0] for pair in Pairs(find_pairs(tmp_path / "data")[0], 64, "label2picture")])
    norms = [layer for layer in after.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms
    read = keras.Model(after.input, [norm.input for norm in norms])(sources / np.float32(127.5) - 1, training=False)
    for norm, values in zip(norms, map(np.asarray, read), strict=True):
        assert np.asarray(norm.moving_mean) == pytest.approx(values.mean(axis=(0, 1, 2)), abs=1e-4)
        assert np.asarray(norm.moving_variance) == pytest.approx(values.var(axis=(0, 1, 2)), rel=1e-2, abs=1e-4)
    for one, other in zip(before.trainable_weights, after.trainable_weights, strict=True):
        assert np.array_equal(one, other)

    assert main([*words, str(tmp_path / "generator.keras")]) == 2
    assert "is read, and would be written over" in capsys.readouterr().err


def test_a_network_without_batch_norm_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = keras.Input((64, 64, 3))
    network = keras.Model(image, keras.layers.Conv2D(3, 3, padding="same")(image))
    assert settle(network, [np.zeros((64, 64, 3), np.uint8)]) == 0
    network.save(tmp_path / "plain.keras")
    draw_folders(tmp_path / "data", 2, 1, 64, 0)
    out = tmp_path / "out.keras"
    assert main([str(tmp_path / "plain.keras"), "--data", str(tmp_path / "data"), "--out", str(out)]) == 2
    assert "has no batch norm" in capsys.readouterr().err and not out.exists()
    with pytest.raises(SystemExit):
        main([str(tmp_path / "plain.keras"), "--data", str(tmp_path / "data"), "--out", "out.h5"])
