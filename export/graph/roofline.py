"""Which form an upsampling and its convolution take: the cheapest under a roofline, for each layer.

A node takes the time of its multiply-adds plus that of its bytes (at batch 1 little overlaps), and the forms of a layer
are compared by the sum over their nodes. After Williams et al., "Roofline" (2009), who take the larger of the two.

The rule knows the layer alone and not the machine, so that the same network gives the same file everywhere: it is
converted on one machine and runs on others.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import helper

from pix2pix_edge.export.graph import polyphase
from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.graph.polyphase import Site
from pix2pix_edge.export.inspect import LayerCost, count

# Multiply-adds that a machine does while it moves one byte: about 5 in FP32 on two AVX-512 cores; in FP16 on Jetson
# boards 25 to 40, for each FP32 byte counted here. The 64-filter generator gets the same forms from 2 to 60.
BALANCE = 10
# Engines compute this many output channels at once (AVX-512 lanes, tensor core tiles): fewer cost as much.
LANES = 16


@dataclass(frozen=True)
class Estimate:
    """The cost of a layer in a form; time in bytes that could be moved meanwhile."""

    multiply_adds: int
    weight_bytes: int
    time: float


def choose(site: Site) -> str:
    """Return the form that takes the least time; upsampling may also stay as it is ("none")."""
    return min(polyphase.forms(site) + (() if site.stuffed else ("none",)), key=lambda form: estimate(site, form).time)


def estimate(site: Site, form: str) -> Estimate:
    """Return what a layer costs in a form of polyphase.FORMS, or as it is ("none"), without computing its weights."""
    weight = polyphase.stand_in(site.weight.shape, site.weight.dtype)
    layer = replace(site, source="x", output="y", weight=weight, activation=None)
    shapes = {
        "x": (1, weight.shape[1], site.rows.size, site.columns.size),
        "y": (1, weight.shape[0], site.rows.output, site.columns.output),
    }
    kind = helper.np_dtype_to_tensor_dtype(weight.dtype)
    x, y = (helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items())
    body = helper.make_graph([], "layer", [x], [y])
    graph = Graph(helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)]))
    graph.nodes = _plain(graph, layer) if form == "none" else polyphase.emit(graph, layer, form)
    costs = count(graph)
    return Estimate(
        sum(cost.multiply_adds for cost in costs),
        sum(cost.weight_bytes for cost in costs),
        sum(_time(cost) for cost in costs),
    )


def _plain(graph: Graph, site: Site) -> list[onnx.NodeProto]:
    axes = (site.rows, site.columns)
    bias = [] if site.bias is None else [graph.constant("bias", site.bias)]
    if site.stuffed:
        inputs = ["x", graph.constant("weight", site.weight.swapaxes(0, 1)), *bias]
        pads = [axis.kernel - 1 - axis.before for axis in axes] + [max(0, a.kernel - 2 - a.after) for a in axes]
        tail = [max(0, axis.after - axis.kernel + 2) for axis in axes]
        return [graph.node("ConvTranspose", inputs, "conv", "y", strides=[2, 2], pads=pads, output_padding=tail)]
    scales = graph.constant("scales", np.array([1, 1, 2, 2], np.float32))
    resize = graph.node("Resize", ["x", "", scales], "resize", mode="nearest")
    inputs = [resize.output[0], graph.constant("weight", site.weight), *bias]
    pads = [axis.before for axis in axes] + [axis.after for axis in axes]
    return [resize, graph.node("Conv", inputs, "conv", "y", pads=pads)]


def _time(cost: LayerCost) -> float:
    channels = cost.output[1]
    lanes = -(-channels // LANES) * LANES / channels
    moved = cost.weight_bytes + cost.read_bytes + cost.written_bytes
    return cost.multiply_adds * lanes / BALANCE + moved
