"""Exact rewriting of a plain graph: the same function, for less arithmetic.

Upsampling and the convolution after it, and transposed convolutions, become convolutions of the small map
(polyphase.py), batch norm's scales and the input conversion go into the convolutions beside them (absorb.py), idle
clips (clip.py) and idle taps go away. Nothing else is touched, and what looks like upsampling but is left alone is
reported with its reason.
"""

from __future__ import annotations

import copy
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import helper

from pix2pix_edge.export.graph import polyphase
from pix2pix_edge.export.graph.absorb import absorb
from pix2pix_edge.export.graph.clip import drop_idle_clips
from pix2pix_edge.export.graph.graph import Graph, attributes
from pix2pix_edge.export.graph.polyphase import Axis, Site
from pix2pix_edge.export.graph.roofline import choose, estimate
from pix2pix_edge.export.graph.simplify import ELEMENTWISE
from pix2pix_edge.runtime.sidecar import Rewrite

FORMS = ("auto", *polyphase.FORMS, "none")

Shapes = dict[str, tuple[int, ...]]


def fold(graph: Graph, form: str = "auto") -> list[Rewrite]:
    """Rewrite a graph in place and return what was done, in the order of the graph.

    graph: NCHW, static shapes, upsampling spelled as nearest Resize. form: one of FORMS; "auto" takes what costs least
    by the rule of roofline.py, for each layer; "none" changes nothing; the others ask for one form everywhere. The
    result depends on the graph and the form alone, never on this machine.
    """
    if form == "none":
        return []
    graph.sort()
    rewrites = [*absorb(graph), *drop_idle_clips(graph), *fold_upsampling(graph, form), *fold_transposed(graph, form)]
    graph.sort()
    return [*rewrites, *drop_idle_taps(graph)]


def drop_idle_taps(graph: Graph) -> list[Rewrite]:
    """Leave out the rows and columns of kernels that only ever meet zeros around the map.

    The last convolution on the way to a bottom of one cell, 4×4 with stride 2 over 2×2 cells, keeps a quarter.
    """
    shapes = graph.shapes()
    rewrites = []
    for conv in [node for node in graph.nodes if node.op_type == "Conv" and node.input[1] in graph.constants]:
        known, weight = attributes(conv), graph.constants[conv.input[1]]
        if known.get("auto_pad", b"NOTSET") != b"NOTSET" or "pads" not in known or weight.ndim != 4:
            continue
        strides, dilations = known.get("strides", [1, 1]), known.get("dilations", [1, 1])
        sizes, results, pads = shapes[conv.input[0]][2:], shapes[conv.output[0]][2:], list(known["pads"])
        window = [slice(None), slice(None)]
        for axis, kernel in enumerate(weight.shape[2:]):
            places = (
                np.arange(results[axis])[:, None] * strides[axis] + np.arange(kernel) * dilations[axis] - pads[axis]
            )
            useful = np.flatnonzero(((places >= 0) & (places < sizes[axis])).any(axis=0))
            first, last = (int(useful[0]), int(useful[-1])) if len(useful) else (0, kernel - 1)
            pads[axis] -= first * dilations[axis]
            pads[axis + 2] -= (kernel - 1 - last) * dilations[axis]
            window.append(slice(first, last + 1))
        kept = np.ascontiguousarray(weight[tuple(window)])
        if kept.shape == weight.shape or min(pads) < 0:
            continue
        conv.input[1] = graph.constant(f"{conv.name}:weight", kept)
        del conv.attribute[:]
        known |= {"pads": pads, "kernel_shape": kept.shape[2:]}
        conv.attribute.extend(helper.make_attribute(name, value) for name, value in known.items())
        times = prod(shapes[conv.output[0]])
        form = "×".join(map(str, kept.shape[2:]))
        before, after = ((times * prod(w.shape[1:]), w.nbytes) for w in (weight, kept))
        rewrites.append(Rewrite(conv.name, "idle taps", form, (before[0], after[0]), (before[1], after[1])))
    graph.sort()
    return rewrites


def fold_upsampling(graph: Graph, form: str) -> list[Rewrite]:
    """Replace every nearest ×2 Resize and the convolutions that read it; form: one of FORMS but "none"."""
    shapes = graph.shapes()
    rewrites: list[Rewrite] = []
    for resize in [node for node in graph.nodes if node.op_type == "Resize"]:
        reason = _not_doubling(graph, resize, shapes)
        if reason:
            rewrites.append(_left_alone(resize, reason))
            continue
        for reader, pad in _readers(graph, resize):
            site = "it makes the graph's output" if reader is None else _site(graph, resize, pad, reader, shapes)
            if reader is None or isinstance(site, str):
                rewrites.append(_left_alone(resize, str(site)))
                continue
            rewrites.append(_rewritten(graph, reader, site, form))
    return rewrites


