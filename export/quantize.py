"""Quantise an exported FP32 graph to INT8, as far as the pictures stay right.

  python -m export quantize exported/facades.fp32.onnx --data facades/
  python -m export quantize exported/facades.fp32.onnx --data photos/ --target cpu --min-psnr 42 --min-worst 36

Writes NAME.int8.onnx for TensorRT (the rest in FP16) and NAME.int8.cpu.onnx for ONNX Runtime and OpenVINO. --data is a
data set with train_label/ and test_label/ (or trainB/ and testB/), or a folder of input images, of which every fourth
is held out. Images are calibrated on or judged on, never both. The layers that cost the most fidelity stay in floating
point until the held-out images pass the gate; their weights alone are INT8 where that costs hardly anything, so that
the file is small. Below the gate nothing is written, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pix2pix_edge.runtime.cli import add_data
from pix2pix_edge.runtime.engine import check_file
from pix2pix_edge.runtime.engines.base import read_engine
from pix2pix_edge.runtime.errors import GateFailedError, InputError
from pix2pix_edge.runtime.sidecar import CalibratedOn, Gate, Sidecar, Source, read_sidecar

if TYPE_CHECKING:
    from pix2pix_edge.export.int8.search import Found, Search
    from pix2pix_edge.export.int8.targets import Target

METHODS = ("auto", "entropy", "percentile", "minmax")
TARGETS = ("tensorrt", "cpu")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("model", type=Path, metavar="NAME.fp32.onnx", help="as written by: python -m export convert")
    add_data(parser, "calibrate and judge on, like those the network will meet")
    option("--target", choices=(*TARGETS, "both"), default="both", help="what to write (default: both)")
    option("--images", type=int, default=200, metavar="N", help="calibrate on N of them (default: 200)")
    option("--method", choices=METHODS, default="auto", help="how ranges are chosen (default: auto, the best here)")
    option("--min-psnr", type=float, default=35.0, metavar="DB", help="gate, mean over images (default: 35)")
    option("--min-ssim", type=float, default=0.97, metavar="S", help="gate, mean over images (default: 0.97)")
    option("--min-worst", type=float, default=32.0, metavar="DB", help="gate, PSNR of the worst image (default: 32)")
    option(
        "--train",
        type=int,
        default=0,
        metavar="EPOCHS",
        help="let the INT8 graph learn the FP32 pictures of all images that are not held out, so often (default: 0)",
    )
    option(
        "--cache",
        type=Path,
        metavar="FILE",
        help="the calibration: read where it exists, else written (default: NAME.calibration.json beside the model)",
    )


def run(args: argparse.Namespace) -> None:
    from pix2pix_edge.export.graph.graph import Graph
    from pix2pix_edge.export.int8.placement import find_layers
    from pix2pix_edge.export.int8.search import Request, Search
    from pix2pix_edge.export.int8.targets import TARGETS as CLASSES

    if args.images < 1:
        raise InputError(f"--images {args.images} must be at least 1; 200 are usual")
    if args.train < 0:
        raise InputError(f"--train {args.train} must be 0 or more epochs; 8 are usual")
    check_file(args.model, (".onnx",))
    wanted = TARGETS if args.target == "both" else (args.target,)
    if read_engine(args.model).outputs[0].dtype == "uint16":
        if args.target == "tensorrt":
            raise InputError(f"{args.model} gives pictures of 16 bits, which TensorRT cannot; give --target cpu")
        wanted = ("cpu",)
    graph = Graph.load(args.model)
    graph.sort()
    if any(node.op_type == "DequantizeLinear" for node in graph.nodes):
        raise InputError(f"{args.model} is quantised already; give the NAME.fp32.onnx of convert")
    layers = find_layers(graph)
    if not layers:
        raise InputError(
            f"{args.model} has no convolution that could be INT8: depthwise ones and the last one before the"
            " picture stay in floating point; use it as it is, or in FP16"
        )
    gate = Gate(args.min_psnr, args.min_ssim, args.min_worst)
    request = Request(args.model, args.data, args.images, args.method, gate, args.cache, args.train)
    with tempfile.TemporaryDirectory(prefix="quantize-") as folder:
        search = Search(request, graph, layers, Path(folder))
        failures = []
        for name in wanted:
            try:
                write(search, CLASSES[name])
            except GateFailedError as error:  # the other target may pass
                failures.append(error)
        if failures:
            raise GateFailedError("; ".join(str(error) for error in failures))


def write(search: Search, target: type[Target]) -> None:
    """Write the file of one target and its sidecar. Raises GateFailedError, and then writes nothing."""
    from pix2pix_edge.export import convert
    from pix2pix_edge.export.backends import judge_backends, verdict_lines

    request, calibration = search.request, search.calibration
    found = search.best(target)
    source = read_sidecar(request.model) or Sidecar()
    fidelity = found.fidelity.summary(request.model.name)
    verdicts = {}
    if target.name == "cpu":
        verdicts = judge_backends(
            found.file, lambda way: search.images(f"{target.name}: {way}"), search.expected, request.gate
        )
    path = request.model.with_name(f"{request.stem}{target.ending}")
    content = Sidecar(
        source=Source(request.model.name, calibration.model_sha256),
        rewrites=source.rewrites,
        calibration=CalibratedOn(calibration.images_sha256, len(calibration.images), request.method),
        gate=request.gate,
        sensitivity={
            name: round(found.alone[layer.name].mean_psnr_db, 1)
            for layer in search.layers
            for name in layer.convolutions
        },
        backends=verdicts,
        tools={**source.tools, **_tools()},
        palette=source.palette,
    )
    convert.write(found.graph, path, "int8", content, lambda engine: fidelity)
    _report(path, search, found)
    if verdicts:
        print("\n".join(verdict_lines(verdicts)), flush=True)


def _report(path: Path, search: Search, found: Found) -> None:
    """Print what is INT8, as a share of all arithmetic, and what it costs."""
    from pix2pix_edge.export.inspect import count

    costs = count(found.graph)
    share = sum(cost.multiply_adds for cost in costs if cost.precision == "int8") / sum(c.multiply_adds for c in costs)
    fidelity = found.fidelity
    print(
        f"{path}  {path.stat().st_size / 1e6:.1f} MB, PSNR {fidelity.mean_psnr_db:.1f} dB, SSIM"
        f" {fidelity.mean_ssim:.4f}, worst image {fidelity.worst_psnr_db:.1f} dB on {len(search.judging)} held-out"
        f" images; INT8: {len(found.kept)} of {len(search.layers)} layers that can be, {share:.0%} of all arithmetic"
        f" ({search.request.method} ranges)"
    )
    for layer in search.layers:
        if layer not in found.kept:
            alone = found.alone[layer.name].mean_psnr_db
            weights = ", but for its weights" if layer in search.weight_only else ""
            print(f"  {layer.name} stays in floating point{weights}: alone in INT8 {alone:.1f} dB")


def _tools() -> dict[str, str]:
    from pix2pix_edge.export.convert import tools

    found = tools()
    if importlib.util.find_spec("openvino") is not None:
        import openvino

        found["openvino"] = str(openvino.__version__).partition("-")[0]
    return found
