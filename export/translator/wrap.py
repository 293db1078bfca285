"""The contract around a network's graph: uint8 [1, H, W, C] RGB in, uint8 or uint16 out, all conversions as nodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from pix2pix_edge.export.graph.graph import TO_NCHW, TO_NHWC, Graph, attributes
from pix2pix_edge.export.translator.contract import LUMA, WHITE, Pixels, order
from pix2pix_edge.runtime.engines.base import INPUT_NAME, OUTPUT_NAME


def wrap(graph: Graph, pixels: Pixels, layout: tuple[str, str]) -> None:
    """Put the conversions of `pixels` around a network, in place.

    graph: one input and one output, FP32 or uint8, [1, H, W, C] or [1, C, H, W] as `layout` ("NHWC", "NCHW") says of
    each. The casts from and to uint8 stay outermost, and transposes inside them: TensorRT takes no uint8 Transpose.
    """
    for value in (graph.input, graph.output):
        value.name = f"{value.name}:network"
    graph.relabel({}, {name: f"{name}:network" for name in _tensors(graph)})
    kinds = [value.type.tensor_type.elem_type for value in (graph.input, graph.output)]
    _at_the_input(graph, pixels, layout[0], kinds[0])
    _at_the_output(graph, pixels, layout[1], kinds[1])
    graph.sort()


def _at_the_input(graph: Graph, pixels: Pixels, layout: str, kind: int) -> None:
    tensor = graph.input.name
    inner = tensor
    readers = [node for node in graph.nodes if tensor in node.input]
    if layout == "NHWC" and len(readers) == 1 and _moves(readers[0], TO_NCHW):
        graph.nodes = [node for node in graph.nodes if node is not readers[0]]
        inner, layout = readers[0].output[0], "NCHW"
    chain = Chain(graph, INPUT_NAME, "input")
    if not (kind == TensorProto.UINT8 and layout == "NHWC" and not pixels.bgr and pixels.takes[2] != 1):
        chain.add("Cast", to=TensorProto.FLOAT)
        if pixels.takes[2] == 1:
            chain.add("MatMul", np.array(LUMA, np.float32)[:, None])
            chain.add("Add", np.float32(0.5))
            chain.add("Floor")
        if pixels.bgr:
            chain.add("Gather", np.array(order(pixels.takes[2]), np.int64), axis=3)
        low, high = pixels.input_range
        if pixels.mean or pixels.std:
            if layout == "NCHW":
                chain.add("Transpose", perm=TO_NCHW)
            chain.add("Div", np.float32(255))
            for operator, values in (("Sub", pixels.mean), ("Div", pixels.std)):
                if values:
                    value = np.array(values, np.float32)
                    chain.add(operator, value.reshape(-1, 1, 1) if layout == "NCHW" else value)
        else:
            if high - low != 255:
                chain.add("Div", np.float32(255 / (high - low)))
            if low:
                chain.add("Add", np.float32(low))
            if layout == "NCHW":
                chain.add("Transpose", perm=TO_NCHW)
        if kind == TensorProto.UINT8:
            chain.add("Cast", to=TensorProto.UINT8)
    graph.nodes = [*chain.nodes, *graph.nodes]
    graph.rename(inner, chain.tensor)
    shape = [1, *pixels.picture]
    graph.input.CopyFrom(helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, shape))


def _at_the_output(graph: Graph, pixels: Pixels, layout: str, kind: int) -> None:
    tensor = graph.output.name
    shape = [1, *pixels.gives]
    made = TensorProto.UINT16 if pixels.bits == 16 else TensorProto.UINT8
    graph.output.CopyFrom(helper.make_tensor_value_info(OUTPUT_NAME, made, shape))
    if kind == TensorProto.UINT8 and layout == "NHWC" and not pixels.bgr:
        graph.relabel({}, {tensor: OUTPUT_NAME})
        return
    producer = graph.producers().get(tensor)
    if layout == "NHWC" and producer is not None and _moves(producer, TO_NHWC) and kind != TensorProto.UINT8:
        tensor, layout = producer.input[0], "NCHW"
    chain = Chain(graph, tensor, "output")
    if kind != TensorProto.UINT8:
        low, high = pixels.output_range
        white = WHITE[pixels.bits]
        if kind == TensorProto.UINT16:
            chain.add("Cast", to=TensorProto.FLOAT)
        if low:
            chain.add("Add", np.float32(-low))
        if high - low != white:
            chain.add("Mul", np.float32(white / (high - low)))
        chain.add("Clip", np.float32(0), np.float32(white))
        chain.add("Round")
    if pixels.bgr:
        places = np.array(order(pixels.gives[2]), np.int64)
        chain.add("Gather", places, axis=1 if layout == "NCHW" else 3)
    if layout == "NCHW":
        chain.add("Transpose", perm=TO_NHWC)
    chain.add("Cast", to=made)
    chain.nodes[-1].output[0] = OUTPUT_NAME
    graph.nodes += chain.nodes


def _tensors(graph: Graph) -> set[str]:
    """Return every tensor's name but those of constants, so that none is taken for one of the contract."""
    names = {name for node in graph.nodes for name in (*node.input, *node.output) if name}
    return names - graph.constants.keys()


def _moves(node: onnx.NodeProto, perm: list[int]) -> bool:
    return node.op_type == "Transpose" and list(attributes(node).get("perm", [])) == perm


class Chain:
    """Nodes one after another, each reading the one before."""

    def __init__(self, graph: Graph, tensor: str, layer: str) -> None:
        self.graph, self.tensor, self.layer = graph, tensor, layer
        self.nodes: list[onnx.NodeProto] = []

    def add(self, operator: str, *constants: Any, **values: Any) -> None:
        name = f"{self.layer}/{operator.lower()}"
        inputs = [self.tensor, *(self.graph.constant(f"{name}:constant", np.asarray(c)) for c in constants)]
        node = self.graph.node(operator, inputs, name, **values)
        self.nodes.append(node)
        self.tensor = node.output[0]
