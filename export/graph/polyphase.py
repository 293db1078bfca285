"""Nearest ×2 upsampling and the convolution after it, and transposed convolutions, as convolutions of the small map.

Along one axis let x be the small map, u[j] = x[j // 2] the upsampled one, and y[n] = Σ w[k] u[n + k - before]. Zeros
outside u are whole cells outside x, so everything below holds at the borders too, for any kernel and padding.

phases      y[2m] and y[2m + 1] each read a few neighbouring cells of x, with taps of w added up: four small
            convolutions, interleaved (25 taps for every 2×2 results of a 4×4 kernel; the upsampled map takes 64).
dense       one convolution to four times the channels over the cells that any phase reads (36 taps).
box         Upsampling is zero-stuffing z (z[2i] = x[i], else 0) followed by the box filter [1 1], and filters commute:
            y[n] = v[n] + v[n - 1] with v[n] = Σ w[k] z[n + k - before]. Each v reads half of the taps, each of which
            keeps its weight: 16 taps, no more weights than before, then a 2×2 sum for each channel by itself.

A transposed convolution of stride 2 is v itself, with its kernel turned round: y[n] = Σ W[k] x[i] over n = 2i + k - cut
is Σ w[k] z[n + k - before] with w[k] = W[K - 1 - k] and before = K - 1 - cut. It takes the forms "phases" and "dense",
whose convolutions any engine computes in INT8, too.

The phases are those of a multirate filter bank; interleaving is the sub-pixel convolution of Shi et al. (2016).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

from pix2pix_edge.export.graph.graph import Array, Graph, attributes


@dataclass(frozen=True)
class Axis:
    """One spatial axis: `size` small cells, upsampled ×2, `before` and `after` zeros around them, then a kernel."""

    size: int
    kernel: int
    before: int
    after: int

    @property
    def output(self) -> int:
        """How many results the convolution gives."""
        return 2 * self.size + self.before + self.after - self.kernel + 1


@dataclass(frozen=True)
class Site:
    """An upsampling and its convolution in a graph, with the pointwise activation after it, if any.

    source: tensor [N, C, H, W] before upsampling; output: the tensor that the convolution, or its activation, wrote;
    weight: [out, in, height, width], stride, dilation and group 1; bias: [out] or None. stuffed: zeros are put between
    the cells of the map, as a transposed convolution does, whose kernel is given turned round.
    """

    name: str
    source: str
    output: str
    rows: Axis
    columns: Axis
    weight: Array
    bias: Array | None = None
    activation: onnx.NodeProto | None = None
    stuffed: bool = False


@dataclass(frozen=True)
class Phase:
    """One of every two results along an axis: it reads the cells m + start + i, tap k where taps[i, k] is 1."""

    start: int
    taps: Array


@dataclass(frozen=True)
class Split:
    """An axis whose results 2m - lead and 2m + 1 - lead are computed apart, for m = 0 … cells - 1."""

    axis: Axis
    lead: int
    phases: tuple[Phase, ...]

    @property
    def cells(self) -> int:
        return -(-(self.axis.output + self.lead) // 2)

    @property
    def spare(self) -> int:
        """How many interleaved results follow the last one that is wanted."""
        return 2 * self.cells - self.lead - self.axis.output

    def pads(self, phase: Phase) -> tuple[int, int]:
        return -phase.start, self.cells - 1 + phase.start + len(phase.taps) - self.axis.size


def split(axis: Axis, lead: int, *, stuffed: bool = False) -> Split:
    """Split y, or with `stuffed` v of the module's docstring, into its two phases.

    Taps that would only ever meet zeros around the small map are left out.
    """
    count = Split(axis, lead, ()).cells

    def phase(first: int) -> Phase:
        places = {k: first - lead + k - axis.before for k in range(axis.kernel)}
        cells = {k: place // 2 for k, place in places.items() if not (stuffed and place % 2)}
        cells = {k: cell for k, cell in cells.items() if -count < cell < axis.size} or cells
        start = min(cells.values())
        taps = np.zeros((max(cells.values()) - start + 1, axis.kernel))
        for k, cell in cells.items():
            taps[cell - start, k] = 1
        return Phase(start, taps)

    return Split(axis, lead, (phase(0), phase(1)))


def widened(parts: Split) -> Split:
    """Let both phases read the same cells."""
    start = min(p.start for p in parts.phases)
    end = max(p.start + len(p.taps) for p in parts.phases)

    def widen(p: Phase) -> Phase:
        return Phase(start, np.pad(p.taps, ((p.start - start, end - p.start - len(p.taps)), (0, 0))))

    return Split(parts.axis, parts.lead, (widen(parts.phases[0]), widen(parts.phases[1])))


def stand_in(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return a weight without memory of its own, to count what a form would cost without computing it."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def is_stand_in(weight: Array) -> bool:
    return not any(weight.strides)


def gather(weight: Array, rows: Phase, columns: Phase) -> Array:
    """Return the kernel of one phase: taps that meet at a cell added in float64. [out, in, cells, cells]"""
    shape = (*weight.shape[:2], len(rows.taps), len(columns.taps))
    if is_stand_in(weight):
        return stand_in(shape, weight.dtype)
    folded = np.einsum("rk,sl,oikl->oirs", rows.taps, columns.taps, weight.astype(np.float64), optimize=True)
    kernel: Array = folded.astype(weight.dtype)
    return kernel


def _phases(graph: Graph, site: Site) -> list[onnx.NodeProto]:
    return _direct(graph, site, *(split(axis, 0, stuffed=site.stuffed) for axis in (site.rows, site.columns)))


def _dense(graph: Graph, site: Site) -> list[onnx.NodeProto]:
    # Results 2m - 1 and 2m of an odd kernel read the same cells, or 2m and 2m + 1 do: take the smaller window.
    def smallest(axis: Axis) -> Split:
        wide = (widened(split(axis, lead, stuffed=site.stuffed)) for lead in (0, 1))
        return min(wide, key=lambda parts: len(parts.phases[0].taps))

    return _direct(graph, site, smallest(site.rows), smallest(site.columns))


def _direct(graph: Graph, site: Site, rows: Split, columns: Split) -> list[onnx.NodeProto]:
    """Interleave y itself, and cut off what is too much; an activation goes first, where engines fuse it."""
    nodes = _interleaved(graph, site, rows, columns, site.bias, site.activation)
    if any((rows.lead, columns.lead, rows.spare, columns.spare)):
        parts = (rows, columns)
        window = {"starts": [p.lead for p in parts], "ends": [p.lead + p.axis.output for p in parts], "axes": [2, 3]}
        values = [graph.constant(f"{site.name}_crop:{n}", np.array(v, np.int64)) for n, v in window.items()]
        nodes.append(graph.node("Slice", [nodes[-1].output[0], *values], f"{site.name}_crop"))
    return nodes


def _box(graph: Graph, site: Site) -> list[onnx.NodeProto]:
    # v[-1] is the first one needed. An even kernel's results 2m - lead and 2m + 1 - lead read the same cells if `lead`
    # and `before` differ in parity, which makes the four phases one dense convolution without a wasted tap.
    def stuffed(axis: Axis) -> Split:
        return split(axis, 2 if axis.kernel % 2 == 0 and axis.before % 2 else 1, stuffed=True)

    rows, columns = stuffed(site.rows), stuffed(site.columns)
    nodes = _interleaved(graph, site, rows, columns, None, None)

    def box(parts: Split) -> Array:  # the zeros around the two ones skip the interleaved results that are too much
        return np.pad(np.ones(2), (parts.lead - 1, parts.spare))

    kernel = np.outer(box(rows), box(columns)).astype(site.weight.dtype)
    channels = site.weight.shape[0]
    kernel = np.ascontiguousarray(np.broadcast_to(kernel, (channels, 1, *kernel.shape)))
    nodes.append(_conv(graph, f"{site.name}_box", nodes[-1].output[0], kernel, site.bias, [0] * 4, group=channels))
    return _activated(graph, nodes, site)


FORMS: dict[str, Callable[[Graph, Site], list[onnx.NodeProto]]] = {
    "box": _box,
    "phases": _phases,
    "dense": _dense,
}


def forms(site: Site) -> tuple[str, ...]:
    """Return the names of the forms that a site may take."""
    return ("phases", "dense") if site.stuffed else tuple(FORMS)


def emit(graph: Graph, site: Site, form: str) -> list[onnx.NodeProto]:
    """Make the nodes of a form, in order; the last writes site.output. They are not placed in the graph."""
    nodes = FORMS[form](graph, site)
    nodes[-1].output[0] = site.output
    return nodes


def _interleaved(
    graph: Graph, site: Site, rows: Split, columns: Split, bias: Array | None, activation: onnx.NodeProto | None
) -> list[onnx.NodeProto]:
    """Convolve for all four phases, once where they read the same cells, and interleave them. Channels: phase-major."""
    parts = [(row, column) for row in rows.phases for column in columns.phases]
    kernels = [gather(site.weight, row, column) for row, column in parts]
    same = len({(row.start, column.start, kernel.shape) for (row, column), kernel in zip(parts, kernels, strict=True)})
    if same == 1:
        parts, names = parts[:1], [site.name]
        shape = (4 * site.weight.shape[0], *kernels[0].shape[1:])
        kernels = [stand_in(shape, kernels[0].dtype) if is_stand_in(kernels[0]) else np.concatenate(kernels)]
        bias = None if bias is None else np.tile(bias, 4)
    else:
        names = [f"{site.name}_{phase}" for phase in ("00", "01", "10", "11")]
    nodes, outputs = [], []
    for name, kernel, (row, column) in zip(names, kernels, parts, strict=True):
        (top, bottom), (left, right) = rows.pads(row), columns.pads(column)
        nodes.append(_conv(graph, name, site.source, kernel, bias, [top, left, bottom, right]))
        if activation is not None:
            copy = helper.make_node(
                activation.op_type, [*nodes[-1].output, *activation.input[1:]], [], **attributes(activation)
            )
            copy.name = graph.name(f"{activation.name}{name.removeprefix(site.name)}")
            copy.output.append(graph.name(f"{copy.name}:out"))
            nodes.append(copy)
        outputs.append(nodes[-1].output[0])
    if len(outputs) > 1:
        nodes.append(graph.node("Concat", outputs, f"{site.name}_phases", axis=1))
    nodes.append(graph.node("DepthToSpace", nodes[-1].output, f"{site.name}_interleave", blocksize=2, mode="DCR"))
    return nodes


def _conv(
    graph: Graph, name: str, source: str, weight: Array, bias: Array | None, pads: list[int], group: int = 1
) -> onnx.NodeProto:
    inputs = [source, graph.constant(f"{name}:weight", weight)]
    if bias is not None:
        inputs.append(graph.constant(f"{name}:bias", bias))
    return graph.node("Conv", inputs, name, kernel_shape=weight.shape[2:], pads=pads, group=group)


def _activated(graph: Graph, nodes: list[onnx.NodeProto], site: Site) -> list[onnx.NodeProto]:
    """Let the activation, unchanged, follow."""
    if site.activation is not None:
        node = onnx.NodeProto()
        node.CopyFrom(site.activation)
        node.name = graph.name(node.name)
        node.input[0] = nodes[-1].output[0]
        nodes.append(node)
    return nodes
