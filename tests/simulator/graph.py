"""A tiny exported graph for tests: one convolution, a tanh, uint8 in and out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIZE = 16


def write_generator(path: Path, seed: int = 0, batch: int | str = 1) -> Path:
    """Write a graph of the exported contract with one convolution and a tanh; `seed` makes its weights."""
    weights = np.random.default_rng(seed).normal(size=(3, 3, 3, 3)).astype(np.float32) * 0.3
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["real", "half"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "one"], ["normal"]),
        helper.make_node("Transpose", ["normal"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weights"], ["convolved"], name="convolution", pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["convolved"], ["bounded"]),
        helper.make_node("Transpose", ["bounded"], ["pixels"], perm=[0, 2, 3, 1]),
        helper.make_node("Mul", ["pixels", "half"], ["spread"]),
        helper.make_node("Add", ["spread", "half"], ["shifted"]),
        helper.make_node("Round", ["shifted"], ["rounded"]),
        helper.make_node("Cast", ["rounded"], ["translated"], to=TensorProto.UINT8),
    ]
    tensors = [
        helper.make_tensor_value_info(n, TensorProto.UINT8, [batch, SIZE, SIZE, 3]) for n in ("image", "translated")
    ]
    constants = {"half": np.float32(127.5), "one": np.float32(1), "weights": weights}
    stored = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "generator", tensors[:1], tensors[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def images(count: int, batch: int = 1) -> NDArray[np.uint8]:
    """Return `count` different batches."""
    return np.random.default_rng(1).integers(0, 256, (count, batch, SIZE, SIZE, 3), dtype=np.uint8)
