"""Turn a trained translator into self-contained ONNX files, uint8 image in, uint8 image out.

  python -m export convert runs/facades/generator.keras --out exported --name facades
  python -m export convert unet.onnx --out exported --data photos --input-range -1,1

Takes .keras and .h5 files of Keras 2 and 3, SavedModel folders, and .onnx files of other tools. Writes NAME.fp32.onnx
and NAME.fp16.onnx, each with FILE.json beside it that says how it was made, and NAME.sheet.png of pictures.
The FP32 file is compared with what the model's own framework gives, and kept only if no pixel differs by more than one
level of 255; the FP16 file is compared with the FP32 file.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pix2pix_edge.export.translator.options import add_translator_options, options_of
from pix2pix_edge.runtime.cli import add_data, add_out
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.base import Engine
from pix2pix_edge.runtime.errors import EngineError, InputError, as_typed, warn
from pix2pix_edge.runtime.files import keep_inputs, sha256_of, written_beside
from pix2pix_edge.runtime.sidecar import (
    Colour,
    FidelitySummary,
    Gate,
    Precision,
    Rewrite,
    Sidecar,
    Source,
    from_json,
    read_sidecar,
    write_sidecar,
)

if TYPE_CHECKING:
    from pix2pix_edge.export.fidelity import Fidelity
    from pix2pix_edge.export.graph.graph import Graph
    from pix2pix_edge.export.translator.reference import Owner, ReferenceEngine
    from pix2pix_edge.runtime.frame import Image

COMPARED = 24  # images, spread evenly over --data
MIN_PSNR_FP16, MIN_SSIM_FP16 = 45.0, 0.97  # of FP16, and of BF16 on CPUs that have it
SHOWN = 4  # rows of the sheet
HALF_BITS = 11  # of the numbers that FP16 tells apart

Judge = Callable[[Engine], FidelitySummary]
"""Returns an engine's fidelity as the sidecar keeps it; raises GateFailedError where it is not enough."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "generator", type=Path, metavar="MODEL", help="a .keras, .h5 or .onnx file, or a SavedModel folder"
    )
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
    add_translator_options(parser)


def run(args: argparse.Namespace) -> None:
    from pix2pix_edge.export.images import drawn_images, evenly, judging_files, read_images
    from pix2pix_edge.export.inspect import megabytes
    from pix2pix_edge.export.translator import open_translator
    from pix2pix_edge.export.translator.contract import picture_shape
    from pix2pix_edge.export.translator.examine import examine
    from pix2pix_edge.export.translator.reference import Owner, ReferenceEngine
    from pix2pix_edge.export.translator.wrap import wrap

    if Path(args.name).name != args.name:
        raise InputError(f"--name {args.name} must be a plain name; choose the folder with --out")
    files = evenly(judging_files(args.data), COMPARED) if args.data else []
    options = options_of(args)
    translator = open_translator(args.generator, options)
    shape = picture_shape(translator.takes)
    images = read_images(files, shape) if files else drawn_images(shape)
    kind = f"{len(images)} {'' if files else 'drawn '}images"
    graph = translator.graph()
    pixels, said = examine(translator, graph, options, images, drawn=not files)
    print(f"{args.generator}  {translator.framework}; " + "; ".join(said), flush=True)
    wrap(graph, pixels, translator.layout)
    content = Sidecar(
        source=Source(args.generator.name, _digest(args.generator)),
        rewrites=_rewrite(graph, args.generator, args.fold),
        tools={**translator.tools(), **tools()},
        palette=_palette(args.generator.with_name("palette.json")),
    )
    fp32, fp16 = (args.out / f"{args.name}.{precision}.onnx" for precision in ("fp32", "fp16"))
    keep_inputs([args.generator], fp32, fp16)
    with contextlib.closing(ReferenceEngine(translator, pixels)) as reference:
        for note in [*translator.notes, *_other_modes(reference, images, kind)]:
            warn(f"{args.generator}: {note}")
        owner = Owner(reference, images, kind)
        found = write(graph, fp32, "fp32", content, owner.judge)
        print(
            f"{fp32}  {megabytes(fp32.stat().st_size)}, at most {found.max_difference} of 255 from {owner.name}"
            f" on {kind}",
            flush=True,
        )
        _write_sheet(args.out / f"{args.name}.sheet.png", owner)
    _judge_backends(fp32, content, owner.deciding())
    if pixels.bits > HALF_BITS:
        print(f"no FP16 file: FP16 tells {HALF_BITS} bits apart, and these pictures have {pixels.bits}")
    else:
        _write_half(graph, fp16, fp32, content, owner.deciding())
    print(as_typed(f"next: runtime/run.py --engine {shlex.quote(str(fp32))} --source DIR --sink DIR"))


