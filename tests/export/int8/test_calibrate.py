"""Histograms, the ranges made of them, equalisation, and the choice of layers."""

from __future__ import annotations

import json
from dataclasses import replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.int8.calibrate import FORMAT, Calibration, calibrate, channels_of
from pix2pix_edge.export.int8.equalize import Channels, choose_scales, equalize
from pix2pix_edge.export.int8.histogram import BINS, METHODS, Histogram, entropy_range, merged, percentile_range
from pix2pix_edge.export.int8.placement import Layer, find_layers, scale_groups
from pix2pix_edge.export.int8.sensitivity import select_layers
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import InputError
from tests.export.small_network import write_small_network
from tests.runtime.test_sidecar import JSON

random = np.random.default_rng(5)
VALUES = [random.laplace(0, scale, (1, 3, 20, 20)).astype(np.float32) for scale in (0.1, 1, 30, 2)]


def filled(values: list[np.ndarray]) -> Histogram:
    histogram = Histogram(3)
    for value in values:
        histogram.add(value)
    return histogram


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_network(tmp_path_factory.mktemp("plain") / "small.fp32.onnx")


def test_a_histogram_counts_everything_whatever_the_order() -> None:
    one, other = filled(VALUES), filled(VALUES[::-1])
    assert one.counts.sum() == sum(value.size for value in VALUES) and one.counts.shape == (3, BINS)
    assert np.array_equal(one.reach, other.reach) and np.array_equal(one.low, other.low)
    # bins that were filled before the reach doubled are merged, so nothing moves by more than the last width
    assert np.abs(np.cumsum(one.counts - other.counts, axis=1)).max() == 0


def test_channel_sizes_and_ranges_are_those_of_numpy() -> None:
    histogram = filled(VALUES)
    everything = np.concatenate([value.transpose(1, 0, 2, 3).reshape(3, -1) for value in VALUES], axis=1)
    width = histogram.reach / (BINS / 2)
    assert np.all(np.abs(histogram.sizes(0.01) - np.quantile(np.abs(everything), 0.99, axis=1)) <= 2 * width)
    assert histogram.sizes(0) == pytest.approx(np.abs(everything).max(axis=1), rel=1e-6)
    scales = np.array([1.0, 0.5, 2.0])
    counts, ends = merged([histogram], [scales])
    scaled = everything * scales[:, None]
    assert ends == pytest.approx((scaled.min(), scaled.max()), rel=1e-6)
    low, high = percentile_range(counts, ends, 1e-2)
    assert (low, high) == pytest.approx(tuple(np.quantile(scaled, [0.01, 0.99])), abs=2 * max(width * scales))


def test_ranges_lie_within_the_values_and_outliers_are_left_out() -> None:
    histogram = filled([random.normal(0, 1, (1, 3, 100, 100)).astype(np.float32)])
    histogram.add(np.full((1, 3, 1, 1), 100, np.float32))
    counts, ends = merged([histogram], [np.ones(3)])
    for method, range_of in METHODS.items():
        low, high = range_of(counts, ends)
        assert ends[0] <= low < 0 < high <= ends[1], method
    assert entropy_range(counts, ends)[1] < 20 and METHODS["minmax"](counts, ends)[1] == 100


@pytest.mark.parametrize("level", [0.0, 3.5])
def test_constant_values_have_finite_ranges(level: float) -> None:
    counts, ends = merged([filled([np.full((1, 3, 4, 4), level, np.float32)])], [np.ones(3)])
    for range_of in METHODS.values():
        low, high = range_of(counts, ends)
        assert np.isfinite([low, high]).all() and low <= high <= level


def test_equalising_leaves_the_pictures_as_they_are(plain: Path, tmp_path: Path) -> None:
    graph = Graph.load(plain)
    channels = Channels(graph)
    sizes = {name: random.uniform(0.01, 50, len(ids)) for name, ids in channels.of.items()}
    scales = choose_scales(channels, sizes)
    free = np.setdiff1d(np.arange(channels.count), sorted(channels.fixed))
    assert np.ptp(np.log(scales[free])) > 1 and (scales[sorted(channels.fixed)] == 1).all()
    equalize(graph, channels, scales)
    onnx.save(graph.to_model(), tmp_path / "equal.onnx")
    images = random.integers(0, 256, (1, 32, 32, 3), np.uint8)
    with open_engine(plain, backend="onnxruntime") as a, open_engine(tmp_path / "equal.onnx") as b:
        assert np.abs(a(images).astype(int) - b(images)).max() <= 1


