"""Weights that are rounded by what they multiply, against rounding each to the nearest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.int8 import rounding
from pix2pix_edge.export.int8.placement import find_layers
from pix2pix_edge.export.int8.rounding import Box, Moments, Rounding, measure_moments
from tests.export.arithmetic import graph_of, run
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


def phases_and_box(mode: str = "DCR", kernel: np.ndarray | None = None, also_read: bool = False) -> Graph:
    """Eight channels as 2 phases by 2 of two, interleaved and summed over 3 by 3 pixels, with a border."""
    kernel = np.arange(1.0, 10).reshape(3, 3) if kernel is None else kernel
    box = np.stack([kernel, -0.5 * kernel])[:, None]
    body = f"""phases = Conv <pads = [1, 1, 1, 1]> (x, w)
        real = DepthToSpace <blocksize = 2, mode = "{mode}"> (phases)
        y = Conv <group = 2, pads = [1, 0, 1, 2]> (real, box)"""
    if also_read:
        body = f"{body.replace('y =', 'sums =')}\nmean = ReduceMean <keepdims = 0> (phases)\ny = Add (sums, mean)"
    return graph_of(body, {"w": WEIGHT, "box": box}, (1, 6, 11, 12), (1, 2, 22, 24))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_the_sums_over_a_box_come_closer(mode: str) -> None:
    graph = phases_and_box(mode)
    conv = next(node for node in graph.nodes if node.op_type == "Conv")
    box = Box.after(graph, conv)
    assert box and box.kernel.sum() == pytest.approx(4) and box.pads == (1, 0, 1, 2)
    smooth = np.cumsum(np.cumsum(np.random.default_rng(3).normal(0, 1, (6, 11, 12)), axis=1), axis=2)

    def sums(weight: np.ndarray) -> np.ndarray:
        graph.constants["w"] = weight.astype(np.float64)
        return np.asarray(run(graph, smooth[None])[0] / np.array([1, -0.5])[:, None, None] * 4 / 45)

    rows = rounding.read_at(smooth, conv, WEIGHT.shape, 10**6, np.random.default_rng(0), box)
    joint = box.split(WEIGHT.reshape(8, -1)).swapaxes(1, 2).reshape(2, -1)
    expected = sums(WEIGHT).reshape(2, -1)
    assert np.sort(joint @ rows.T, axis=1) == pytest.approx(np.sort(expected, axis=1), abs=1e-3)
    assert np.array_equal(box.joined(box.split(WEIGHT.reshape(8, -1))), WEIGHT.reshape(8, -1))

    found = {}
    for name, boxes in (("each", {}), ("sums", {"conv": box})):
        moments = Moments.of(rows.shape[1] if boxes else 54)
        moments.add(rounding.read_at(smooth, conv, WEIGHT.shape, 10**6, np.random.default_rng(0), boxes.get("conv")))
        codes = Rounding({"conv": moments}, {}, boxes).codes("conv", WEIGHT, SCALES)
        off = sums(SCALES[:, None, None, None] * codes) - sums(WEIGHT)
        found[name] = off.std(axis=(1, 2)).mean()
    assert found["sums"] < 0.8 * found["each"]


@pytest.mark.parametrize("given", [{"kernel": np.array([[1, -1, 1]] * 3)}, {"also_read": True}])
def test_phases_are_rounded_one_by_one_where_more_is_done_with_them(given: dict[str, Any]) -> None:
    graph = phases_and_box(**given)
    assert Box.after(graph, next(node for node in graph.nodes if node.op_type == "Conv")) is None


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
