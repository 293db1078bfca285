"""Weights that are rounded by what they multiply, against rounding each to the nearest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.int8 import rounding
from pix2pix_edge.export.int8.placement import find_layers
from pix2pix_edge.export.int8.rounding import Moments, Rounding, measure_moments
from tests.export.small_network import write_small_network

random = np.random.default_rng(7)
WEIGHT = random.normal(0, 1, (8, 6, 3, 3))
SCALES = (np.abs(WEIGHT).max(axis=(1, 2, 3)) / 127).astype(np.float32)
NEAREST = np.round(WEIGHT / SCALES[:, None, None, None])


def of(rows: np.ndarray) -> Rounding:
    moments = Moments.of(rows.shape[1])
    for part in np.array_split(rows.astype(np.float32), 3):
        moments.add(part)
    return Rounding({"conv": moments}, {})


def errors(rows: np.ndarray, codes: np.ndarray, bias: np.ndarray) -> float:
    rest = WEIGHT - SCALES[:, None, None, None] * codes
    return float(np.mean((rows @ rest.reshape(8, -1).T - bias) ** 2))


@pytest.mark.parametrize("together", [54, 20])
def test_the_results_of_what_goes_together_come_closer(together: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "TOGETHER", together)
    mixing = random.normal(0, 1, (5, 54))
    rows = 1.5 + random.normal(0, 1, (2000, 5)) @ mixing + random.normal(0, 0.05, (2000, 54))
    found = of(rows)
    codes = found.codes("conv", WEIGHT, SCALES)
    assert codes.dtype == np.int8 and np.abs(codes).max() <= 127
    rest = WEIGHT - SCALES[:, None, None, None] * codes
    bias = found.lost("conv", rest)
    assert errors(rows, codes, bias) < errors(rows, NEAREST, np.zeros(8)) / (40 if together == 54 else 3)
    unseen = 1.5 + random.normal(0, 1, (500, 5)) @ mixing + random.normal(0, 0.05, (500, 54))
    assert errors(unseen, codes, bias) < errors(unseen, NEAREST, np.zeros(8)) / (40 if together == 54 else 3)
    assert np.mean(rows @ rest.reshape(8, -1).T - bias) == pytest.approx(0, abs=1e-4)
    assert found.codes("conv", WEIGHT, SCALES) is codes  # once for each set of scales


def test_what_has_nothing_in_common_is_rounded_to_the_nearest() -> None:
    moments = Moments(100, np.zeros(54), [np.eye(54, dtype=np.float32)])
    assert np.array_equal(Rounding({"conv": moments}, {}).codes("conv", WEIGHT, SCALES), NEAREST)


def test_weights_of_what_is_always_zero_are_kept() -> None:
    assert np.array_equal(of(np.zeros((64, 54))).codes("conv", WEIGHT, SCALES), NEAREST)


@pytest.mark.parametrize("known", [
    {"pads": [1, 1, 1, 1]}, {"pads": [1, 0, 2, 3], "strides": [2, 1]}, {"dilations": [2, 3], "pads": [0, 2, 1, 0]},
])  # fmt: skip
def test_rows_are_what_a_convolution_multiplies(known: dict[str, list[int]]) -> None:
    values = random.normal(0, 1, (1, 6, 11, 12)).astype(np.float32)
    conv = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", **known)
    graph = helper.make_graph(
        [conv], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, values.shape),
                      helper.make_tensor_value_info("w", TensorProto.FLOAT, WEIGHT.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )  # fmt: skip
    expected = (
        ReferenceEvaluator(graph, opsets={"": 17})
        .run(None, {"x": values, "w": WEIGHT.astype(np.float32)})[0][0]
        .reshape(8, -1)
    )
    rows = rounding.read_at(values[0], conv, WEIGHT.shape, 10**6, np.random.default_rng(0))
    results = WEIGHT.reshape(8, -1) @ rows.T
    assert results.shape == expected.shape  # every place once, in any order
    assert np.sort(results, axis=1) == pytest.approx(np.sort(expected, axis=1), abs=1e-4)


def test_what_codes_of_values_are_off_on_average_is_known() -> None:
    values = np.stack([np.full(50, 0.05), np.linspace(0, 3, 50)])
    off = Rounding({}, {"x": values}).off("x", 0.2, np.array(128, np.uint8))
    assert off == pytest.approx([0.05, 0], abs=0.02)
    assert Rounding({}, {"x": values}).off("x", 0.01, np.array(0, np.int8))[1] == pytest.approx(0.5, abs=0.1)  # clipped


def test_a_network_is_measured_image_by_image(tmp_path: Path) -> None:
    graph = Graph.load(write_small_network(tmp_path / "small.fp32.onnx"))
    graph.sort()
    layers = find_layers(graph)
    images = [random.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(3)]
    one, other = (measure_moments(graph, layers, iter(images)) for _ in range(2))
    names = {name for layer in layers for name in layer.convolutions}
    assert set(one.moments) == names
    for name in names:
        assert np.array_equal(one.moments[name].mean, other.moments[name].mean)
        weight = next(graph.constants[n.input[1]] for n in graph.nodes if n.name == name)
        assert one.moments[name].mean.shape == (weight[0].size,) and np.isfinite(one.moments[name].mean).all()