def _rewrite(graph: Graph, generator: Path, form: str) -> tuple[Rewrite, ...]:
    """Rewrite a graph in place, say what it cost and costs, and return what was done. form: of --fold."""
    from pix2pix_edge.export.graph.fold import fold
    from pix2pix_edge.export.graph.simplify import fold_constants

    fold_constants(graph)
    before = _arithmetic(graph)
    rewrites = fold(graph, form)
    print(f"{generator}  {before} multiply-adds, rewritten: {_arithmetic(graph)}", flush=True)
    for entry in rewrites:
        if entry.reason:
            print(f"left as it is: {entry.layer}: {entry.reason}", file=sys.stderr)
    return tuple(rewrites)


def _judge_backends(fp32: Path, content: Sidecar, images: Sequence[Image]) -> None:
    """Note in the sidecar of an FP32 file how each engine of this machine translates images with it."""
    from pix2pix_edge.export.backends import judge_backends, verdict_lines

    with open_engine(fp32, backend="onnxruntime") as engine:
        expected = [engine(image[None])[0] for image in images]
    verdicts = judge_backends(fp32, lambda way: images, expected, Gate(MIN_PSNR_FP16, MIN_SSIM_FP16))
    write_sidecar(fp32, replace(read_sidecar(fp32) or content, backends=verdicts))
    print("\n".join(verdict_lines(verdicts)), flush=True)


def _write_half(graph: Graph, fp16: Path, fp32: Path, content: Sidecar, images: Sequence[Image]) -> None:
    """Write the FP16 file, where it gives the FP32 file's pictures. Raises GateFailedError where it does not."""
    from pix2pix_edge.export.graph.half import to_half
    from pix2pix_edge.export.inspect import megabytes

    def resembles_fp32(engine: Engine) -> FidelitySummary:
        with open_engine(fp32, backend="onnxruntime") as reference:
            found = side_by_side(reference, engine, images)
        found.require(MIN_PSNR_FP16, MIN_SSIM_FP16, "FP16 changes the pictures too much", f"use {fp32}, which is whole")
        return found.summary(fp32.name)

    found = write(to_half(graph), fp16, "fp16", content, resembles_fp32)
    print(f"{fp16}  {megabytes(fp16.stat().st_size)}, PSNR {found.psnr_db:.1f} dB to FP32")


def _other_modes(reference: ReferenceEngine, images: Sequence[Image], kind: str) -> list[str]:
    """Say what the other modes of the network's layers would change, where the file leaves them open."""
    from pix2pix_edge.export.translator.reference import ReferenceEngine

    said = []
    for what, other in reference.translator.other_modes():
        found = side_by_side(ReferenceEngine(other, reference.pixels), reference, images)
        typical = 255 / 10 ** (found.mean_psnr_db / 20)
        said.append(
            f"with {what} pictures differ by up to {max(found.max_difference)} levels of 255, typically {typical:.0f},"
            f" on {kind}"
        )
    return said


def _write_sheet(path: Path, owner: Owner) -> None:
    from pix2pix_edge.runtime.frame import as_image
    from pix2pix_edge.runtime.images import sheet, write_image

    columns = {"input": owner.images[-SHOWN:], "output": owner.expected[-SHOWN:]}
    write_image(path, sheet({title: [as_image(image) for image in images] for title, images in columns.items()}))
    print(f"{path}  look at it: what goes in, and what comes out")


def side_by_side(reference: Engine, engine: Engine, images: Sequence[Image]) -> Fidelity:
    """Translate each image, uint8 [H, W, C], with both, and compare the pictures."""
    from pix2pix_edge.export.fidelity import compare

    return compare((reference(image[None])[0], engine(image[None])[0]) for image in images)


def write(graph: Graph, path: Path, precision: str, content: Sidecar, judge: Judge) -> FidelitySummary:
    """Write an exported graph and its sidecar, both or neither, after `judge` has seen it run in ONNX Runtime.

    precision: what was asked for; content: what else the sidecar is to say. Returns what `judge` found.
    Raises GateFailedError as `judge` does, and InputError where the graph cannot run.
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
    from pix2pix_edge.export.inspect import count, multiples

    return multiples(sum(layer.multiply_adds for layer in count(graph)))


def _palette(file: Path) -> tuple[Colour, ...]:
    """Return the colours of label maps that train wrote beside a network, or none. Raises InputError for no palette."""
    if not file.is_file():
        return ()
    try:
        return from_json(tuple[Colour, ...], json.loads(file.read_text()), file.name)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is no palette ({error}); take it away, or train again with --palette") from error


def _digest(model: Path) -> str:
    """Return the SHA-256 of a file, or of what tells a SavedModel folder from others."""
    if not model.is_dir():
        return sha256_of(model)
    parts = [model / "saved_model.pb", *sorted((model / "variables").glob("variables.*"))]
    return hashlib.sha256("".join(sha256_of(part) for part in parts).encode()).hexdigest()


def tools() -> dict[str, str]:
    """Return the versions of what writes and judges the files."""
    import onnx
    import onnxruntime

    return {module.__name__: module.__version__ for module in (onnx, onnxruntime)}
