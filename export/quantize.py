"""Quantise an exported FP32 graph to INT8, as far as the pictures stay right.

  python -m export quantize exported/facades.fp32.onnx --data facades/
  python -m export quantize exported/facades.fp32.onnx --data photos/ --target cpu --min-psnr 42

Writes NAME.int8.onnx for TensorRT (the rest in FP16) and NAME.int8.cpu.onnx for ONNX Runtime and OpenVINO. --data is a
data set with train_label/ and test_label/ (or trainB/ and testB/), or a folder of input images, of which every fourth
is held out. Images are calibrated on or judged on, never both. The layers that cost the most fidelity stay in floating
point until the held-out images pass the gate; below it nothing is written, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pix2pix_edge.runtime.cli import add_data
from pix2pix_edge.runtime.engines.base import Engine
from pix2pix_edge.runtime.errors import GateFailedError, InputError, ToolkitError
from pix2pix_edge.runtime.files import sha256_of
from pix2pix_edge.runtime.frame import Image, fit
from pix2pix_edge.runtime.sidecar import CalibratedOn, Gate, Sidecar, Source, Verdict, read_sidecar

if TYPE_CHECKING:
    from pix2pix_edge.export.fidelity import Fidelity
    from pix2pix_edge.export.graph.graph import Graph
    from pix2pix_edge.export.int8.calibrate import Calibration
    from pix2pix_edge.export.int8.placement import Layer

METHODS = ("auto", "entropy", "percentile", "minmax")
TRIED_BY_AUTO = ("percentile", "percentile-99.9", "percentile-99.999", "entropy", "minmax")
RANKING = 6
"""Calibration images set apart to rank layers and methods on."""
JUDGED = 100
"""At most so many images decide the gate."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("model", type=Path, metavar="NAME.fp32.onnx", help="as written by: python -m export convert")
    add_data(parser, "calibrate and judge on, like those the network will meet")
    option("--target", choices=("tensorrt", "cpu", "both"), default="both", help="what to write (default: both)")
    option("--images", type=int, default=200, metavar="N", help="calibrate on N of them (default: 200)")
    option("--method", choices=METHODS, default="auto", help="how ranges are chosen (default: auto, the best here)")
    option("--min-psnr", type=float, default=35.0, metavar="DB", help="gate, mean over images (default: 35)")
    option("--min-ssim", type=float, default=0.97, metavar="S", help="gate, mean over images (default: 0.97)")
    option(
        "--cache",
        type=Path,
        metavar="FILE",
        help="the calibration: read where it exists, else written (default: NAME.calibration.json beside the model)",
    )


def run(args: argparse.Namespace) -> None:
    from pix2pix_edge.export.graph.graph import Graph
    from pix2pix_edge.export.int8.placement import TARGETS, find_layers

    if args.images < 1:
        raise InputError(f"--images {args.images} must be at least 1; 200 are usual")
    graph = Graph.load(args.model)
    graph.sort()
    if any(node.op_type == "DequantizeLinear" for node in graph.nodes):
        raise InputError(f"{args.model} is quantised already; give the NAME.fp32.onnx of convert")
    layers = find_layers(graph)
    if not layers:
        raise InputError(f"{args.model} has no convolution that could be INT8; give the NAME.fp32.onnx of convert")
    with tempfile.TemporaryDirectory(prefix="quantize-") as folder:
        work = _Work(args, graph, layers, Path(folder))
        failures = []
        for target in TARGETS if args.target == "both" else (args.target,):
            try:
                work.write(target)
            except GateFailedError as error:  # the other target may pass
                failures.append(error)
        if failures:
            raise GateFailedError("; ".join(str(error) for error in failures))


