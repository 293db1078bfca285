"""A fixed piece of work, timed in every round beside the engines: how fast the machine was while it measured.

Short 3×3 convolutions in ONNX Runtime on every core, what the engines themselves mostly do. Two reports of the same
machine can then be told apart from two states of the machine (benchmarks/compare.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pix2pix_edge.benchmarks.measure.interleave import Nanoseconds
from pix2pix_edge.runtime.engines.onnxruntime import physical_cores
from pix2pix_edge.runtime.errors import require

if TYPE_CHECKING:
    import onnx

CHANNELS, SIZE, TIMES = 32, 96, 12
"""Some 5 ms: in much less, CPU time is counted too coarsely.

Many short convolutions, each of which wakes the threads: a host that makes waking dearer slows engines of many small
layers, and hardly one large convolution. Over windows of 13 s, the time of an INT8 engine as a multiple of this work
varied by 1.0 % (standard deviation), and as a multiple of one convolution of 128 channels by 2.0 %.
"""

WHAT = (
    f"{TIMES} 3×3 convolutions, one by one, {CHANNELS} to {CHANNELS} channels, {SIZE}×{SIZE}, FP32, ONNX Runtime, "
    "every core"
)


def small_model(
    nodes: Sequence[onnx.NodeProto], shape: Sequence[int], output: str, constants: Mapping[str, Any]
) -> onnx.ModelProto:
    """Return an ONNX model from float32 `x` to `output`, both of this shape."""
    from onnx import TensorProto, helper, numpy_helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", output)]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "work", ends[:1], ends[1:], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def session_of(model: onnx.ModelProto) -> Any:
    """Return an ONNX Runtime CPU session of a model, on every physical core."""
    ort = require("onnxruntime", "", "measuring the machine")
    options = ort.SessionOptions()
    options.intra_op_num_threads = physical_cores()
    options.add_session_config_entry("session.force_spinning_stop", "1")
    ort.set_default_logger_severity(4)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def reference_work() -> Callable[[], object]:
    """Return the work as a callable. Raises MissingPackageError without the package onnx."""
    helper = require("onnx", "benchmarks", "the reference work of a benchmark").helper
    random = np.random.default_rng(0)
    weights = random.standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    shape = [1, CHANNELS, SIZE, SIZE]
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])]
    session = session_of(small_model(nodes, shape, "y", {"w": weights}))
    x = random.standard_normal(shape).astype(np.float32)

    def work() -> object:
        for _ in range(TIMES - 1):
            session.run(None, {"x": x})
        return session.run(None, {"x": x})

    return work


class ReferenceSession:
    """The reference work in a worker process (benchmarks.measure.worker.Worker)."""

    def __init__(self) -> None:
        self._work = reference_work()

    def reference(self, calls: int) -> Mapping[str, Nanoseconds]:
        """Scopes: reference, and cpu, the time of all cores."""
        stamps = np.empty((calls, 4), np.int64)
        for row in stamps:
            row[:2] = time.process_time_ns(), time.perf_counter_ns()
            self._work()
            row[2:] = time.perf_counter_ns(), time.process_time_ns()
        return {"reference": stamps[:, 2] - stamps[:, 1], "cpu": stamps[:, 3] - stamps[:, 0]}
