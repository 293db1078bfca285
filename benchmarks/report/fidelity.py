"""Fidelity beside speed: every engine's pictures against its FP32 graph's, and a gallery with the worst first.

Nothing is compared with itself and called faithful: an engine whose FP32 graph is not there has the fidelity that its
sidecar remembers, named as such, or none.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pix2pix_edge.benchmarks.measure.engines import Measured
from pix2pix_edge.benchmarks.measure.worker import Session, Target, Worker
from pix2pix_edge.benchmarks.report.schema import Fidelity, Shown, ShownOutput
from pix2pix_edge.benchmarks.report.table import rounded
from pix2pix_edge.export.check import AMPLIFIED
from pix2pix_edge.runtime.engines.base import Images
from pix2pix_edge.runtime.engines.onnx_file import read_onnx
from pix2pix_edge.runtime.errors import InputError, ToolkitError
from pix2pix_edge.runtime.files import sha256_of, written_beside
from pix2pix_edge.runtime.frame import as_image
from pix2pix_edge.runtime.sidecar import FidelitySummary, Sidecar, read_sidecar

GALLERY = "gallery"
"""The folder of the pictures, in the report's."""

SHOWN = 6
"""Pictures in the gallery."""


@dataclass(frozen=True)
class Reference:
    """What an engine is compared with. outputs: as Measured.outputs."""

    path: Path
    outputs: list[Images]


def reference_path(engine: Path, engines: Sequence[Path]) -> Path | None:
    """Return the FP32 graph that an engine was made from, as far as the sidecars and files beside it lead, or None.

    Of several FP32 graphs of one generator, plain and rewritten, the first engine given is the reference of all. An
    engine without a sidecar is compared with the first engine's.
    """
    if read_sidecar(engine) is None and engine != engines[0]:
        return reference_path(engines[0], engines)
    path: Path | None = engine
    while path and not is_fp32(path):
        path = _source_of(path)
    generator = _generator(path)
    return next((other for other in engines if generator and _generator(other) == generator), path)


def is_fp32(path: Path) -> bool:
    """Tell whether a file is an FP32 graph: what its sidecar says was asked for, else what its layers are."""
    if path.suffix != ".onnx":
        return False
    sidecar = read_sidecar(path)
    if sidecar and sidecar.precision.asked:
        return sidecar.precision.asked == "fp32"
    if importlib.util.find_spec("onnx") is None:  # nothing tells
        return False
    from pix2pix_edge.export.graph.graph import Graph
    from pix2pix_edge.export.inspect import count

    try:
        if read_onnx(path).quantized:
            return False
        return all(layer.precision == "fp32" for layer in count(Graph.load(path)) if layer.multiply_adds)
    except ToolkitError:
        return False


def _source_of(path: Path) -> Path | None:
    """Return the graph beside a file that it was made from, if it is still the same file."""
    source = (read_sidecar(path) or Sidecar()).source
    found = path.with_name(source.file or path.name)
    if found == path or found.suffix != ".onnx" or not found.is_file():
        return None
    return found if sha256_of(found) == source.sha256 else None


def _generator(path: Path | None) -> str:
    """Return the sha256 of the generator that an FP32 graph was converted from; "" for anything else."""
    sidecar = read_sidecar(path) if path else None
    return sidecar.source.sha256 if sidecar and sidecar.precision.asked == "fp32" else ""


def references(engines: Sequence[Measured], images: Sequence[Images], chosen: Path | None) -> dict[str, Reference]:
    """Return label -> reference, translated by ONNX Runtime. chosen: one for all, else each engine's own FP32 graph.

    An engine whose reference is not there or cannot be opened has none. Raises ToolkitError when the chosen one cannot,
    or is not FP32.
    """
    if chosen and not is_fp32(chosen):
        raise InputError(f"--reference {chosen} is no FP32 graph; give the one that the engines were made from")
    paths = [m.target.path for m in engines]
    made: dict[Path, Reference] = {}
    found = {}
    for measured in engines:
        path = chosen or reference_path(measured.target.path, paths)
        if path is None:
            continue
        if path not in made:
            twin = next((m for m in engines if _is(m, path) and m.outputs), None)
            if twin:
                made[path] = Reference(path, twin.outputs)
            else:
                try:
                    with Worker(Session, Target(path, "onnxruntime")) as worker:
                        worker.ask("open")
                        made[path] = Reference(path, worker.ask("translate", list(images)))
                except ToolkitError:
                    if chosen:
                        raise
                    continue
        found[measured.label] = made[path]
    return found


