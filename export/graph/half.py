"""FP16, strongly typed: every constant and every cast to FP32 of a graph becomes FP16, and nothing is left between.

The scales of Resize stay FP32, because ONNX has no other. Input scaling happens in FP16 as well: levels 0 … 255 and
their halves are exact in FP16, and so are all 256 results of the output's rounding.
"""

from __future__ import annotations

import copy

import numpy as np
import onnx
from onnx import TensorProto, helper

from pix2pix_edge.export.graph.graph import Graph

LARGEST = float(np.finfo(np.float16).max)
OPSET_OF_FP16_SCALES = 19
"""The first opset whose QuantizeLinear and DequantizeLinear take FP16."""

# Input position of what must stay FP32.
FP32_INPUTS = {"Resize": (1, 2)}


def to_half(graph: Graph) -> Graph:
    """Return a copy of an FP32 graph that computes in FP16; inputs and outputs keep their type (uint8).

    Constants are clipped to FP16's range; those below its smallest subnormal become 0. The opset is raised only where
    the graph holds Q/DQ.
    """
    half = Graph(copy.deepcopy(graph.to_model()))
    kept = {node.input[place] for node in half.nodes for place in _fp32_places(node)}
    others = {name for node in half.nodes for place, name in enumerate(node.input) if place not in _fp32_places(node)}
    for name in sorted(kept & others & half.constants.keys()):  # read as both: what stays FP32 is a copy
        own = half.constant(f"{name}:fp32", half.constants[name])
        for node in half.nodes:
            for place in _fp32_places(node):
                if node.input[place] == name:
                    node.input[place] = own
        kept = kept - {name} | {own}
    for name, value in half.constants.items():
        if value.dtype == np.float32 and name not in kept:
            half.constants[name] = np.clip(value, -LARGEST, LARGEST).astype(np.float16)
    for node in half.nodes:
        if node.op_type == "Cast":
            target = next(a for a in node.attribute if a.name == "to")
            if target.i == TensorProto.FLOAT:
                target.i = TensorProto.FLOAT16
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in half.nodes):
        raise_opset(half, OPSET_OF_FP16_SCALES)
    half.check()
    return half


def _fp32_places(node: onnx.NodeProto) -> list[int]:
    return [place for place in FP32_INPUTS.get(node.op_type, ()) if place < len(node.input)]


def raise_opset(graph: Graph, opset: int) -> None:
    """Let a graph say at least `opset`; between 13 and 19 our operators did not change their meaning."""
    if graph.opset < opset:
        model = graph.model
        others = [o for o in model.opset_import if o.domain not in ("", "ai.onnx")]
        del model.opset_import[:]
        model.opset_import.extend([helper.make_opsetid("", opset), *others])
        model.ir_version = max(model.ir_version, 9)  # what opset 19 needs
