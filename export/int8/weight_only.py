"""Weights of 8 bits for layers that stay in floating point: a quarter of the file, and nothing else is rounded."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.graph.half import LARGEST
from pix2pix_edge.export.int8.placement import Layer
from pix2pix_edge.export.int8.rounding import Rounding
from pix2pix_edge.export.int8.targets import fp16_weight_scales, read_codes


def quantize_weights(graph: Graph, layers: Collection[Layer], rounding: Rounding) -> Graph:
    """Return a copy of a graph in which `layers`, none of them INT8, read what int8 codes of their weights stand for.

    A scale for each output channel, and one that FP16 has. What rounding takes from the results on average goes into
    the bias.
    """
    light = graph.copy()
    nodes = {node.name: node for node in light.nodes}
    for conv in (nodes[name] for layer in layers for name in layer.convolutions):
        weight = light.constants[conv.input[1]].astype(np.float64)
        largest = np.minimum(np.abs(weight).max(axis=(1, 2, 3)) / 127, LARGEST)
        scales = fp16_weight_scales(largest).astype(np.float32)
        codes = rounding.codes(conv.name, weight, scales)
        lost = rounding.lost(conv.name, weight - scales.astype(np.float64)[:, None, None, None] * codes)
        bias = light.constants[conv.input[2]] if len(conv.input) > 2 else 0.0
        read_codes(light, conv, codes, scales)
        conv.input[2:] = [light.constant(f"{conv.name}:bias", (bias + lost).astype(np.float32))]
    light.sort()
    return light
