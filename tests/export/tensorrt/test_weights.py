"""Weights of 8 bits that floating-point convolutions read, unpacked for TensorRT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.graph.half import to_half
from pix2pix_edge.export.int8.placement import find_layers
from pix2pix_edge.export.int8.rounding import measure_moments
from pix2pix_edge.export.int8.targets import TensorRt
from pix2pix_edge.export.int8.weight_only import quantize_weights
from pix2pix_edge.export.tensorrt.weights import unpack_weights
from pix2pix_edge.runtime.engines.onnxruntime import OnnxRuntimeEngine
from tests.export.small_network import write_small_network

IMAGE = np.random.default_rng(5).integers(0, 256, (1, 32, 32, 3), np.uint8)


@pytest.fixture()
def graph(tmp_path: Path) -> Graph:
    """The middle layer in INT8, the weights of the others in 8 bits, all else in FP16."""
    graph = Graph.load(write_small_network(tmp_path / "small.onnx"))
    layers = find_layers(graph)
    rounding = measure_moments(graph, layers, [IMAGE[0]])
    ranges = {tensor: (-4.0, 4.0) for layer in layers for tensor in (*layer.parts, *layer.results)}
    quantized = TensorRt.quantized(graph, layers[1:2], ranges, rounding)
    return to_half(quantize_weights(quantized, [layers[0], layers[2]], rounding))


def test_they_are_what_their_codes_stand_for_and_no_others_change(graph: Graph, tmp_path: Path) -> None:
    model = graph.to_model().SerializeToString()
    unpacked = onnx.load_from_string(unpack_weights(model))
    onnx.checker.check_model(unpacked, full_check=True)
    found = Graph(unpacked)
    for name in ("down1", "up1"):
        conv = next(node for node in found.nodes if node.name == name)
        codes, scales = (graph.constants[f"{name}:weight_{what}"] for what in ("codes", "scales"))
        expected = (codes * scales.astype(np.float32)[:, None, None, None]).astype(np.float16)
        assert np.array_equal(found.constants[conv.input[1]], expected)
    assert len(found.nodes) == len(graph.nodes) - 2
    pictures = []
    for name, content in (("packed", model), ("unpacked", unpacked.SerializeToString())):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with OnnxRuntimeEngine(path) as engine:
            pictures.append(engine(IMAGE).astype(int))
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


@pytest.mark.parametrize(
    "changed",
    [
        {"codes": np.zeros((16, 16, 4, 4), np.uint8)},
        {"scales": np.array(0.5, np.float16)},
        {"zeros": np.ones(16, np.int8)},
        {"zeros": None},
        {"codes": None},  # a tensor that the graph computes
    ],
    ids=["uint8", "one scale", "another zero", "no zero", "no constant"],
)
def test_what_others_wrote_in_another_way_stays(graph: Graph, changed: dict[str, np.ndarray | None]) -> None:
    model = graph.to_model()
    for what, value in changed.items():
        for name in ("down1", "up1"):
            at = next(i for i, t in enumerate(model.graph.initializer) if t.name == f"{name}:weight_{what}")
            del model.graph.initializer[at]
            if value is not None:
                model.graph.initializer.append(onnx.numpy_helper.from_array(value, f"{name}:weight_{what}"))
            elif what == "zeros":
                node = next(node for node in model.graph.node if f"{name}:weight_zeros" in node.input)
                del node.input[2]
    content = model.SerializeToString()
    assert unpack_weights(content) is content


def test_what_has_none_is_the_same_file(tmp_path: Path) -> None:
    for precision in ("fp32", "fp16", "int8"):
        model = write_small_network(tmp_path / "small.onnx", precision).read_bytes()
        assert unpack_weights(model) is model
