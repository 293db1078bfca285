"""Clips that the range of tanh or sigmoid already keeps are dropped."""

from __future__ import annotations

import numpy as np
import onnx

from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.runtime.sidecar import Rewrite

RANGES = {"Tanh": (-1.0, 1.0), "Sigmoid": (0.0, 1.0), "HardSigmoid": (0.0, 1.0), "Softsign": (-1.0, 1.0)}
MOVING = ("Identity", "Transpose", "Reshape", "DepthToSpace", "Slice", "Cast")
ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}
# An engine's tanh may leave [-1, 1] by a rounding error. Relative to the range; far less than half a level of 255.
ROUNDING = 1e-6

Interval = tuple[float, float]
ANYTHING: Interval = (-np.inf, np.inf)


def drop_idle_clips(graph: Graph) -> list[Rewrite]:
    """Drop each Min, Max and Clip whose input stays within its limits; return a record for each one that went."""
    graph.sort()
    rewrites = []
    for node in list(graph.nodes):
        if node.op_type not in ("Min", "Max", "Clip") or node.output[0] == graph.output.name:
            continue
        source = next((name for name in node.input if name and name not in graph.constants), None)
        limits = None if source is None else _limits(graph, node)
        if source is None or limits is None:
            continue
        low, high = interval(graph, source)
        slack = ROUNDING * (high - low)
        if limits[0] <= low + slack and high - slack <= limits[1]:
            graph.drop(node, source)
            rewrites.append(Rewrite(node.name, "clip", "dropped"))
    return rewrites


def _limits(graph: Graph, node: onnx.NodeProto) -> Interval | None:
    """Return what a node limits its input to; None where that is computed."""
    constants = [graph.constants.get(name) for name in node.input]
    if node.op_type == "Clip":
        if any(name and value is None for name, value in zip(node.input[1:], constants[1:], strict=True)):
            return None
        low, high = (*constants[1:], None, None)[:2]
        return (-np.inf if low is None else float(low.max())), (np.inf if high is None else float(high.min()))
    known = [value for value in constants if value is not None]
    if len(node.input) != 2 or len(known) != 1 or known[0].size != 1:
        return None
    limit = float(known[0].reshape(()))
    return (-np.inf, limit) if node.op_type == "Min" else (limit, np.inf)


def interval(graph: Graph, tensor: str) -> Interval:
    """Return limits that a tensor keeps, by the operators that make it."""
    node = graph.producers().get(tensor)
    if node is None:
        return ANYTHING
    if node.op_type in RANGES:
        return RANGES[node.op_type]
    if node.op_type in ("Min", "Max", "Clip") and (limits := _limits(graph, node)) is not None:
        source = next(name for name in node.input if name not in graph.constants)
        low, high = interval(graph, source)
        return max(low, limits[0]), min(high, limits[1])
    if node.op_type in MOVING:
        return interval(graph, node.input[0])
    if node.op_type in ARITHMETIC:
        parts = [
            (float(graph.constants[n].min()), float(graph.constants[n].max()))
            if n in graph.constants
            else interval(graph, n)
            for n in node.input
        ]
        divided = node.op_type == "Div" and parts[1][0] <= 0 <= parts[1][1]
        if not np.isfinite(parts).all() or divided:
            return ANYTHING
        corners = [ARITHMETIC[node.op_type](a, b) for a in parts[0] for b in parts[1]]
        return float(min(corners)), float(max(corners))
    return ANYTHING
