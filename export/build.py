"""Build a TensorRT plan from an exported ONNX graph, on the machine and GPU that will run it.

  python -m export build facades.fp16.onnx --out facades.plan
  python -m export build facades.int8.onnx --out facades.plan --data images/ --batch 4
  python -m export build facades.fp16.onnx --out facades.plan --rtx --gpu sm86,sm89,sm120

With --rtx TensorRT-RTX builds for PCs with RTX cards, on any machine; on one of those cards the plan is tried as well.
Precision is what the graph says. The plan is kept only after the engine inspector has shown that it computes in that
precision, and after it has translated images as ONNX Runtime does with the same graph. Needs TensorRT 10.0 or newer.
"""

from __future__ import annotations

import argparse
import collections
import logging
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pix2pix_edge.runtime.cli import add_data, add_out
from pix2pix_edge.runtime.engine import check_file
from pix2pix_edge.runtime.engines.base import read_engine
from pix2pix_edge.runtime.errors import EngineError, InputError, MissingPackageError, as_typed
from pix2pix_edge.runtime.files import sha256_of, written_beside
from pix2pix_edge.runtime.nvidia.capabilities import Capabilities, memory, probe
from pix2pix_edge.runtime.sidecar import BuiltBy, Precision, Sidecar, Source, read_sidecar, sidecar_path, write_sidecar

if TYPE_CHECKING:
    from pix2pix_edge.export.tensorrt.builder import Network

