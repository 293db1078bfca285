"""Small graphs in float64, and what they compute: rewrites are compared where rounding cannot hide a mistake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx.numpy_helper
import onnx.parser
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from pix2pix_edge.export.graph.graph import Graph

Array = NDArray[Any]


def model_of(ends: str, body: str, constants: Mapping[str, Array] | None = None, opset: int = 18) -> onnx.ModelProto:
    """Parse a graph: ends such as `(float[1, 3] x) => (float[1, 3] y)`, nodes that get the names of their outputs."""
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> test {ends} {{ {body} }}'
    model = onnx.parser.parse_model(text)
    for node in model.graph.node:
        node.name = node.output[0]
    for name, value in (constants or {}).items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    return model


def graph_of(
    body: str, constants: Mapping[str, Array], source: tuple[int, ...], result: tuple[int, ...], kind: str = "double"
) -> Graph:
    """Parse the nodes of `body` from x [source] to y [result]."""
    return Graph(model_of(f"({kind}{list(source)} x) => ({kind}{list(result)} y)", body, constants))


def run(graph: Graph, x: Array) -> Array:
    """Compute y with the definitions of the operators, in numpy."""
    graph.check()
    return ReferenceEvaluator(graph.to_model()).run(None, {graph.input.name: x})[0]  # type: ignore[no-any-return]


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def operators(graph: Graph) -> list[str]:
    graph.sort()
    return [node.op_type for node in graph.nodes]
