"""Which values a network's pixels have: seen in its graph and in what it gives, or asked for, never assumed in silence.

What tells: limits of its last operators (tanh, sigmoid, clips, a Rescaling after them), a Rescaling at its input, and
batch norm, whose moving statistics say what the values before it were in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import onnx

from pix2pix_edge.export.graph.clip import ARITHMETIC, interval
from pix2pix_edge.export.graph.graph import Array, Graph
from pix2pix_edge.export.translator.contract import LEVELS, SYMMETRIC, UNIT, Options, Pixels, Range, described
from pix2pix_edge.export.translator.translator import CHANNELS, Translator
from pix2pix_edge.runtime.errors import InputError

if TYPE_CHECKING:
    from pix2pix_edge.runtime.frame import Image

Way = TypeVar("Way")
USUAL = (SYMMETRIC, UNIT, LEVELS)
LOOKED_AT = 4
"""Pictures that batch norm's statistics are compared on."""
CLEARLY = 0.5
"""One range is told from the others where its batch norm fits twice as well as with the next."""
# A network for [0, 1] or [0, 255] hardly gives less than black; one for [-1, 1] gives it half of the time.
BELOW_BLACK = -0.25
LARGEST_NORMED = 8.0
"""Values beyond it are levels: networks work on numbers near 1."""
CLIPPED = 0.05
"""A share of the values that is too much to lie outside of a range, and of the range that is far outside."""
RANGES = "what black and white are: --input-range -1,1 or --input-range 0,1 or --input-range 0,255"
MEANS = {UNIT: (0.02, 0.98), LEVELS: (2.0, 253.0), SYMMETRIC: (-0.98, 0.98)}
"""Between which the mean of pictures may lie, for each range in the order in which they are tried."""
IMAGENET_BGR = (103.939, 116.779, 123.68)
IMAGENET: dict[str, dict[str, Any]] = {
    "say --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225": {
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
    },
    "put that step (preprocess_input) into the network, or, where it gives BGR too, say --mean 0.4076,0.458,0.485"
    " --std 0.003922 --channels bgr": {
        "mean": tuple(value / 255 for value in IMAGENET_BGR),
        "std": (1 / 255,),
        "bgr": True,
    },
}
"""What encoders of ImageNet are given: by torchvision, and by keras.applications for VGG and ResNet."""
LABELS = ("Softmax", "ArgMax", "LogSoftmax", "TopK")


@dataclass(frozen=True)
class Finding:
    """A range, and why it is taken for that; assumed: that is no proof."""

    limits: Range
    why: str
    assumed: bool = False


def examine(
    translator: Translator, graph: Graph, options: Options, images: Sequence[Image], *, drawn: bool = True
) -> tuple[Pixels, list[str]]:
    """Return the pixels of a network, and a sentence about each of its ends.

    graph: translator.graph(). images: uint8 [H, W, C], as its pictures are; drawn: they are not its owner's. Raises
    InputError, saying what was seen, where the values cannot be told.
    """
    last = _last(graph)
    if (labels := _last(graph, *ARITHMETIC)) in LABELS:
        raise InputError(
            f"{translator.path} ends in {labels}: it gives labels or shares of classes, which are no picture"
        )
    given = options.input_range or (SYMMETRIC if options.mean or options.std else None)
    asked = Finding(given, "as you say") if given else None
    if translator.is_uint8:
        source = Finding(LEVELS, "its input is uint8")
    else:
        source = (
            asked
            or _of_rescaling(translator, graph, options.bgr)
            or _of_statistics(translator, graph, options, images, drawn)
        )
    shown = _pixels(translator, options, source.limits, SYMMETRIC)
    values = np.concatenate([translator.run(_given(translator, shown, image)) for image in images[:LOOKED_AT]])
    low, high = (float(np.percentile(values, share)) for share in (0.5, 99.5))
    result = Finding(options.output_range, "as you say") if options.output_range else None
    kind = graph.output.type.tensor_type.elem_type
    if kind == onnx.TensorProto.UINT8:
        result = Finding(LEVELS, "its output is uint8")
        if options.bits != 8:
            raise InputError(f"{translator.path} gives uint8, which has no more than 8 bits; leave --bits out")
    elif kind == onnx.TensorProto.UINT16:
        result, options = Finding((0.0, 65535.0), "its output is uint16"), replace(options, bits=16)
    result = result or _of_limits(graph, last) or _of_values(translator, low, high, last, source)
    if high - low < 1e-3 * (result.limits[1] - result.limits[0]):
        raise InputError(
            f"{translator.path} gives one value, {low:.3g}, wherever one looks: is it trained, and is its input"
            f" {described(source.limits)}? say so with --input-range"
        )
    margin = CLIPPED * (result.limits[1] - result.limits[0])
    beyond = float(np.mean((values < result.limits[0] - margin) | (values > result.limits[1] + margin)))
    if beyond > CLIPPED:
        translator.notes.append(
            f"{beyond:.0%} of what it gives on these pictures lies far beyond {described(result.limits)}, and becomes"
            " black or white: is it a picture, and of these values? say so with --output-range"
        )
    if source.assumed:
        _note_assumed(translator, _pixels(translator, options, source.limits, result.limits), images[:LOOKED_AT][-1])
    said = [f"input {described(source.limits)}: {source.why}", f"output {described(result.limits)}: {result.why}"]
    if options.mean or options.std:
        said[0] = "input by --mean and --std"
    return _pixels(translator, options, source.limits, result.limits), said


