"""Small graphs in float64, and what they compute: rewrites are compared where rounding cannot hide a mistake."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx.parser
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from pix2pix_edge.export.graph.graph import Graph

Array = NDArray[Any]


def graph_of(
    body: str, constants: Mapping[str, Array], source: tuple[int, ...], result: tuple[int, ...], kind: str = "double"
) -> Graph:
    """Parse the nodes of `body`, each named after its output, from x [source] to y [result]."""
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    test ({kind}{list(source)} x) => ({kind}{list(result)} y) {{ {body} }}"""
    model = onnx.parser.parse_model(text)
    for node in model.graph.node:
        node.name = node.output[0]
    graph = Graph(model)
    graph.constants.update({name: np.asarray(value) for name, value in constants.items()})
    return graph


def run(graph: Graph, x: Array) -> Array:
    """Compute y with the definitions of the operators, in numpy."""
    graph.check()
    return ReferenceEvaluator(graph.to_model()).run(None, {graph.input.name: x})[0]  # type: ignore[no-any-return]


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def operators(graph: Graph) -> list[str]:
    graph.sort()
    return [node.op_type for node in graph.nodes]