def test_tensors_whose_channels_cannot_be_followed_are_left_alone(plain: Path) -> None:
    channels = Channels(Graph.load(plain))
    assert (choose_scales(channels, {"elsewhere": np.ones(4)}) == 1).all()


def test_channels_that_depth_to_space_interleaves_are_scaled_together(plain: Path) -> None:
    channels = Channels(Graph.load(plain))
    before, after = channels.of["up1:0"], channels.of["up1.space:0"]
    assert len(before) == 4 * len(after) and set(before) == set(after)
    assert set(channels.of["up2:0"]) <= channels.fixed  # tanh lets no scale through


def test_calibration_streams_and_does_not_depend_on_the_order(plain: Path) -> None:
    graph = Graph.load(plain)
    layers = find_layers(graph)
    images = [random.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(5)]
    alive = 0

    def stream(order: list[int]):  # type: ignore[no-untyped-def]
        nonlocal alive
        for i in order:
            alive += 1
            yield images[i]

    one = calibrate(graph, layers, stream([0, 1, 2, 3, 4]), ["a", "b"], "model")
    other = calibrate(graph, layers, stream([4, 2, 0, 3, 1]), ["b", "a"], "model")
    assert one == other and alive == 10
    assert set(one.ranges) == set(scale_groups(layers))
    with pytest.raises(InputError, match="no image"):
        calibrate(graph, layers, [], [], "model")


def small_calibration(graph: Graph, layers: list[Layer]) -> Calibration:
    images = [random.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(2)]
    return calibrate(graph, layers, images, ["a", "b"], "model")


def test_a_calibration_comes_back_whole_and_not_otherwise(plain: Path, tmp_path: Path) -> None:
    graph = Graph.load(plain)
    graph.sort()
    layers = find_layers(graph)
    channels = channels_of(graph, layers)
    found, path = small_calibration(graph, layers), tmp_path / "c.json"
    found.save(path)
    assert Calibration.load(path, "model", channels) == found
    name = min(channels)
    content = json.loads(path.read_text())
    for wrong, said in (
        ({"sizes": {**content["sizes"], name: [1.0]}}, "does not tell the sizes"),
        ({"sizes": {**content["sizes"], name: [-1.0] * channels[name]}}, "does not tell the sizes"),
        ({"ranges": {}}, "does not tell the ranges"),
        ({"ranges": {**content["ranges"], name: {"minmax": [0, 1]}}}, "does not tell the ranges"),
        ({"ranges": {**content["ranges"], name: {"minmax": [0]}}}, "right length"),
        ({"ranges": {**content["ranges"], name: {method: [2, 1] for method in METHODS}}}, "does not tell the ranges"),
        ({"images": "all"}, "images must be a list"),
        ({"model_sha256": "other"}, "of another model"),
        ({"format": 1}, "says 1, not"),
    ):
        path.write_text(json.dumps({**content, **wrong}))
        with pytest.raises(InputError, match=said) as caught:
            Calibration.load(path, "model", channels)
        assert "--cache" in str(caught.value)


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(["format", "model_sha256", "images", "sizes", "ranges"]), JSON))
def test_any_calibration_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, changed: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    whole = {"format": FORMAT, "model_sha256": "m", "images": [], "sizes": {}, "ranges": {}}
    path.write_text(json.dumps(whole | changed))
    try:
        Calibration.load(path, "m", {})
    except InputError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("worth", ["multiply_adds", "weights"])
def test_what_is_worth_most_within_the_budget_is_kept(worth: str) -> None:
    def layer(name: str, work: int) -> Layer:
        return replace(Layer((name,), "", (), (), 1, 1), **{worth: work})  # type: ignore[arg-type]

    layers = [layer("cheap and harmful", 1), layer("large", 100), layer("medium", 30), layer("small", 10)]
    errors = {"cheap and harmful": 5.0, "large": 6.0, "medium": 2.0, "small": 1.0}

    def chosen(budget: float) -> list[str]:
        return [found.name for found in select_layers(layers, errors, budget, attrgetter(worth))]

    assert chosen(100) == list(errors)
    assert chosen(9) == ["large", "medium", "small"]
    assert chosen(6) == ["large"]
    assert chosen(0.5) == []
