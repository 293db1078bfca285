"""FP16: strongly typed from end to end, and the same pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from pix2pix_edge.export.fidelity import psnr
from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.graph.half import LARGEST, to_half
from pix2pix_edge.runtime.engine import open_engine
from tests.export.accepts import accepted, needs_tool
from tests.export.arithmetic import model_of
from tests.export.small_network import write_small_network


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_network(tmp_path_factory.mktemp("half") / "small.fp32.onnx")


def saved(graph: Graph, path: Path) -> Path:
    onnx.save(graph.to_model(), path)
    return path


def test_nothing_between_the_ends_is_fp32(single: Path) -> None:
    half = to_half(Graph.load(single))
    inferred = onnx.shape_inference.infer_shapes(half.to_model(), strict_mode=True).graph
    kinds = {v.type.tensor_type.elem_type for v in inferred.value_info}
    assert TensorProto.FLOAT not in kinds and TensorProto.FLOAT16 in kinds
    assert all(value.dtype != np.float32 for value in half.constants.values())
    ends = {v.type.tensor_type.elem_type for v in (*inferred.input, *inferred.output)}
    assert ends == {TensorProto.UINT8}


def test_the_pictures_stay(single: Path, tmp_path: Path) -> None:
    half = saved(to_half(Graph.load(single)), tmp_path / "small.fp16.onnx")
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    with open_engine(single, backend="onnxruntime") as a, open_engine(half, backend="onnxruntime") as b:
        assert psnr(a(images), b(images)) > 50


def test_the_fp32_graph_is_left_as_it_was(single: Path) -> None:
    graph = Graph.load(single)
    before = graph.to_model().SerializeToString(deterministic=True)
    first, second = to_half(graph), to_half(graph)
    assert graph.to_model().SerializeToString(deterministic=True) == before
    assert first.to_model().SerializeToString(deterministic=True) == second.to_model().SerializeToString(
        deterministic=True
    )


def test_resize_scales_stay_fp32_even_where_shared_and_large_constants_are_clipped() -> None:
    constants = {"scales": [1, 1, 2, 2], "large": [[[[1e9]]]], "two": 2}
    body = """x = Cast <to = 1> (image)  y = Resize <mode = "nearest"> (x, , scales)  z = Mul (y, two)
        m = Min (z, large)  translated = Cast <to = 2> (m)"""
    ends = "(uint8[1, 1, 2, 4] image) => (uint8[1, 1, 4, 8] translated)"
    half = to_half(Graph(model_of(ends, body, {name: np.float32(value) for name, value in constants.items()})))
    assert half.constants["scales"].dtype == np.float32
    assert half.constants["large"].max() == LARGEST and half.constants["two"].dtype == np.float16
    assert half.opset == 18


@needs_tool
def test_tensorrt_accepts_it_in_two_bytes_for_each_weight(single: Path, tmp_path: Path) -> None:
    graph = Graph.load(single)
    weights = sum(value.size for value in graph.constants.values())
    stored, lowered = accepted(saved(to_half(graph), tmp_path / "small.fp16.onnx"))
    assert lowered == 0 and stored <= 2.05 * weights + 4096  # padding of a network this small
