"""What the simulated engine inspector tells: layers with their types, in the words of 10.x and of 11.x."""

from __future__ import annotations

from typing import Any

import onnx

from tests.simulator.network import dtypes_of, shapes_of
from tests.simulator.plan import Plan

_WORDS = {"FLOAT": "FP32", "HALF": "FP16"}
"""What the inspector of 10.x calls types otherwise than the API does."""

SHAPES = ("MinShape", "OptShape", "MaxShape")


def engine_information(plan: Plan, major: int) -> dict[str, Any]:
    """Return what the inspector prints as JSON; 11 has other names than 10 (NVIDIA's migration guide)."""
    if not plan.detailed:
        layers: list[Any] = [layer["Name"] for layer in plan.layers]
    elif major < 11:
        layers = plan.layers
    else:
        layers = [
            {
                key: [_split(tensor) for tensor in value] if key in ("Inputs", "Outputs") else value
                for key, value in layer.items()
                if key != "Weights"
            }
            for layer in plan.layers
        ]
    if major < 11:
        return {"Layers": layers, "Bindings": [tensor.name for tensor in (*plan.inputs, *plan.outputs)]}
    tensors = [
        {
            "Name": tensor.name,
            "IOMode": mode,
            "DataType": tensor.dtype.capitalize(),
            "Dimensions": tensor.shape,
            "Location": "Device",
            "IsShapeInferenceIO": False,
            "ProfileInfo": [dict(zip(SHAPES, tensor.profile or [tensor.shape] * 3, strict=True))],
        }
        for mode, side in (("Input", plan.inputs), ("Output", plan.outputs))
        for tensor in side
    ]
    return {"Layers": layers, "I/O Tensors": tensors}


def _split(tensor: dict[str, Any]) -> dict[str, Any]:
    """One field "Format/Datatype" became two."""
    whole = tensor["Format/Datatype"]
    words = {"FP32": "Float", "FP16": "Half", "Int8": "Int8", "INT8": "Int8", "UINT8": "UInt8", "INT32": "Int32"}
    datatype = next((short for word, short in words.items() if word in whole), "Float")
    return {**{k: v for k, v in tensor.items() if k != "Format/Datatype"}, "Format": whole, "Datatype": datatype}


def layers_of(graph: onnx.GraphProto) -> list[dict[str, Any]]:
    """List layers as the inspector of 10.x does; Q/DQ nodes fuse into the convolutions that read them."""
    dtypes = dtypes_of(graph)
    producers = {name: node for node in graph.node for name in node.output}
    shapes = shapes_of(graph)

    def dtype_of(name: str) -> str:
        node = producers.get(name)
        return "INT8" if node is not None and node.op_type == "DequantizeLinear" else dtypes.get(name, "FLOAT")

    def described(name: str) -> dict[str, Any]:
        text = f"Row major linear {_WORDS.get(dtype_of(name), dtype_of(name))} format"
        return {"Name": name, "Location": "Device", "Dimensions": shapes.get(name, []), "Format/Datatype": text}

    kinds = {"Conv": "CaskConvolution", "ConvTranspose": "CaskDeconvolution", "Reshape": "NoOp"}
    weights = {"FLOAT": "Float", "HALF": "Half", "INT8": "Int8"}
    layers = []
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Constant"):
            continue
        kind = kinds.get(node.op_type, "PointWiseV2")
        layer: dict[str, Any] = {
            "Name": node.name or node.output[0],
            "LayerType": kind,
            "Inputs": [described(name) for name in node.input[:1]],
            "Outputs": [described(name) for name in node.output],
            "ParameterType": {"NoOp": "PointWise", "PointWiseV2": "PointWise"}.get(kind, kind.removeprefix("Cask")),
            "TacticName": f"simulated_{kind.lower()}",
            "Metadata": f"[ONNX Layer: {node.name}]",
        }
        if kind.startswith("Cask"):
            layer["Weights"] = {"Type": weights[dtype_of(node.input[1])]}
        layers.append(layer)
    return layers