def _note_assumed(translator: Translator, pixels: Pixels, image: Image) -> None:
    """Note what the picture of one image would be if the input had the other usual range, in levels."""
    usual, other = (
        np.clip(p.to_levels(translator.run(p.to_network(image[None]))), 0, 255)
        for p in (pixels, replace(pixels, input_range=UNIT))
    )
    if (changed := float(np.abs(usual - other).max())) > 1:
        translator.notes.append(
            f"{described(SYMMETRIC)} is taken for its input, as its output has it, which is no proof: with"
            f" {described(UNIT)} its pictures differ by up to {changed:.0f} levels of 255; look at the sheet, and say"
            " which with --input-range"
        )


def _pixels(translator: Translator, options: Options, source: Range, result: Range) -> Pixels:
    for name, values in (("--mean", options.mean), ("--std", options.std)):
        if len(values) not in (0, 1, translator.takes[2]):
            raise InputError(f"{name} has {len(values)} values; give one, or {translator.takes[2]}")
    return Pixels(
        translator.takes, translator.gives, source, result, options.bgr, options.mean, options.std, options.bits
    )


def _given(translator: Translator, pixels: Pixels, image: Image) -> Array:
    values = pixels.to_network(image[None])
    return values.astype(np.uint8) if translator.is_uint8 else values


def _last(graph: Graph, *passed: str) -> str:
    """Return the operator that makes the values of the output, behind those that only move them, and `passed`."""
    node = graph.producers().get(graph.output.name)
    while node is not None and node.op_type in (
        "Transpose",
        "Identity",
        "Reshape",
        "Cast",
        "Squeeze",
        "Unsqueeze",
        *passed,
    ):
        node = graph.producers().get(next((name for name in node.input if name not in graph.constants), ""))
    return node.op_type if node is not None else "nothing"


def _of_limits(graph: Graph, last: str) -> Finding | None:
    """Read the output's range off the limits that its operators keep."""
    low, high = interval(graph, graph.output.name)
    for limits in USUAL:
        if abs(low - limits[0]) + abs(high - limits[1]) < 0.02 * (limits[1] - limits[0]):
            return Finding(limits, f"its last operators keep it there ({last})")
    return None


def _of_values(translator: Translator, low: float, high: float, last: str, source: Finding) -> Finding:
    """Tell the output's range by what the network gives on pictures."""
    seen = f"it gives {low:.2f} to {high:.2f} on these pictures"
    if max(-low, high) > LARGEST_NORMED:
        if low > -0.3 * high:
            return Finding(LEVELS, seen)
    elif low < BELOW_BLACK and high > 0 and (source.limits == SYMMETRIC or low < -high / 2):
        return Finding(SYMMETRIC, seen)
    elif low >= BELOW_BLACK and high <= 1.5 and source.limits == UNIT:
        return Finding(UNIT, f"{seen}, and takes [0, 1]")
    raise InputError(
        f"the values of {translator.path}'s output cannot be told: {seen}, last operator {last}; say what black and"
        " white are, for example --output-range -1,1 or --output-range 0,1"
    )


