"""Fidelity beside speed: every engine's pictures against the FP32 reference, and a gallery with the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_edge.benchmarks.measure.engines import Measured
from pix2pix_edge.benchmarks.measure.worker import Session, Target, Worker
from pix2pix_edge.benchmarks.report.schema import rounded
from pix2pix_edge.runtime.engines.base import Images
from pix2pix_edge.runtime.errors import ToolkitError
from pix2pix_edge.runtime.files import written_beside
from pix2pix_edge.runtime.sidecar import Sidecar, read_sidecar, to_json

SHOWN = 6
"""Pictures in the gallery."""

AMPLIFIED = 8
"""Differences are shown so many times as large; a level or two of 255 is invisible."""


@dataclass(frozen=True)
class Reference:
    """What an engine is compared with. outputs: as Measured.outputs."""

    path: Path
    outputs: list[Images]


def reference_path(engine: Path, engines: Sequence[Path]) -> Path:
    """Return the FP32 graph that an engine was made from, as far as the sidecars and files beside it lead.

    Of several FP32 graphs of one generator, plain and rewritten, the first engine given is the reference of all. An
    engine without a sidecar is compared with the first engine's.
    """
    path, sidecar = engine, read_sidecar(engine)
    if sidecar is None:
        return engines[0] if engine == engines[0] else reference_path(engines[0], engines)
    while sidecar and sidecar.precision.asked != "fp32" and sidecar.source.file:
        source = path.with_name(sidecar.source.file)
        if source.suffix != ".onnx" or not source.is_file():
            break
        path, sidecar = source, read_sidecar(source)
    generator = _generator(sidecar)
    return next((other for other in engines if generator and _generator(read_sidecar(other)) == generator), path)


def _generator(sidecar: Sidecar | None) -> str:
    """Return the sha256 of the generator that an FP32 graph was converted from; "" for anything else."""
    if not sidecar or sidecar.precision.asked != "fp32":
        return ""
    return sidecar.source.sha256


def references(engines: Sequence[Measured], images: Sequence[Images], chosen: Path | None) -> dict[str, Reference]:
    """Return label -> reference, translated by ONNX Runtime. chosen: one for all, else each engine's own FP32 graph.

    An engine whose reference cannot be opened has none. Raises ToolkitError when the chosen one cannot.
    """
    paths = [m.target.path for m in engines]
    made: dict[Path, Reference] = {}
    found = {}
    for measured in engines:
        path = chosen or reference_path(measured.target.path, paths)
        if path not in made:
            twin = next((m for m in engines if m.target.path == path and _is_onnxruntime(m) and m.outputs), None)
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


def _is_onnxruntime(measured: Measured) -> bool:
    return measured.describe.get("engine") == "ONNX Runtime"


def fidelity_json(measured: Measured, reference: Reference, names: Sequence[str]) -> dict[str, Any]:
    """Return the row's fidelity: mean and worst PSNR (EQUAL_PSNR_DB for equal pictures), SSIM, largest difference."""
    from pix2pix_edge.export.fidelity import EQUAL_PSNR_DB, compare

    found = compare(zip(reference.outputs, measured.outputs, strict=True))
    worst = found.worst_first()[0]
    each = [rounded(min(ratio, EQUAL_PSNR_DB), 4) for ratio in found.psnr_db]
    return {
        "reference": reference.path.name,
        "itself": measured.target.path == reference.path and _is_onnxruntime(measured),
        **to_json(found.summary()),
        "psnr_worst_db": each[worst],
        "worst_image": names[worst],
        "psnr_each_db": each,
    }


def write_gallery(
    folder: Path,
    engines: Sequence[Measured],
    found: dict[str, Reference],
    fidelity: dict[str, dict[str, Any]],
    images: Sequence[Images],
    names: Sequence[str],
) -> list[dict[str, Any]]:
    """Write the pictures that any engine translates worst, and return the report's gallery: file names by label."""
    judged = [(measured, fidelity[measured.label]) for measured in engines]
    if not judged:
        return []
    each = np.array([scores["psnr_each_db"] for _, scores in judged])
    gallery = []
    for index in np.argsort(each.min(axis=0), kind="stable")[:SHOWN].tolist():
        entry: dict[str, Any] = {"image": names[index], "input": f"gallery/{index:04d}-input.jpg"}
        _write(folder / entry["input"], images[index])
        entry["references"], entry["outputs"] = {}, {}
        for number, (measured, scores) in enumerate(judged):
            reference = found[measured.label]
            name = f"gallery/{index:04d}-{reference.path.name}.jpg"
            entry["references"][reference.path.name] = name
            _write(folder / name, reference.outputs[index])
            if scores["itself"]:
                continue
            output = measured.outputs[index]
            difference = np.abs(output.astype(np.int16) - reference.outputs[index]) * AMPLIFIED
            stem = f"gallery/{index:04d}-{number}"
            _write(folder / f"{stem}-output.jpg", output)
            _write(folder / f"{stem}-difference.jpg", np.clip(difference, 0, 255).astype(np.uint8))
            entry["outputs"][measured.label] = {
                "picture": f"{stem}-output.jpg",
                "difference": f"{stem}-difference.jpg",
                "psnr_db": scores["psnr_each_db"][index],
            }
        gallery.append(entry)
    return gallery


def _write(path: Path, image: Images) -> None:
    import cv2

    with written_beside(path) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
