"""Try a new plan before it is kept: is it in the precision asked for, and does it translate as ONNX Runtime does?"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pix2pix_edge.export.fidelity import compare
from pix2pix_edge.export.images import drawn_images, read_images
from pix2pix_edge.export.tensorrt.builder import Network
from pix2pix_edge.export.tensorrt.precision import found_precision, inspect_plan, prove
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.base import Engine, Images
from pix2pix_edge.runtime.errors import EngineError
from pix2pix_edge.runtime.nvidia.cuda import Device
from pix2pix_edge.runtime.nvidia.log import forget_reasons, reasons, tensorrt_logger
from pix2pix_edge.runtime.sidecar import FidelitySummary

LEAST = {"fp32": (45.0, 0.98), "fp16": (40.0, 0.97), "int8": (30.0, 0.9)}
"""Mean PSNR in dB and SSIM: rounding costs less than this, a miscompiled kernel far more."""


def proven_precision(plan: Path, parsed: Network) -> dict[str, str]:
    """Return convolution -> precision found in the plan. Raises EngineError when one is wider than asked for."""
    with Device() as device:
        information = device.owner.call(_inspected, plan, parsed)
    found = found_precision(information, parsed.asked)
    prove(parsed.asked, found)
    return found


def _inspected(plan: Path, parsed: Network) -> str:
    """Return the engine inspector's JSON; runs in the thread that owns the GPU, where its objects must end, too."""
    forget_reasons()
    runtime = parsed.trt.Runtime(tensorrt_logger(parsed.trt))
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        raise EngineError(f"TensorRT cannot load the plan that it has just built: {reasons()}; run: nvidia-smi")
    return inspect_plan(parsed.trt, engine, parsed.input)


def compare_with_onnxruntime(plan: Path, file: Path, paths: list[Path] | None, asked: str) -> FidelitySummary:
    """Translate images with the plan and with ONNX Runtime; return the sidecar's "fidelity".

    paths: images to translate; None for drawn ones. Raises GateFailedError below LEAST. The kernels of both round
    differently, and in INT8 a rounding can tip a whole step, so pictures are rarely equal.
    """
    with open_engine(plan) as engine, open_engine(file, backend="onnxruntime") as reference:
        size = engine.input.shape[1:]
        images = np.stack(drawn_images(size) if paths is None else read_images(paths, size))
        found, expected = translated(engine, images), translated(reference, images)
    fidelity = compare(zip(expected, found, strict=True))
    fidelity.require(
        *LEAST[asked],
        f"the plan does not translate as ONNX Runtime does with {file.name}",
        "nothing was kept; build again with another --optimization-level",
    )
    return fidelity.summary(file.name)


def translated(engine: Engine, images: Images) -> Images:
    """Return images [n, S, S, 3] translated in batches of the engine; the last is filled up with the first ones."""
    batch = engine.input.shape[0]
    batches = (np.arange(start, start + batch) % len(images) for start in range(0, len(images), batch))
    return np.concatenate([engine(images[indices]) for indices in batches])[: len(images)]