def _of_rescaling(translator: Translator, graph: Graph, bgr: bool) -> Finding | None:
    """Read the input's range off a scale and a shift that it meets first. Raises InputError for those of no range."""
    scale, shift, tensor, ordered = np.ones(1), np.zeros(1), graph.input.name, bgr
    while (readers := graph.consumers().get(tensor, [])) and len({id(node) for node in readers}) == 1:
        node = readers[0]
        others = [graph.constants.get(name) for name in node.input if name != tensor]
        if node.op_type in ("Mul", "Div", "Add", "Sub"):
            value = others[0] if len(others) == 1 else None
            turned = node.input[0] != tensor and node.op_type in ("Div", "Sub")
            if value is None or value.size > max(CHANNELS) or turned:
                break
            amount = value.reshape(-1).astype(np.float64)
            if node.op_type in ("Mul", "Div"):
                factor = amount if node.op_type == "Mul" else 1 / amount
                scale, shift = scale * factor, shift * factor
            else:
                shift = shift + (amount if node.op_type == "Add" else -amount)
        elif node.op_type not in ("Identity", "Cast", "Transpose", "Pad", "Slice", "Gather"):  # the last two turn BGR
            break
        ordered |= node.op_type in ("Slice", "Gather")
        tensor = node.output[0]
    if scale.min() <= 0 or (scale.max() == 1 and not shift.any()):
        return None
    means = -shift / scale  # what becomes 0: the mean of the pictures that it was trained on
    scaling, shifting, mean = float(scale.mean()), float(shift.mean()), float(means.mean())
    for limits in USUAL:
        low, high = scaling * limits[0] + shifting, scaling * limits[1] + shifting
        if any(limits != (a, b) and abs(low - a) + abs(high - b) < 0.02 * (b - a) for a, b in USUAL):
            return Finding(limits, f"it scales its input by {scaling:.4g} itself")
    if shifting == 0:
        return None
    for limits, (least, most) in MEANS.items():
        possible = (mean - limits[0]) * (limits[1] - mean)  # the largest variance of pictures with that mean
        if least < mean < most and (scaling == 1 or scaling**-2 <= possible):
            if means.size == 3 and np.allclose(means, IMAGENET_BGR, atol=0.5) and not ordered:
                translator.notes.append(
                    "it takes ImageNet's mean in the order BGR: if it reads BGR, give --channels bgr"
                )
            return Finding(limits, f"it takes {', '.join(f'{m:.3g}' for m in means)} from its input itself")
    raise InputError(
        f"the values of {translator.path}'s input cannot be told: it scales them by {scaling:.4g} and adds"
        f" {shifting:.4g}; say {RANGES}"
    )


def _of_statistics(
    translator: Translator, graph: Graph, options: Options, images: Sequence[Image], drawn: bool
) -> Finding:
    """Tell the input's range by the first batch norm: with the right one its input is as it was in training.

    Drawn pictures have another contrast than its owner's, so between [-1, 1] and [0, 1], which differ by a factor of
    two alone, they decide only for what its output has too.
    """
    ways = {limits: _pixels(translator, options, limits, SYMMETRIC) for limits in USUAL}
    misfits = _misfits(translator, graph, ways, images)
    keeps = interval(graph, graph.output.name)
    if misfits:
        best, next_best = sorted(misfits, key=lambda limits: misfits[limits])[:2]
        tells = (best == LEVELS or not drawn) and misfits[best] > CLEARLY
        if tells and translator.takes[2] == 3 and not options.bgr:
            said = {words: replace(ways[SYMMETRIC], **given) for words, given in IMAGENET.items()}
            others = _misfits(translator, graph, said, images)
            words = min(others, key=others.__getitem__)
            if others[words] <= (1 if best == LEVELS else CLEARLY) * misfits[best]:
                raise InputError(
                    f"the values of {translator.path}'s input cannot be told: {_told(misfits)}, but by"
                    f" {others[words]:.2g} with ImageNet's mean taken away; if it was trained so, {words};"
                    f" else say {RANGES}"
                )
        if misfits[best] <= CLEARLY * misfits[next_best] and (not drawn or best in (LEVELS, keeps)):
            return Finding(best, "batch norm's statistics are of pictures with these values")
        if best == keeps == SYMMETRIC:
            return Finding(SYMMETRIC, "batch norm's statistics fit it best, and its output has it")
    elif keeps == SYMMETRIC:
        return Finding(SYMMETRIC, "its output has it (nothing in the network says what its input has)", assumed=True)
    limits = f", which keeps {described(keeps)}" if np.isfinite(keeps).all() else ""
    data = "give pictures of its own kind with --data DIR, or " if misfits and drawn else ""
    raise InputError(
        f"the values of {translator.path}'s input cannot be told (it ends in {_last(graph)}{limits}"
        f"{'; ' + _told(misfits) if misfits else '; it has no batch norm that would tell'}); {data}say {RANGES}"
    )


def _told(misfits: dict[Range, float]) -> str:
    return "batch norm's statistics are off by " + ", ".join(
        f"{misfit:.2g} deviations with {described(limits)}" for limits, misfit in misfits.items()
    )


def _misfits(
    translator: Translator, graph: Graph, ways: dict[Way, Pixels], images: Sequence[Image]
) -> dict[Way, float]:
    """Return for each way to feed it how far the first batch norm's input is from its moving statistics."""
    found = {}
    for way, pixels in ways.items():
        seen = [translator.first_norm(graph, pixels.to_network(image[None])) for image in images[:LOOKED_AT]]
        norms = [norm for norm in seen if norm is not None]
        if not norms:
            return {}
        values = np.concatenate([norm.values for norm in norms]).astype(np.float64)
        mean, variance = norms[0].mean.astype(np.float64), norms[0].variance.astype(np.float64)
        if not mean.any() and (variance == 1).all():
            return {}  # as it was made: it has seen no picture yet
        shift = np.abs(values.mean(0) - mean) / np.sqrt(variance + 1e-6)
        spread = np.abs(np.log((values.var(0) + 1e-6) / (variance + 1e-6)))
        found[way] = float(np.median(shift + spread))
    return found