def fold_transposed(graph: Graph, form: str) -> list[Rewrite]:
    """Replace every transposed convolution of stride 2; form: one of FORMS but "none", "box" is chosen as "auto" is."""
    shapes = graph.shapes()
    rewrites = []
    for conv in [node for node in graph.nodes if node.op_type == "ConvTranspose"]:
        site = _transposed_site(graph, conv, shapes)
        if isinstance(site, str):
            rewrites.append(Rewrite(conv.name, "transposed", "none", reason=site))
        else:
            rewrites.append(_rewritten(graph, conv, site, form))
    return rewrites


def _rewritten(graph: Graph, conv: onnx.NodeProto, site: Site, form: str) -> Rewrite:
    chosen = form if form in polyphase.forms(site) else choose(site)
    before, after = estimate(site, "none"), estimate(site, chosen)
    if chosen != "none":
        _replace(graph, conv, site, chosen)
    return Rewrite(
        site.name,
        "transposed" if site.stuffed else "upsampling",
        chosen,
        (before.multiply_adds, after.multiply_adds),
        (before.weight_bytes, after.weight_bytes),
    )


def _not_doubling(graph: Graph, resize: onnx.NodeProto, shapes: Shapes) -> str | None:
    """Say why a Resize is not nearest ×2 upsampling of an image, or None."""
    known = attributes(resize)
    mode = known.get("mode", b"nearest").decode()
    if mode != "nearest":
        return f"it interpolates ({mode}); only nearest upsampling has an exact rewrite"
    before, after = shapes[resize.input[0]], shapes[resize.output[0]]
    factors = tuple(have / size for have, size in zip(after, before, strict=True))
    if factors != (1, 1, 2, 2):
        return f"it resizes by {'×'.join(f'{f:g}' for f in factors[2:])}; only 2×2 is rewritten"
    # Where each upsampled cell is read from, by the definition of the operator.
    transform = known.get("coordinate_transformation_mode", b"half_pixel").decode()
    rounding = known.get("nearest_mode", b"round_prefer_floor").decode()
    for size in before[2:]:
        places = np.arange(2 * size)
        if transform == "asymmetric":
            exact = places / 2
        elif transform == "tf_half_pixel_for_nn":
            exact = (places + 0.5) / 2
        elif transform in ("half_pixel", "half_pixel_symmetric") or (transform == "pytorch_half_pixel" and size > 1):
            exact = (places + 0.5) / 2 - 0.5
        else:
            return f"its coordinates are {transform}"
        rounded = {
            "floor": np.floor(exact),
            "ceil": np.ceil(exact),
            "round_prefer_floor": np.ceil(exact - 0.5),
            "round_prefer_ceil": np.floor(exact + 0.5),
        }[rounding]
        if not np.array_equal(np.clip(rounded, 0, size - 1), places // 2):
            return f"its {transform} coordinates with {rounding} do not repeat each cell twice"
    return None


def _readers(graph: Graph, resize: onnx.NodeProto) -> list[tuple[onnx.NodeProto | None, onnx.NodeProto | None]]:
    """Return each node that reads the upsampled map, with the Pad in between, if any; None for the graph's output."""
    consumers = graph.consumers()

    def readers(name: str) -> list[onnx.NodeProto | None]:
        distinct = {id(node): node for node in consumers.get(name, [])}
        return [*distinct.values(), *([None] if name == graph.output.name else [])]

    found: list[tuple[onnx.NodeProto | None, onnx.NodeProto | None]] = []
    for node in readers(resize.output[0]):
        if node is not None and node.op_type == "Pad":
            found += [(reader, node) for reader in readers(node.output[0])]
        else:
            found.append((node, None))
    return found


def _site(
    graph: Graph, resize: onnx.NodeProto, pad: onnx.NodeProto | None, conv: onnx.NodeProto, shapes: Shapes
) -> Site | str:
    """Describe the upsampling and a convolution that reads it, or say why they cannot be folded."""
    if conv.op_type != "Conv":
        return f"{conv.op_type} {conv.name} comes between it and a convolution"
    source = resize.output[0] if pad is None else pad.output[0]
    if conv.input[0] != source or any(name not in graph.constants for name in conv.input[1:] if name):
        return f"the weights of {conv.name} are not constant"
    known = attributes(conv)
    weight = graph.constants[conv.input[1]]
    height, width = weight.shape[2:]
    for name, plain in (("strides", [1, 1]), ("dilations", [1, 1]), ("group", 1)):
        if known.get(name, plain) != plain:
            return f"{conv.name} has {name} {known[name]}"
    if 1 in (height, width):
        return f"{conv.name} has a {height}×{width} kernel"
    pads = _explicit_pads(known, height, width)
    if pad is not None:
        around = _zero_padding(graph, pad)
        if around is None:
            return f"{pad.name} pads with something else than zeros, or not only height and width"
        pads = [a + b for a, b in zip(pads, around, strict=True)]
    size = shapes[resize.input[0]][2:]
    rows = Axis(size[0], height, pads[0], pads[2])
    columns = Axis(size[1], width, pads[1], pads[3])
    bias = graph.constants[conv.input[2]] if len(conv.input) > 2 and conv.input[2] else None
    activation = _activation(graph, conv)
    output = conv.output[0] if activation is None else activation.output[0]
    return Site(conv.name, resize.input[0], output, rows, columns, weight, bias, copy.deepcopy(activation))


def _transposed_site(graph: Graph, conv: onnx.NodeProto, shapes: Shapes) -> Site | str:
    """Describe a transposed convolution, or say why it has no exact rewrite here."""
    if any(name not in graph.constants for name in conv.input[1:] if name):
        return f"the weights of {conv.name} are not constant"
    known = attributes(conv)
    if known.get("strides") != [2, 2]:
        return f"{conv.name} has strides {known.get('strides', [1, 1])}; only 2×2 is rewritten"
    for name, plain in (("dilations", [1, 1]), ("group", 1)):
        if known.get(name, plain) != plain:
            return f"{conv.name} has {name} {known[name]}"
    if known.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or "output_shape" in known:
        return f"{conv.name} leaves its padding to the engine"
    weight = graph.constants[conv.input[1]]
    sizes, results, kernel = shapes[conv.input[0]][2:], shapes[conv.output[0]][2:], weight.shape[2:]
    cut = known.get("pads", [0] * 4)[:2]
    before = [k - 1 - c for k, c in zip(kernel, cut, strict=True)]
    after = [y - 2 * x - b + k - 1 for x, y, b, k in zip(sizes, results, before, kernel, strict=True)]
    if min(before) < 1 or min(after) < 0:
        return f"{conv.name} cuts off more than its {kernel[0]}×{kernel[1]} kernel adds"
    rows, columns = (Axis(*axis) for axis in zip(sizes, kernel, before, after, strict=True))
    bias = graph.constants[conv.input[2]] if len(conv.input) > 2 and conv.input[2] else None
    activation = _activation(graph, conv)
    return Site(
        conv.name,
        conv.input[0],
        conv.output[0] if activation is None else activation.output[0],
        rows,
        columns,
        np.ascontiguousarray(weight.swapaxes(0, 1)[:, :, ::-1, ::-1]),
        bias,
        copy.deepcopy(activation),
        stuffed=True,
    )


def _explicit_pads(known: dict[str, Any], height: int, width: int) -> list[int]:
    """Return [top, left, bottom, right] of a convolution with stride 1."""
    auto = known.get("auto_pad", b"NOTSET").decode()
    if not auto.startswith("SAME"):
        return list(known.get("pads", [0] * 4)) if auto == "NOTSET" else [0] * 4
    small, large = [(k - 1) // 2 for k in (height, width)], [k // 2 for k in (height, width)]
    return [*small, *large] if auto == "SAME_UPPER" else [*large, *small]


def _zero_padding(graph: Graph, pad: onnx.NodeProto) -> list[int] | None:
    """Return [top, left, bottom, right] of a Pad with zeros around height and width, else None."""
    if any(name and name not in graph.constants for name in pad.input[1:]):
        return None
    amounts, value, axes = (*(graph.constants.get(name) for name in pad.input[1:]), None, None)[:3]
    if amounts is None or attributes(pad).get("mode", b"constant") != b"constant" or np.any(value or 0):
        return None
    around = np.zeros((2, 4), np.int64)
    around[:, list(range(4)) if axes is None else [int(axis) % 4 for axis in axes]] = amounts.reshape(2, -1)
    if around[:, :2].any() or around.min() < 0:
        return None
    return [int(amount) for amount in around[:, 2:].reshape(-1)]


def _activation(graph: Graph, conv: onnx.NodeProto) -> onnx.NodeProto | None:
    """Return the node that alone reads a convolution, if it maps each value by itself."""
    readers = graph.consumers().get(conv.output[0], [])
    if len(readers) != 1 or conv.output[0] == graph.output.name or readers[0].op_type not in ELEMENTWISE:
        return None
    scalars = all(name in graph.constants and graph.constants[name].size == 1 for name in readers[0].input[1:] if name)
    return readers[0] if scalars and readers[0].input[0] == conv.output[0] else None


def _replace(graph: Graph, conv: onnx.NodeProto, site: Site, form: str) -> None:
    """Put the form where the convolution and its activation were; their names go to the nodes that do their work."""
    activation = _activation(graph, conv)
    old = [conv] if activation is None else [conv, activation]
    names = {node.name: graph.name(f"{node.name}:plain") for node in old}
    inner = [*conv.input[1:], *(node.output[0] for node in old)]
    tensors = {name: graph.name(f"{name}:plain") for name in inner if name and name != site.output}
    graph.relabel(names, tensors)
    graph.replace(old, polyphase.emit(graph, site, form))


def _left_alone(resize: onnx.NodeProto, reason: str) -> Rewrite:
    return Rewrite(resize.name, "upsampling", "none", reason=reason)