IMAGES = 8
"""Images that the plan is compared on; more do not find more, and a Jetson's CPU takes a second for each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE.onnx", help="written by: python -m export convert or quantize")
    add_out(parser, "the plan to write", "FILE.plan")
    parser.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="take 1 to N images at once, fastest with N (default: exactly the batch of the ONNX file, mostly 1)",
    )
    parser.add_argument(
        "--workspace", type=int, metavar="MIB", help="scratch memory for kernels (default: half of what is free)"
    )
    parser.add_argument(
        "--optimization-level",
        type=int,
        default=3,
        choices=range(6),
        help="how long to search for fast kernels, 0 to 5 (default: 3)",
    )
    parser.add_argument(
        "--timing-cache",
        type=Path,
        metavar="FILE",
        help="measurements to reuse and extend (default: one beside the plan for each TensorRT and GPU)",
    )
    parser.add_argument("--rtx", action="store_true", help="build with TensorRT-RTX, for PCs with RTX cards")
    parser.add_argument(
        "--gpu",
        type=compute_capabilities,
        default=(),
        metavar="SM[,SM]",
        help="with --rtx: compute capabilities to build for, as sm86,sm89,sm120 (default: that of the GPU here)",
    )
    add_data(parser, "compare on (default: drawn ones)", required=False)
    parser.add_argument("--verbose", action="store_true", help="print TensorRT's own log")


def run(args: argparse.Namespace) -> None:
    if args.verbose:
        logging.basicConfig(level=logging.DEBUG, format="%(message)s")
    build(
        args.file,
        args.out,
        batch=args.batch,
        workspace_mib=args.workspace,
        optimization_level=args.optimization_level,
        timing_cache=args.timing_cache,
        data=args.data,
        rtx=args.rtx,
        cards=args.gpu,
    )


def compute_capabilities(text: str) -> tuple[tuple[int, int], ...]:
    """Return ((8, 6), (12, 0)) from "sm86,sm120". Raises ArgumentTypeError."""
    found = [re.fullmatch(r"(?:sm_?)?(\d+)\.?(\d)", part.strip().lower()) for part in text.split(",")]
    if None in found:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of compute capabilities; give sm86, or sm86,sm89,sm120")
    return tuple(dict.fromkeys((int(match[1]), int(match[2])) for match in found if match))


def build(
    file: Path,
    out: Path,
    *,
    batch: int | None = None,
    workspace_mib: int | None = None,
    optimization_level: int = 3,
    timing_cache: Path | None = None,
    data: Path | None = None,
    rtx: bool = False,
    cards: tuple[tuple[int, int], ...] = (),
) -> Sidecar:
    """Build, prove and compare a plan; write it and its sidecar, and return the sidecar.

    rtx: by TensorRT-RTX, for `cards` (none: for the GPU here); compared only where the GPU here is one of them, and its
    precision is not proven, because TensorRT-RTX chooses kernels when the plan is opened.
    Raises InputError (a graph that TensorRT refuses, in its parser's words), EngineError (no GPU, out of memory, a
    convolution left in a wider type), GateFailedError (other pictures than ONNX Runtime's), KeyboardInterrupt.
    """
    from tqdm import tqdm

    from pix2pix_edge.export.tensorrt.builder import BuildOptions, build_plan, parse_network
    from pix2pix_edge.export.tensorrt.precision import narrowest
    from pix2pix_edge.export.tensorrt.progress import BuildProgress
    from pix2pix_edge.export.tensorrt.proof import compare_with_onnxruntime, proven_precision

    _check_request(file, out, batch, workspace_mib)
    machine, cards = _machine_for(cards, rtx)
    images = _image_files(data)
    parsed = parse_network(file, machine, batch)
    asked = narrowest(parsed.asked.values())
    if asked == "int8" and machine.gpu and not machine.int8:
        raise EngineError(
            f"{machine.gpu.name} (compute capability {_dotted(machine.gpu.compute_capability)}) has no INT8 arithmetic;"
            f" build the FP16 graph: {re.sub('int8', 'fp16', file.name)}"
        )
    workspace = _workspace(machine, workspace_mib)
    print(
        f"{file} ({asked}, batch {f'1 to {batch}' if batch else parsed.input.shape[0]}) with"
        f" {machine.product} {machine.tensorrt}{f', workspace {workspace >> 20} MiB' if workspace else ''}"
    )
    cache = None if rtx else timing_cache or out.parent / cache_name(machine)  # of kernels that were timed here
    with tqdm(total=100, unit="%", disable=None, bar_format="{desc:<40} {percentage:3.0f}%|{bar}| {elapsed}") as bar:
        plan = build_plan(parsed, BuildOptions(batch, workspace, optimization_level, cache, cards), BuildProgress(bar))
    if machine.gpu is None and not rtx:
        raise EngineError(
            f"TensorRT built a plan of {plan.nbytes / 1e6:.1f} MB, but to run it, and so to keep it, needs a GPU:"
            f" {machine.gpu_missing}"
        )
    with written_beside(out) as temporary:
        temporary.write_bytes(plan)
        del plan  # on a Jetson the CPU's memory is the GPU's, which now has to hold the engine
        parsed = replace(parsed, builder=None, parser=None, network=None)
        sidecar = replace(_describe(parsed, batch, machine, cards), precision=Precision(asked))
        if machine.gpu:
            if not rtx:
                sidecar = replace(sidecar, precision=Precision(asked, proven_precision(temporary, parsed)))
            write_sidecar(temporary, sidecar)  # the engine reads it
            try:
                sidecar = replace(sidecar, fidelity=compare_with_onnxruntime(temporary, file, images, asked))
            finally:
                sidecar_path(temporary).unlink(missing_ok=True)
        sidecar = write_sidecar(out, sidecar, described=temporary)
    _report(sidecar, file, out, machine)
    return sidecar


def _report(sidecar: Sidecar, file: Path, out: Path, machine: Capabilities) -> None:
    """Print what was written, and how it was found to be."""
    if fidelity := sidecar.fidelity:
        if found := collections.Counter(sidecar.precision.layers.values()):
            print(f"convolutions: {', '.join(f'{count} {precision}' for precision, count in found.most_common())}")
        print(
            f"against ONNX Runtime on {fidelity.images} images: PSNR {fidelity.psnr_db:.1f} dB, SSIM"
            f" {fidelity.ssim:.4f}, at most {fidelity.max_difference} of 255"
        )
    else:
        command = as_typed(shlex.join(["python", "-m", "export", "check", str(file), str(out), "--data", "DIR"]))
        print(f"not tried ({machine.gpu_missing.partition(';')[0]}); on one of its cards, run: {command}")
    print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB) and {sidecar_path(out)}")


def cache_name(machine: Capabilities) -> str:
    """Return the timing cache's file name: TensorRT takes measurements only from its own version and GPU."""
    gpu = machine.gpu
    board = f"{gpu.name}-sm{gpu.compute_capability[0]}{gpu.compute_capability[1]}" if gpu else "no-gpu"
    return f"tensorrt-{machine.tensorrt}-{re.sub(r'[^a-z0-9]+', '-', board.lower())}.timing"


def _check_request(file: Path, out: Path, batch: int | None, workspace_mib: int | None) -> None:
    """Raise InputError for what needs no TensorRT to be seen as wrong."""
    check_file(file, (".onnx",))
    if read_engine(file).outputs[0].dtype == "uint16":
        raise InputError(
            f"{file} gives pictures of 16 bits, and TensorRT has no such type; convert its model again without --bits"
        )
    if out.suffix != ".plan":
        raise InputError(f"--out {out} must end in .plan, by which the runtime knows it")
    if batch is not None and batch < 1:
        raise InputError(f"--batch {batch} takes no image; give 1 or more")
    if workspace_mib is not None and workspace_mib < 1:
        raise InputError(f"--workspace {workspace_mib} leaves no memory; give at least 1 (MiB)")


def _image_files(data: Path | None) -> list[Path] | None:
    """Return the images to compare on, before the long build; None for drawn ones."""
    if data is None:
        return None
    from pix2pix_edge.export.images import evenly, judging_files

    return evenly(judging_files(data), IMAGES)


def _workspace(machine: Capabilities, workspace_mib: int | None) -> int | None:
    """Return the limit in bytes: what was asked, else half of what is free now, else (no GPU) TensorRT's own."""
    if workspace_mib is not None:
        return workspace_mib << 20
    return memory().free // 2 if machine.gpu else None


def _machine_for(cards: tuple[tuple[int, int], ...], rtx: bool) -> tuple[Capabilities, tuple[tuple[int, int], ...]]:
    """Return this machine, without its GPU where the plan is not for that, and the cards that TensorRT-RTX builds for.

    Raises InputError for cards that are not known, MissingPackageError without TensorRT, or pycuda beside a GPU.
    """
    if cards and not rtx:
        raise InputError("--gpu is for --rtx: without it, a plan is built for the GPU that is here")
    machine = probe(package="tensorrt_rtx" if rtx else "tensorrt")
    machine.require_tensorrt()
    if rtx:
        cards = _known_cards(cards, machine)
        if machine.gpu and machine.gpu.compute_capability not in cards:
            machine = replace(machine, gpu=None, gpu_missing=f"it is not for the {machine.gpu.name} that is here")
    if machine.gpu and not machine.pycuda:
        raise MissingPackageError(
            "pycuda is not installed, and without it a plan cannot be tried; run: pip install pycuda (docs/jetson.md)"
        )
    return machine, cards


def _known_cards(cards: tuple[tuple[int, int], ...], machine: Capabilities) -> tuple[tuple[int, int], ...]:
    """Return what to build for: `cards`, else the GPU here. Raises InputError for what the package does not know."""
    if not cards and machine.gpu is None:
        raise InputError(
            f"there is no GPU here to build for ({machine.gpu_missing.partition(';')[0]}); name the cards:"
            " --gpu sm86,sm89,sm120"
        )
    cards = cards or (machine.require_gpu().compute_capability,)
    known = [name.lower() for name in machine.trt().ComputeCapability.__members__ if re.fullmatch(r"SM\d+", name)]
    if unknown := [name for name in (f"sm{major}{minor}" for major, minor in cards) if name not in known]:
        raise InputError(
            f"{machine.product} {machine.tensorrt} does not build for {', '.join(unknown)}; give --gpu some of"
            f" {','.join(known)}, or build with TensorRT on that GPU itself, without --rtx"
        )
    return cards


def _describe(parsed: Network, batch: int | None, machine: Capabilities, cards: tuple[tuple[int, int], ...]) -> Sidecar:
    """Return the sidecar of a plan but for what is measured; one for `cards` runs on all GPUs of their kinds."""
    if cards:
        built = BuiltBy(machine.tensorrt, compute_capability=", ".join(map(_dotted, cards)), max_batch=batch)
    else:
        gpu = machine.require_gpu()
        built = BuiltBy(
            machine.tensorrt, gpu.name, _dotted(gpu.compute_capability), machine.cuda, machine.driver, batch
        )
    of_source = read_sidecar(parsed.source) or Sidecar()
    return Sidecar(
        kind="plan",
        source=Source(parsed.source.name, sha256_of(parsed.source)),
        input=parsed.input,
        output=parsed.output,
        calibration=of_source.calibration,
        palette=of_source.palette,
        tools={machine.package.replace("_", "-"): machine.tensorrt},
        tensorrt=built,
    )


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"
