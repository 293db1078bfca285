"""Weights of 8 bits in layers that stay in floating point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.graph.half import OPSET_OF_FP16_SCALES, raise_opset
from pix2pix_edge.export.graph.layout import arrange
from pix2pix_edge.export.inspect import count
from pix2pix_edge.export.int8.placement import Layer, find_layers
from pix2pix_edge.export.int8.rounding import Moments, Rounding, measure_moments
from pix2pix_edge.export.int8.weight_only import quantize_weights
from tests.export.arithmetic import model_of, operators, run
from tests.export.small_network import write_small_network

random = np.random.default_rng(5)
LAYER = Layer(("c",), "x", ("x",), ("y",), 1, 1)


def convolution(weight: np.ndarray, bias: np.ndarray | None = None) -> Graph:
    names = "x, w" if bias is None else "x, w, b"
    constants = {"w": weight.astype(np.float32)} | ({} if bias is None else {"b": bias.astype(np.float32)})
    graph = Graph(model_of("(float[1, 3, 6, 6] x) => (float[1, 4, 5, 5] y)", f"y = Conv ({names})", constants, 19))
    graph.nodes[0].name = "c"
    return graph


@pytest.mark.parametrize("bias", [None, random.normal(0, 1, 4)], ids=["no bias", "bias"])
def test_results_hardly_move_and_on_average_not_at_all(bias: np.ndarray | None) -> None:
    graph = convolution(random.normal(0, 1, (4, 3, 2, 2)), bias)
    moments = Moments.of(12)
    x = random.normal(1, 1, (1, 3, 6, 6)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (2, 2), axis=(1, 2))
    moments.add(windows.transpose(1, 2, 0, 3, 4).reshape(25, 12))
    light = quantize_weights(graph, [LAYER], Rounding({"c": moments}, {}))
    off = run(light, x) - run(graph, x)
    assert 0 < np.abs(off).max() < 0.05
    assert off.mean(axis=(2, 3)) == pytest.approx(np.zeros((1, 4)), abs=1e-5)
    assert graph.nodes[0].input[1] == "w"  # the one given is left as it was


@pytest.mark.parametrize("size", [0.0, 1e-9, 3e7])
def test_weights_of_any_size_have_scales_that_fp16_has(size: float) -> None:
    rounding = Rounding({"c": Moments(1, np.zeros(12), [np.eye(12, dtype=np.float32)])}, {})
    light = quantize_weights(convolution(np.full((4, 3, 2, 2), size)), [LAYER], rounding)
    scales = light.constants["c:weight_scales"]
    assert np.array_equal(scales.astype(np.float16).astype(np.float32), scales) and (scales > 0).all()
    assert np.isfinite(run(light, np.ones((1, 3, 6, 6), np.float32))).all()


def test_what_a_cpu_is_given_computes_them_once(tmp_path: Path) -> None:
    graph = Graph.load(write_small_network(tmp_path / "small.onnx"))
    raise_opset(graph, OPSET_OF_FP16_SCALES)  # the operators' definitions have no DequantizeLinear before
    layers = find_layers(graph)
    images = [random.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(8)]
    light = quantize_weights(graph, layers[1:], measure_moments(graph, layers, images))
    arranged = arrange(light)
    assert operators(light).count("DequantizeLinear") == len(layers) - 1
    assert "DequantizeLinear" not in operators(arranged)
    codes = [node.input[0] for node in arranged.nodes if node.op_type == "Cast" and node.input[0] in arranged.constants]
    assert [arranged.constants[name].dtype for name in codes] == [np.int8] * (len(layers) - 1)
    assert np.array_equal(run(arranged, images[0][None]), run(light, images[0][None]))
    for form in (light, arranged):
        costs = {cost.name: cost for cost in count(form)}
        assert {costs[layer.name].precision for layer in layers} == {"fp32"}
        assert not any(f"{layer.name}/weight" in name for layer in layers for name in costs)
        for layer in layers[1:]:
            kernel, bias = light.constants[f"{layer.name}:weight_codes"], light.constants[f"{layer.name}:bias"]
            assert costs[layer.name].weight_bytes == kernel.nbytes + bias.nbytes
    off = run(light, images[0][None]).astype(int) - run(graph, images[0][None])
    assert 0 < np.abs(off).max() <= 12
