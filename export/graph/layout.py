"""A quantised graph as the CPU's engines run it fastest: the same pictures from fewer and longer moves of memory.

With few filters half of the time went into moving values one by one (docs/benchmarks.md, "Narrow networks"). Both
engines hold a map with its channels side by side where they compute in INT8. So interleaving the phases of an
upsampling (DepthToSpace) is said in that order, in which it swaps runs of values; it comes after whatever maps each
value by itself, where the phases are still one small map; and a box with fewer channels than a processor has lanes
becomes a convolution from all phases to all phases. The image is dequantised before it is transposed, so that a
convolution reads its bytes as they lie. Weights of 8 bits whose convolution is not INT8 are said as a cast and a
product, which ONNX Runtime computes once; a DequantizeLinear it would compute for every picture. TensorRT, which moves
memory its own way, is not given such a graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper

from pix2pix_edge.export.graph.graph import TO_NCHW, TO_NHWC, Array, Graph, attributes
from pix2pix_edge.export.graph.roofline import LANES
from pix2pix_edge.export.graph.simplify import ELEMENTWISE


def arrange(graph: Graph) -> Graph:
    """Return a copy in which interleaves, few-channelled boxes and the image's transpose suit a CPU.

    graph: NCHW inside, NHWC outside, static shapes. What it computes stays the same, but for the order of sums.
    """
    graph = graph.copy()
    shapes = graph.shapes()
    for interleave in [node for node in graph.nodes if node.op_type == "DepthToSpace"]:
        if attributes(interleave).get("mode", b"DCR") == b"DCR":
            _interleave_late(graph, interleave, shapes[interleave.input[0]])
    _multiply_weights(graph)
    _dequantize_first(graph)
    graph.sort()
    return graph


def _interleave_late(graph: Graph, interleave: onnx.NodeProto, shape: tuple[int, ...]) -> None:
    """Put moves of runs where a DepthToSpace was, after its box and what maps each value by itself.

    shape: of what it reads.
    """
    block = int(attributes(interleave)["blocksize"])
    batch, phases, height, width = shape
    source, name, channels_last, gone = interleave.input[0], interleave.output[0], False, [interleave]
    node = graph.only_reader(name)
    while node is not None:
        last = node.op_type == "Transpose" and attributes(node)["perm"] == TO_NHWC and not channels_last
        sums = _sums(graph, node, block, phases // block**2) if name == interleave.output[0] else None
        if not last and sums is None and not _of_each_value(graph, node):
            break
        name = node.output[0]
        if last:
            channels_last = True
            gone.append(node)
        else:
            node.input[0], node.output[0] = source, graph.name(f"{name}:phases")
            source = node.output[0]
        if sums is not None:
            node.input[1] = graph.constant(f"{node.name}:weight", sums)
            if len(node.input) > 2:
                node.input[2] = graph.constant(f"{node.name}:bias", np.tile(graph.constants[node.input[2]], block**2))
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("kernel_shape", sums.shape[2:]))
            height, width = height - sums.shape[2] + 1, width - sums.shape[3] + 1
        node = graph.only_reader(name)
    graph.nodes = [node for node in graph.nodes if all(node is not other for other in gone)]
    _move(graph, source, name, (batch, height, width, block, phases // block**2), channels_last)


def _move(graph: Graph, source: str, name: str, sizes: tuple[int, ...], channels_last: bool) -> None:
    """Interleave `source` to the tensor `name`; sizes: batch, height, width, block and channels of the result."""
    batch, height, width, block, channels = sizes

    def add(operator: str, tensors: list[str], what: str, output: str | None = None, **known: Any) -> str:
        graph.nodes.append(graph.node(operator, tensors, f"{name}/{what}", output, **known))
        return str(graph.nodes[-1].output[0])

    def reshape(tensor: str, shape: list[int], what: str, output: str | None = None) -> str:
        constant = graph.constant(f"{name}/{what}:shape", np.array(shape, np.int64))
        return add("Reshape", [tensor, constant], what, output)

    pixels = [batch, block * height, block * width, channels]
    if channels_last:  # a picture's few channels are short runs: join whole rows
        parts = graph.constant(f"{name}/parts:split", np.full(block, block * channels))
        add("Split", [source, parts], "parts", axis=1)
        split = graph.nodes[-1]
        split.output.extend(graph.name(f"{name}/parts:out") for _ in range(block - 1))
        rows = [add("Transpose", [part], "channels_last", perm=TO_NHWC) for part in split.output]
        rows = [reshape(row, [batch, height, 1, width * block * channels], "row") for row in rows]
        reshape(add("Concat", rows, "interleave", axis=2), pixels, "pixels", name)
        return
    tensor = add("Transpose", [source], "channels_last", perm=TO_NHWC)
    # the batch is joined with the rows: ONNX Runtime would make one slow transpose of two where a reshape only splits
    tensor = reshape(tensor, [batch * height, width, block, block * channels], "runs")
    tensor = reshape(add("Transpose", [tensor], "interleave", perm=[0, 2, 1, 3]), pixels, "pixels")
    add("Transpose", [tensor], "channels_first", name, perm=TO_NCHW)


def _sums(graph: Graph, node: onnx.NodeProto, block: int, channels: int) -> Array | None:
    """Return the weight of a convolution of the phases that does what a box of their interleaved map does.

    None for what is no such box, whose channels are enough to be convolved one by one, or whose result has a size that
    is no multiple of the block.
    """
    known = attributes(node)
    if node.op_type != "Conv" or known.get("group", 1) != channels or channels * block**2 > LANES:
        return None
    if any(name not in graph.constants for name in node.input[1:]) or any(known.get("pads", [])):
        return None
    weight = graph.constants[node.input[1]]
    plain = all(value == 1 for name in ("strides", "dilations") for value in known.get(name, [1]))
    if weight.shape[:2] != (channels, 1) or not plain or any((size - 1) % block for size in weight.shape[2:]):
        return None
    cells = [(size - 1) // block + 1 for size in weight.shape[2:]]
    sums = np.zeros((block, block, channels, block, block, channels, *(size for size in cells)), weight.dtype)
    each = np.arange(channels)
    for row, column in np.ndindex(block, block):
        for down, right in np.ndindex(*weight.shape[2:]):
            (y, from_row), (x, from_column) = divmod(row + down, block), divmod(column + right, block)
            sums[row, column, each, from_row, from_column, each, y, x] = weight[:, 0, down, right]
    return sums.reshape(block**2 * channels, block**2 * channels, *cells)


def _of_each_value(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether an operator maps each value by itself, all by the same constants."""
    constants = [graph.constants.get(name) for name in node.input[1:] if name]
    single = all(value is not None and value.size == 1 for value in constants)
    return node.op_type in {*ELEMENTWISE, "Cast"} and node.input[0] not in graph.constants and single


