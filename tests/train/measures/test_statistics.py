"""Batch norm's statistics measured anew: they are those of inference, and the rest of the network stays."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from pix2pix_edge.train.data import Pairs
from pix2pix_edge.train.drawings.__main__ import draw_folders
from pix2pix_edge.train.measures.statistics import settle
from pix2pix_edge.train.networks import generator
from pix2pix_edge.train.pairs.layouts import find_pairs


def test_each_norm_s_inputs_have_the_statistics_that_it_holds(tmp_path: Path) -> None:
    draw_folders(tmp_path, 3, 1, 64, 0)
    enlarged = Pairs(find_pairs(tmp_path)[0], 72, "label2picture")
    keras.utils.set_random_seed(0)
    network = generator(4, 64)
    weights = [np.array(weight) for weight in network.trainable_weights]
    settle(network, enlarged.at((64, 64)))
    sources = np.stack([pair[0] for pair in Pairs(enlarged.pairs, 64, "label2picture")])
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert norms
    read = keras.Model(network.input, [norm.input for norm in norms])(sources / np.float32(127.5) - 1, training=False)
    for norm, values in zip(norms, map(np.asarray, read), strict=True):
        assert np.asarray(norm.moving_mean) == pytest.approx(values.mean(axis=(0, 1, 2)), abs=1e-4)
        assert np.asarray(norm.moving_variance) == pytest.approx(values.var(axis=(0, 1, 2)), rel=1e-2, abs=1e-4)
    for one, other in zip(weights, network.trainable_weights, strict=True):
        assert np.array_equal(one, other)
