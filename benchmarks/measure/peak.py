"""The machine's peak, measured: the most multiply-adds a second and bytes a second that it gives a simple task.

Convolutions of 256 channels and, in FP32, a matrix product, in every CPU engine that is installed; the best counts. A
generator's share of it says how much a better engine or graph could still gain.
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from pix2pix_edge.benchmarks.measure.reference_work import session_of, small_model
from pix2pix_edge.runtime.errors import require

if TYPE_CHECKING:
    import onnx

CHANNELS, SIZE, LAYERS = 256, 32, 4
CONV_MULTIPLY_ADDS = LAYERS * 9 * CHANNELS**2 * SIZE**2
MATRIX = 1024
COPIED = 128 << 20
"""Bytes; far more than any cache holds."""


def measured_peak(seconds: float = 0.5) -> dict[str, float]:
    """Return "fp32", "bf16" and "int8" multiply-adds a second, and "bandwidth"; "bf16" where the CPU has it.

    Takes about `seconds` for each of some six tasks; bandwidth is bytes read plus bytes written. Raises
    MissingPackageError without onnx.
    """
    require("onnx", "benchmarks", "measuring the machine's peak")
    plain, quantised = _convolutions(int8=False), _convolutions(int8=True)
    x = np.random.default_rng(0).standard_normal((1, CHANNELS, SIZE, SIZE)).astype(np.float32)
    matrix = np.random.default_rng(0).standard_normal((MATRIX, MATRIX)).astype(np.float32)
    tasks: list[tuple[str, int, Callable[[], object]]] = [
        ("fp32", MATRIX**3, _onnxruntime(_product(), matrix)),
        ("fp32", CONV_MULTIPLY_ADDS, _onnxruntime(plain, x)),
        ("int8", CONV_MULTIPLY_ADDS, _onnxruntime(quantised, x)),
    ]
    if importlib.util.find_spec("openvino"):
        tasks += [
            ("fp32", CONV_MULTIPLY_ADDS, _openvino(plain, x, "f32")),
            ("int8", CONV_MULTIPLY_ADDS, _openvino(quantised, x, "f32")),
        ]
        from pix2pix_edge.runtime.engines.openvino import has_bf16

        if has_bf16():
            tasks.append(("bf16", CONV_MULTIPLY_ADDS, _openvino(plain, x, "bf16")))
    peak: dict[str, float] = {}
    for precision, multiply_adds, task in tasks:
        peak[precision] = max(peak.get(precision, 0.0), multiply_adds * 1e9 / _fastest(task, seconds))
    return {**peak, "bandwidth": 2e9 * COPIED / _fastest(_copy(), seconds)}


def _fastest(task: Callable[[], object], seconds: float) -> float:
    """Return the nanoseconds of the fastest call: the peak is what the machine does when nothing disturbs it."""
    best, end = float("inf"), time.perf_counter_ns() + seconds * 1e9
    while (start := time.perf_counter_ns()) < end:
        task()
        best = min(best, time.perf_counter_ns() - start)
    return best


def _copy() -> Callable[[], object]:
    """Copy from one half of the memory to the other with every core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    source, target = np.ones(COPIED, np.uint8), np.ones(COPIED, np.uint8)
    parts = list(zip(np.array_split(target, cores), np.array_split(source, cores), strict=True))
    pool = ThreadPoolExecutor(cores)
    return lambda: list(pool.map(lambda part: np.copyto(*part), parts))


def _convolutions(int8: bool) -> onnx.ModelProto:
    """A chain of LAYERS 3×3 convolutions, with Q/DQ around each when int8 (uint8 data, int8 weights: VNNI's types)."""
    from onnx import helper

    weights = np.random.default_rng(1).integers(-60, 60, (CHANNELS, CHANNELS, 3, 3)).astype(np.int8)
    scale = np.float32(0.05)
    constants: dict[str, Any] = {"w": weights.astype(np.float32) * scale}
    nodes = []
    if int8:
        constants = {"w8": weights, "scale": scale, "zero_w": np.int8(0), "zero": np.uint8(128)}
        nodes.append(helper.make_node("DequantizeLinear", ["w8", "scale", "zero_w"], ["w"]))
    data = "x"
    for layer in range(LAYERS):
        if int8:
            nodes.append(helper.make_node("QuantizeLinear", [data, "scale", "zero"], [f"q{layer}"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"q{layer}", "scale", "zero"], [f"d{layer}"]))
            data = f"d{layer}"
        nodes.append(helper.make_node("Conv", [data, "w"], [f"y{layer}"], pads=[1, 1, 1, 1]))
        data = f"y{layer}"
    return small_model(nodes, [1, CHANNELS, SIZE, SIZE], data, constants)


def _product() -> onnx.ModelProto:
    from onnx import helper

    weights = np.random.default_rng(1).standard_normal((MATRIX, MATRIX)).astype(np.float32)
    return small_model([helper.make_node("MatMul", ["x", "w"], ["y"])], [MATRIX, MATRIX], "y", {"w": weights})


def _onnxruntime(model: onnx.ModelProto, x: Any) -> Callable[[], object]:
    session = session_of(model)
    return lambda: session.run(None, {"x": x})


def _openvino(model: onnx.ModelProto, x: Any, precision: str) -> Callable[[], object]:
    import io

    from pix2pix_edge.runtime.engines.openvino import core

    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    compiled = core().compile_model(core().read_model(io.BytesIO(model.SerializeToString())), "CPU", settings)
    request = compiled.create_infer_request()
    return lambda: request.infer({0: x}, share_inputs=True, share_outputs=True)


class PeakSession:
    """measured_peak in a worker process, whose threads and memory are then gone (benchmarks.measure.worker.Worker)."""

    peak = staticmethod(measured_peak)