def _dequantize_first(graph: Graph) -> None:
    """Dequantise the image before it is transposed."""
    transpose = graph.only_reader(graph.input.name)
    node = None if transpose is None or transpose.op_type != "Transpose" else graph.only_reader(transpose.output[0])
    if transpose is None or node is None or node.op_type != "DequantizeLinear":
        return
    if graph.constants[node.input[1]].size == 1:
        before, after = transpose.output[0], node.output[0]
        node.input[0], node.output[0] = graph.input.name, before
        transpose.input[0], transpose.output[0] = before, after


def _multiply_weights(graph: Graph) -> None:
    """Let convolutions whose data are not quantised read the product of their weights' codes and scales."""
    dequantized = {node.output[0]: node for node in graph.nodes if node.op_type == "DequantizeLinear"}
    for conv in [node for node in graph.nodes if node.op_type == "Conv" and node.input[0] not in dequantized]:
        node = dequantized.get(conv.input[1])
        if node is None or graph.constants[node.input[2]].any():
            continue
        codes, weight = node.input[0], graph.constants[node.input[0]]
        scales = graph.constants[node.input[1]].reshape(-1, *[1] * (weight.ndim - 1))
        cast = graph.node("Cast", [codes], f"{node.name}/real", to=onnx.TensorProto.FLOAT)
        constant = graph.constant(f"{node.name}:scales", scales)
        product = graph.node("Mul", [cast.output[0], constant], f"{node.name}/product", node.output[0])
        graph.replace([node], [cast, product])