def _is(measured: Measured, reference: Path) -> bool:
    """Tell whether an engine is the reference itself."""
    return measured.target.path == reference and measured.kind == "onnxruntime"


def fidelity_of(measured: Measured, reference: Reference, names: Sequence[str]) -> Fidelity:
    """Return an engine's fidelity: mean and worst PSNR (EQUAL_PSNR_DB for equal pictures), SSIM, largest difference."""
    from pix2pix_edge.export.fidelity import EQUAL_PSNR_DB, compare

    found = compare(zip(reference.outputs, measured.outputs, strict=True))
    worst = found.worst_first()[0]
    each = [rounded(min(ratio, EQUAL_PSNR_DB), 4) for ratio in found.psnr_db]
    return replace(
        fidelity_from(found.summary(reference.path.name)),
        itself=_is(measured, reference.path),
        psnr_worst_db=each[worst],
        worst_image=names[worst],
        psnr_each_db=each,
    )


def fidelity_from(summary: FidelitySummary) -> Fidelity:
    """Return a summary as the report keeps it."""
    return Fidelity(
        reference=summary.reference,
        images=summary.images,
        psnr_db=summary.psnr_db,
        ssim=summary.ssim,
        max_difference=summary.max_difference,
        psnr_worst_db=summary.worst_psnr_db,
    )


def remembered_fidelity(engine: Path) -> Fidelity | None:
    """Return the fidelity that an engine's sidecar has from its export; None where it has none."""
    kept = (read_sidecar(engine) or Sidecar()).fidelity
    return replace(fidelity_from(kept), from_sidecar=True) if kept else None


def write_gallery(
    folder: Path,
    engines: Sequence[Measured],
    found: dict[str, Reference],
    fidelity: dict[str, Fidelity],
    images: Sequence[Images],
    names: Sequence[str],
) -> list[Shown]:
    """Write the pictures that any engine translates worst, and return the report's gallery.

    engines: those that `found` has a reference and `fidelity` the numbers of.
    """
    each = [(m, found[m.label], fidelity[m.label], fidelity[m.label].psnr_each_db or []) for m in engines]
    if not each:
        return []
    worst = np.array([ratios for *_, ratios in each]).min(axis=0)
    gallery = []
    for index in np.argsort(worst, kind="stable")[:SHOWN].tolist():
        shown = Shown(image=names[index], input=f"{GALLERY}/{index:04d}-input.jpg", references={}, outputs={})
        _write(folder / shown.input, images[index])
        for number, (measured, reference, scores, ratios) in enumerate(each):
            file = shown.references.setdefault(
                reference.path.name, f"{GALLERY}/{index:04d}-reference-{len(shown.references)}.jpg"
            )
            _write(folder / file, reference.outputs[index])
            if scores.itself:
                continue
            output = as_image(measured.outputs[index])
            difference = np.abs(output.astype(np.int16) - as_image(reference.outputs[index])) * AMPLIFIED
            stem = f"{GALLERY}/{index:04d}-{number}"
            _write(folder / f"{stem}-output.jpg", output)
            _write(folder / f"{stem}-difference.jpg", np.clip(difference, 0, 255).astype(np.uint8))
            shown.outputs[measured.label] = ShownOutput(
                picture=f"{stem}-output.jpg", difference=f"{stem}-difference.jpg", psnr_db=ratios[index]
            )
        gallery.append(shown)
    return gallery


def _write(path: Path, image: Images) -> None:
    import cv2

    with written_beside(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(as_image(image), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