class _Work:
    """One model, its images and its calibration; writes a file for each target."""

    def __init__(self, args: argparse.Namespace, graph: Graph, layers: list[Layer], folder: Path) -> None:
        from pix2pix_edge.export.images import calibration_split, evenly
        from pix2pix_edge.export.int8.equalize import Channels, equalize
        from pix2pix_edge.export.int8.sensitivity import Judge, translated
        from pix2pix_edge.runtime.engines.onnxruntime import OnnxRuntimeEngine

        self.args, self.layers, self.folder = args, layers, folder
        self.size = graph.shapes()[graph.input.name][1]
        self.stem = args.model.name.removesuffix(".onnx").removesuffix(".fp32")
        calibrating, judging = calibration_split(args.data)
        calibrating = evenly(calibrating, args.images)
        ranking = evenly(calibrating, RANKING)
        self.cache = args.cache or args.model.with_name(f"{self.stem}.calibration.json")
        self.calibration = self._calibration(graph, calibrating, ranking)
        self.graph = graph.copy()
        channels = Channels(graph)
        equalize(self.graph, channels, self.calibration.scales(channels, layers))
        judging = evenly(judging, JUDGED)
        if args.cache:  # it may be of other images, or of another split of these
            used = set(self.calibration.images)
            judging = [path for path in judging if sha256_of(path) not in used]
        self.judging = judging
        if not self.judging:
            raise InputError(f"every image in {args.data} was calibrated on, so none is left to judge on; give others")
        with OnnxRuntimeEngine(args.model) as reference:
            images = [self._read(path) for path in ranking]
            self.ranking = Judge(images, list(translated(reference, images)), folder)
            bar = _bar(self.judging, "FP32 pictures")
            self.expected = list(translated(reference, (self._read(path) for path in bar)))

    def _read(self, path: Path) -> Image:
        from pix2pix_edge.runtime.images import read_image

        return fit(read_image(path), self.size)

    def _calibration(self, graph: Graph, calibrating: Sequence[Path], ranking: Sequence[Path]) -> Calibration:
        """Return the cached calibration where it is of these images, or was named with --cache; else calibrate."""
        from pix2pix_edge.export.int8.calibrate import LEAST_IMAGES, Calibration, calibrate, image_hashes

        model = sha256_of(self.args.model)
        hashes = image_hashes(calibrating)
        if self.cache.is_file():
            try:
                found = Calibration.load(self.cache, model)
                if self.args.cache or found.images == sorted(hashes):
                    print(f"calibration: {self.cache}, of {len(found.images)} images", flush=True)
                    return found
            except InputError:
                if self.args.cache:
                    raise
        if len(calibrating) < LEAST_IMAGES:
            few = "image is" if len(calibrating) == 1 else "images are"
            print(f"warning: {len(calibrating)} {few} few to calibrate on; give 200 if you can", file=sys.stderr)
        # ranked on what the ranges have not seen, where there is enough
        apart = set(ranking) if len(calibrating) >= LEAST_IMAGES else set()
        paths = [path for path in calibrating if path not in apart]
        images = (self._read(path) for path in _bar(paths, "calibrating"))
        found = calibrate(graph, self.layers, images, hashes, model)
        found.save(self.cache)
        return found

    def write(self, target: str) -> None:
        """Write the file of one target and its sidecar. Raises GateFailedError, and then writes nothing."""
        from pix2pix_edge.export.convert import write
        from pix2pix_edge.export.int8.sensitivity import mean_squared_error, sensitivity, worth_it

        method = self._method(target)
        ranges = self.calibration.of_method(method)
        with _bar(None, f"{target}: one layer at a time", len(self.layers)) as bar:
            alone = sensitivity(self.graph, self.layers, ranges, target, self.ranking, bar)
        errors = {name: mean_squared_error(fidelity) for name, fidelity in alone.items()}
        allowed = 255**2 / 10 ** (self.args.min_psnr / 10)
        kept, best = self.layers, "none of them"
        while kept:
            judged, graph = self._attempt(kept, ranges, target)
            if judged is not None and judged.passes(self.args.min_psnr, self.args.min_ssim):
                break
            if judged is not None:
                best = f"PSNR {judged.mean_psnr_db:.1f} dB and SSIM {judged.mean_ssim:.4f}"
            total = sum(errors[layer.name] for layer in kept)
            measured = max(mean_squared_error(judged), 1e-9) if judged else allowed
            kept = worth_it(kept, errors, total * min(0.85, max(0.25, allowed / measured)))
        else:
            raise GateFailedError(
                f"{target}: no layer can be INT8 at PSNR {self.args.min_psnr:g} dB and SSIM {self.args.min_ssim:g}"
                f" (reached: {best}); nothing was written; use the FP16 or FP32 file, or lower --min-psnr"
            )
        path = self.args.model.with_name(f"{self.stem}.int8{'.cpu' if target == 'cpu' else ''}.onnx")
        fidelity = judged.summary(self.args.model.name)
        source = read_sidecar(self.args.model) or Sidecar()
        content = Sidecar(
            source=Source(self.args.model.name, self.calibration.model_sha256),
            rewrites=source.rewrites,
            calibration=CalibratedOn(self.calibration.images_sha256, len(self.calibration.images), method),
            gate=Gate(self.args.min_psnr, self.args.min_ssim),
            sensitivity={
                name: round(alone[layer.name].mean_psnr_db, 1) for layer in self.layers for name in layer.convolutions
            },
            backends=self._backends(judged) if target == "cpu" else {},
            tools={**source.tools, **_tools()},
            palette=source.palette,
        )
        write(graph, path, "int8", content, lambda engine: fidelity)
        self._report(path, kept, judged, content)

    def _method(self, target: str) -> str:
        """Return the method asked for, or for "auto" the best on the ranking images with every layer in INT8."""
        from pix2pix_edge.export.int8.placement import quantized

        asked: str = self.args.method
        if asked != "auto":
            return asked
        if target not in self.calibration.chosen:
            found = {
                method: self.ranking.fidelity(
                    quantized(self.graph, self.layers, self.calibration.of_method(method), target)
                ).mean_psnr_db
                for method in _bar(TRIED_BY_AUTO, f"{target}: methods")
            }
            best = max(TRIED_BY_AUTO, key=lambda method: found[method])
            self.calibration = replace(self.calibration, chosen={**self.calibration.chosen, target: best})
            self.calibration.save(self.cache)
        return self.calibration.chosen[target]

    def _attempt(self, kept: Sequence[Layer], ranges: Any, target: str) -> tuple[Fidelity, Graph]:
        """Return what the held-out images say of these layers in INT8, in ONNX Runtime, and the graph."""
        from pix2pix_edge.export.graph.half import to_half
        from pix2pix_edge.export.int8.placement import quantized
        from pix2pix_edge.runtime.engines.onnxruntime import OnnxRuntimeEngine

        graph = quantized(self.graph, kept, ranges, target)
        ranked = self.ranking.fidelity(graph)
        if ranked.mean_psnr_db < self.args.min_psnr - 3:  # not worth the time of all images
            return ranked, graph
        if target == "tensorrt":
            graph = to_half(graph)
        (self.folder / "judged.onnx").write_bytes(graph.to_model().SerializeToString(deterministic=True))
        with OnnxRuntimeEngine(self.folder / "judged.onnx") as engine:
            return self._judged(engine, f"{target}: {len(kept)} of {len(self.layers)} layers"), graph

    def _judged(self, engine: Engine, what: str) -> Fidelity:
        from pix2pix_edge.export.fidelity import compare
        from pix2pix_edge.export.int8.sensitivity import translated

        images = (self._read(path) for path in _bar(self.judging, what))
        return compare(zip(translated(engine, images), self.expected, strict=True))

    def _backends(self, onnxruntime: Fidelity) -> dict[str, Verdict]:
        """Return what each CPU engine makes of the file just judged; OpenVINO in BF16 where that passes, too."""
        found = {"onnxruntime": self._verdict(onnxruntime)}
        if importlib.util.find_spec("openvino") is None:
            return found
        from pix2pix_edge.runtime.engines.openvino import OpenVinoEngine

        for bf16 in (True, False) if _has_bf16() else (False,):
            try:
                with OpenVinoEngine(self.folder / "judged.onnx", bf16=bf16) as engine:
                    judged = self._judged(engine, f"cpu: OpenVINO{' in BF16' if bf16 else ''}")
            except ToolkitError as error:
                print(f"warning: OpenVINO cannot run the INT8 graph: {error}", file=sys.stderr)
                found["openvino"] = Verdict(False)
                break
            found["openvino"] = self._verdict(judged, bf16)
            if found["openvino"].passed:
                break
        return found

    def _verdict(self, fidelity: Fidelity, bf16: bool = False) -> Verdict:
        summary = fidelity.summary()
        passed = fidelity.passes(self.args.min_psnr, self.args.min_ssim)
        return Verdict(passed, summary.psnr_db, summary.ssim, bf16)

    def _report(self, path: Path, kept: Sequence[Layer], judged: Fidelity, content: Sidecar) -> None:
        method = content.calibration.method if content.calibration else ""
        whole = sum(layer.multiply_adds for layer in self.layers)
        share = sum(layer.multiply_adds for layer in kept) / whole
        print(
            f"{path}  {path.stat().st_size / 1e6:.1f} MB, PSNR {judged.mean_psnr_db:.1f} dB,"
            f" SSIM {judged.mean_ssim:.4f} on {len(self.judging)} held-out images; INT8: {len(kept)} of"
            f" {len(self.layers)} layers, {share:.0%} of their arithmetic ({method} ranges)"
        )
        for layer in self.layers:
            if layer not in kept:
                print(f"  {layer.name} stays in floating point: alone in INT8 {content.sensitivity[layer.name]} dB")
        other = content.backends.get("openvino")
        if other:
            verdict = "passes" if other.passed else "fails, and will not be chosen"
            print(f"  OpenVINO {verdict}: PSNR {other.psnr_db or 'none'} dB{' in BF16' if other.bf16 else ''}")


def _bar(items: Iterable[Any] | None, what: str, total: int | None = None) -> Any:
    from tqdm import tqdm

    return tqdm(items, total=total, desc=what, disable=None, dynamic_ncols=True, leave=False)


def _has_bf16() -> bool:
    from pix2pix_edge.runtime.engines.openvino import core

    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _tools() -> dict[str, str]:
    import onnx
    import onnxruntime

    found = {module.__name__: module.__version__ for module in (onnx, onnxruntime)}
    if importlib.util.find_spec("openvino") is not None:
        import openvino

        found["openvino"] = str(openvino.__version__).partition("-")[0]
    return found
