"""Turn a trained Keras generator into self-contained ONNX files, uint8 image in, uint8 image out.

  python -m export convert runs/facades/generator.keras --out exported --name facades
  python -m export convert generator.keras --out exported --name facades --data photos --fold none

Writes NAME.fp32.onnx and NAME.fp16.onnx, each with FILE.json beside it that says how it was made. The FP32 file is
compared with Keras, and kept only if no pixel differs by more than one level of 255; the FP16 file is compared with
the FP32 file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pix2pix_edge.runtime.cli import add_data, add_out
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.base import Engine
from pix2pix_edge.runtime.errors import EngineError, GateFailedError, InputError
from pix2pix_edge.runtime.files import sha256_of, written_beside
from pix2pix_edge.runtime.sidecar import (
    FidelitySummary,
    Gate,
    Precision,
    Sidecar,
    Source,
    read_sidecar,
    write_sidecar,
)

if TYPE_CHECKING:
    from pix2pix_edge.export.fidelity import Fidelity
    from pix2pix_edge.export.graph.graph import Graph
    from pix2pix_edge.runtime.frame import Image

COMPARED = 24  # images, spread evenly over --data
MAX_DIFFERENCE = 1  # of 255: float rounding may tip a value that lies between two levels
MIN_PSNR_FP16, MIN_SSIM_FP16 = 45.0, 0.97  # of FP16, and of BF16 on CPUs that have it

Judge = Callable[[Engine], FidelitySummary]
"""Returns an engine's fidelity as the sidecar keeps it; raises GateFailedError where it is not enough."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("generator", type=Path, help="a .keras file: image in, image of the same size out, in [-1, 1]")
    add_out(parser, "folder for the files; made if missing")
    parser.add_argument("--name", default="generator", help="the files are NAME.fp32.onnx, … (default: generator)")
    add_data(parser, "compare on, at any depth (default: drawn)", required=False)
    parser.add_argument(
        "--fold",
        choices=("auto", "none"),
        default="auto",
        help="auto: upsampling and the convolution after it become one, in the form that costs least; none leaves the"
        " graph as it is (default: auto)",
    )


def run(args: argparse.Namespace) -> None:
    from pix2pix_edge.export.backends import judge_backends, verdict_lines
    from pix2pix_edge.export.graph.fold import fold
    from pix2pix_edge.export.graph.half import to_half
    from pix2pix_edge.export.graph.trace import open_reference, trace
    from pix2pix_edge.export.images import drawn_images, evenly, image_files, read_images

    if Path(args.name).name != args.name:
        raise InputError(f"--name {args.name} must be a plain name; choose the folder with --out")
    files = evenly(image_files(args.data), COMPARED) if args.data else []
    graph = trace(args.generator)
    size = graph.shapes()[graph.input.name][1]
    images = read_images(files, size) if files else drawn_images(size)
    before = _arithmetic(graph)
    rewrites = fold(graph, args.fold)
    print(f"{args.generator}  {before} multiply-adds, rewritten: {_arithmetic(graph)}", flush=True)
    for entry in rewrites:
        if entry.reason:
            print(f"left as it is: {entry.layer}: {entry.reason}", file=sys.stderr)
    content = Sidecar(
        source=Source(args.generator.name, sha256_of(args.generator)), rewrites=tuple(rewrites), tools=_tools()
    )
    fp32, fp16 = (args.out / f"{args.name}.{precision}.onnx" for precision in ("fp32", "fp16"))
    kind = f"{len(images)} {'' if files else 'drawn '}images"

    def equals_keras(engine: Engine) -> FidelitySummary:
        with open_reference(args.generator) as reference:
            found = side_by_side(reference, engine, images)
        worst = max(found.max_difference)
        if worst > MAX_DIFFERENCE:
            raise GateFailedError(
                f"the exported graph differs from Keras by {worst} levels of 255 (at most {MAX_DIFFERENCE} is allowed)"
                f" on {kind}; nothing was written; see whether a rewrite is the cause with: --fold none"
            )
        return found.summary(args.generator.name)

    def resembles_fp32(engine: Engine) -> FidelitySummary:
        with open_engine(fp32, backend="onnxruntime") as reference:
            found = side_by_side(reference, engine, images)
        found.require(MIN_PSNR_FP16, MIN_SSIM_FP16, "FP16 changes the pictures too much", f"use {fp32}, which is whole")
        return found.summary(fp32.name)

    found = write(graph, fp32, "fp32", content, equals_keras)
    print(f"{fp32}  {_megabytes(fp32)}, at most {found.max_difference} of 255 from Keras on {kind}", flush=True)
    with open_engine(fp32, backend="onnxruntime") as reference:
        expected = [reference(image[None])[0] for image in images]
    verdicts = judge_backends(fp32, lambda way: images, expected, Gate(MIN_PSNR_FP16, MIN_SSIM_FP16))
    write_sidecar(fp32, replace(read_sidecar(fp32) or content, backends=verdicts))
    print("\n".join(verdict_lines(verdicts)), flush=True)
    found = write(to_half(graph), fp16, "fp16", content, resembles_fp32)
    print(f"{fp16}  {_megabytes(fp16)}, PSNR {found.psnr_db:.1f} dB to FP32")
    print(f"next: runtime/run.py --engine {fp32} --source DIR --sink DIR")


def side_by_side(reference: Engine, engine: Engine, images: Sequence[Image]) -> Fidelity:
    """Translate each image, uint8 [S, S, 3], with both, and compare the pictures."""
    from pix2pix_edge.export.fidelity import compare

    return compare((reference(image[None])[0], engine(image[None])[0]) for image in images)


def write(graph: Graph, path: Path, precision: str, content: Sidecar, judge: Judge) -> FidelitySummary:
    """Write an exported graph and its sidecar, both or neither, after `judge` has seen it run in ONNX Runtime.

    precision: what was asked for; content: what else the sidecar is to say. Returns what `judge` found. Raises
    GateFailedError as `judge` does, and InputError where the graph cannot run.
    """
    from pix2pix_edge.export.inspect import COMPUTING, count

    layers = {layer.name: layer.precision for layer in count(graph) if layer.op in COMPUTING}
    with written_beside(path) as temporary:
        temporary.write_bytes(graph.to_model().SerializeToString(deterministic=True))
        try:
            engine = open_engine(temporary, backend="onnxruntime")
        except EngineError as error:
            raise InputError(f"ONNX Runtime cannot run what {content.source.file} becomes ({error})") from error
        with engine:
            fidelity = judge(engine)
            found = replace(
                content,
                precision=Precision(precision, layers),
                input=engine.input,
                output=engine.output,
                fidelity=fidelity,
            )
        write_sidecar(path, found, described=temporary)
    return fidelity


def _arithmetic(graph: Graph) -> str:
    from pix2pix_edge.export.inspect import count

    millions = sum(layer.multiply_adds for layer in count(graph)) / 1e6
    return f"{millions / 1e3:.2f} G" if millions >= 100 else f"{millions:.2f} M"


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


def _tools() -> dict[str, str]:
    import keras
    import onnx
    import onnxruntime
    import tensorflow
    import tf2onnx

    return {module.__name__: module.__version__ for module in (keras, onnx, onnxruntime, tensorflow, tf2onnx)}
