"""A small network in the exported graph's contract, strongly typed for TensorRT: FP32, FP16, or INT8 in FP16."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

PRECISIONS = ("fp32", "fp16", "int8")
CONVOLUTIONS = {
    "fp32": dict.fromkeys(("down1", "down2", "up1", "up2"), "fp32"),
    "fp16": dict.fromkeys(("down1", "down2", "up1", "up2"), "fp16"),
    "int8": {"down1": "fp16", "down2": "int8", "up1": "int8", "up2": "fp16"},
}
"""What each convolution is to compute in."""


def write_small_network(
    path: Path,
    precision: str = "fp32",
    *,
    size: int = 32,
    width: int = 16,
    batch: int | str = 1,
    fault: str = "",
) -> Path:
    """Write a U-Net of two levels, uint8 [batch, size, size, 3] in and out, with folded upsampling.

    fault: "uint8" (asymmetric activations, as for CPUs), "int32 bias", "shape" (a reshape that does not fit): graphs
    that TensorRT refuses; "batch" (a reshape with the batch in it): one that it takes, but not for another batch.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    half = precision != "fp32"
    kind, real = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    random = np.random.default_rng(0)
    constants: list[Any] = []
    nodes: list[Any] = []

    def constant(name: str, value: Any, dtype: Any = None) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype or kind), name))
        return name

    def node(op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [f"{name}:0"], name=name, **attributes))
        return f"{name}:0"

    def convolution(x: str, name: str, channels: tuple[int, int], kernel: int, stride: int) -> str:
        weights = random.normal(size=(channels[1], channels[0], kernel, kernel)) / np.sqrt(channels[0]) / kernel
        w = constant(f"{name}.w", weights)
        b = constant(f"{name}.b", random.normal(size=channels[1]) / 8)
        if precision == "int8" and CONVOLUTIONS["int8"][name] == "int8":
            unsigned = fault == "uint8"
            scale = constant(f"{name}.scale", 0.02)
            zero = constant(f"{name}.zero", 128 if unsigned else 0, np.uint8 if unsigned else np.int8)
            x = node("QuantizeLinear", [x, scale, zero], f"{name}.q")
            x = node("DequantizeLinear", [x, scale, zero], f"{name}.dq")
            scales = np.abs(weights).max(axis=(1, 2, 3)) / 127
            by_channel = [constant(f"{name}.ws", scales), constant(f"{name}.wz", np.zeros(channels[1]), np.int8)]
            w = node("QuantizeLinear", [w, *by_channel], f"{name}.wq", axis=0)
            w = node("DequantizeLinear", [w, *by_channel], f"{name}.wdq", axis=0)
            if fault == "int32 bias":
                whole = constant(f"{name}.b32", np.arange(channels[1]), np.int32)
                by_channel = [
                    constant(f"{name}.bs", scales * 0.02),
                    constant(f"{name}.bz", np.zeros(channels[1]), np.int32),
                ]
                b = node("DequantizeLinear", [whole, *by_channel], f"{name}.bdq", axis=0)
        padding = [1, 1, 1, 1]
        return node("Conv", [x, w, b], name, kernel_shape=[kernel, kernel], strides=[stride] * 2, pads=padding)

    x = node("Cast", ["image"], "real", to=real)
    x = node("Sub", [node("Mul", [x, constant("scale", 1 / 127.5)], "scaled"), constant("one", 1)], "centred")
    x = node("Transpose", [x], "planes", perm=[0, 3, 1, 2])
    one = node("LeakyRelu", [convolution(x, "down1", (3, width), 4, 2)], "down1.act", alpha=0.2)
    two = node("LeakyRelu", [convolution(one, "down2", (width, 2 * width), 4, 2)], "down2.act", alpha=0.2)
    x = convolution(two, "up1", (2 * width, 4 * width), 3, 1)
    x = node("Relu", [node("DepthToSpace", [x], "up1.space", blocksize=2, mode="CRD")], "up1.act")
    x = convolution(node("Concat", [x, one], "skip", axis=1), "up2", (2 * width, 12), 3, 1)
    x = node("Tanh", [node("DepthToSpace", [x], "up2.space", blocksize=2, mode="CRD")], "tanh")
    if fault in ("shape", "batch"):
        planes = [batch, 3, size, size if fault == "batch" else size + 1]
        x = node("Reshape", [x, constant("planes.shape", planes, np.int64)], "reshape")
    x = node("Transpose", [x], "pixels", perm=[0, 2, 3, 1])
    x = node("Add", [node("Mul", [x, constant("half", 127.5)], "spread"), "half"], "levels")
    x = node("Clip", [node("Round", [x], "rounded"), constant("black", 0), constant("white", 255)], "clipped")
    nodes.append(helper.make_node("Cast", [x], ["translated"], name="bytes", to=TensorProto.UINT8))

    shape = [batch, size, size, 3]
    image, translated = (helper.make_tensor_value_info(n, TensorProto.UINT8, shape) for n in ("image", "translated"))
    graph = helper.make_graph(nodes, "small", [image], [translated], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    if not fault:
        onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def images(count: int, batch: int = 1) -> NDArray[np.uint8]:
    """Return `count` different batches for a network of the usual size."""
    return np.random.default_rng(1).integers(0, 256, (count, batch, 32, 32, 3), dtype=np.uint8)
