"""Prove the precision of a TensorRT plan: what each convolution was asked to compute in, and what it really does.

What was asked is read from the parsed network, what was found from the engine inspector, whose JSON changed between
TensorRT 10 and 11. A builder may leave a convolution in a wider type than asked for without a word, and every timing
would then be that of another network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from pix2pix_edge.runtime.engines.base import TensorSpec
from pix2pix_edge.runtime.errors import EngineError

WIDTHS = ("int8", "fp16", "fp32")
"""Narrowest first."""

UNSEEN = "unseen"
"""Where the builder fused a convolution into something that its inspector does not open."""

_SPELLINGS = {"int8": "int8", "fp16": "fp16", "half": "fp16", "bf16": "fp16", "bfloat16": "fp16"} | dict.fromkeys(
    ("fp32", "float", "tf32"), "fp32"
)
_MENTIONED = re.compile(rf"\b(?:{'|'.join(_SPELLINGS)})\b", re.IGNORECASE)

# Layers that only move or change values: they name a convolution when they took over its bias, activation or cast.
_NOT_COMPUTING = {"kgen", "reformat", "pointwise", "pointwisev2", "elementwise", "shuffle", "noop", "constant"}


def asked_precision(trt: Any, network: Any) -> dict[str, str]:
    """Return convolution -> "int8", "fp16" or "fp32", as a strongly typed network asks for it.

    A convolution asks for INT8 where both its data and its weights come from a DequantizeLinear.
    """
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    dequantized = {layer.get_output(0).name for layer in layers if layer.type == trt.LayerType.DEQUANTIZE}
    names = {trt.DataType.FLOAT: "fp32", trt.DataType.HALF: "fp16", trt.DataType.BF16: "fp16"}
    asked = {}
    for layer in layers:
        if layer.type in (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION):
            inputs = [layer.get_input(i) for i in range(layer.num_inputs)]
            if len(inputs) > 1 and all(tensor.name in dequantized for tensor in inputs[:2]):
                asked[layer.name] = "int8"
            else:
                asked[layer.name] = names.get(inputs[0].dtype, str(inputs[0].dtype))
    return asked


def narrowest(precisions: Iterable[str]) -> str:
    """Return the precision that a graph is named after: "int8" if any convolution is, and so on."""
    found = set(precisions)
    return next((width for width in WIDTHS if width in found), "fp32")


def inspect_plan(trt: Any, engine: Any, image: TensorSpec) -> str:
    """Return the engine inspector's JSON. With free dimensions formats are known only for a context that has shapes."""
    inspector = engine.create_engine_inspector()
    if -1 in tuple(engine.get_tensor_shape(image.name)):
        context = engine.create_execution_context()
        if context is None or not context.set_input_shape(image.name, image.shape):
            raise EngineError(f"the plan does not take {list(image.shape)}, which it was built for; build it again")
        inspector.execution_context = context
    return str(inspector.get_engine_information(trt.LayerInformationFormat.JSON))


def found_precision(information: str, convolutions: Iterable[str]) -> dict[str, str]:
    """Return convolution -> precision found in the engine inspector's JSON, or UNSEEN."""
    layers = [layer for layer in json.loads(information).get("Layers", []) if isinstance(layer, dict)]
    parts = [(_parts(layer), layer) for layer in layers]
    found = {}
    for name in convolutions:
        naming = [layer for names, layer in parts if name in names]
        computing = [layer for layer in naming if layer.get("LayerType", "").lower() not in _NOT_COMPUTING]
        widths = {width for layer in computing or naming for width in _widths(layer)}
        found[name] = next((width for width in WIDTHS if width in widths), UNSEEN)
    return found


def prove(asked: dict[str, str], found: dict[str, str]) -> None:
    """Raise EngineError when a convolution is computed in a wider type than asked for, or none can be seen."""
    if asked and all(found[name] == UNSEEN for name in asked):
        raise EngineError(
            "the precision of the plan cannot be proven, because the engine inspector shows none of its convolutions;"
            " build again with: --verbose, and report the log"
        )
    wider = [
        name
        for name, wanted in asked.items()
        if found[name] in WIDTHS and wanted in WIDTHS and WIDTHS.index(found[name]) > WIDTHS.index(wanted)
    ]
    if wider:
        examples = ", ".join(f"{name} ({asked[name]} asked, {found[name]} found)" for name in wider[:3])
        raise EngineError(
            f"TensorRT left {len(wider)} of {len(asked)} convolutions in a wider type than the graph asks for:"
            f" {examples}{', …' if len(wider) > 3 else ''}; build again with a higher --optimization-level, more"
            " --workspace, or a graph that keeps these layers in the wider type"
        )


def _parts(layer: dict[str, Any]) -> set[str]:
    """Return the ONNX nodes of an engine layer: "a + b" in its name, "[ONNX Layer: a]" in its metadata."""
    names = set(re.split(r" \+ | \|\| |\x1f", layer.get("Name", "")))
    return names | set(re.findall(r"\[ONNX Layer: (.*?)\](?=\x1f|$|\[)", layer.get("Metadata", "")))


def _widths(layer: dict[str, Any]) -> set[str]:
    """Return the types that a layer computes in: its weights' where they are told (10.x), else its inputs'."""
    weights = layer.get("Weights")
    if isinstance(weights, dict) and weights.get("Type", "").lower() in _SPELLINGS:
        return {_SPELLINGS[weights["Type"].lower()]}
    tensors = [tensor for tensor in layer.get("Inputs", []) if isinstance(tensor, dict)]
    texts = (
        tensor.get("Datatype") or tensor.get("DataType") or tensor.get("Format/Datatype") or "" for tensor in tensors
    )
    return {_SPELLINGS[match[0].lower()] for text in texts for match in _MENTIONED.finditer(text)}
