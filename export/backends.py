"""Which engines on a CPU may run a file: each is judged on the same pictures under one gate, and timed."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pix2pix_edge.export.fidelity import compare
from pix2pix_edge.runtime.engine import WAYS, open_engine
from pix2pix_edge.runtime.engines import openvino
from pix2pix_edge.runtime.engines.base import Engine
from pix2pix_edge.runtime.errors import ToolkitError, warn
from pix2pix_edge.runtime.frame import Image
from pix2pix_edge.runtime.sidecar import Gate, Verdict


def judge_backends(
    path: Path, images: Callable[[str], Iterable[Image]], expected: Sequence[Image], gate: Gate
) -> dict[str, Verdict]:
    """Translate images with every engine of this machine that can run `path`, and return way (of WAYS) -> verdict.

    images: returns the images, uint8 [H, W, C], when it is told which way they are for. expected: the FP32 graph's
    pictures of them. The time is the shortest for one picture: what else the machine does makes others longer, never
    shorter.
    """
    found = {}
    for way in reversed(WAYS):
        backend, _, precision = way.partition("-")
        if importlib.util.find_spec(backend) is None or (precision == "bf16" and not openvino.has_bf16()):
            continue
        try:
            with open_engine(path, backend=backend, precision=precision or "fp32") as engine:
                times: list[int] = []
                fidelity = compare(zip(_translated(engine, images(way), times), expected, strict=True))
                ms = min(times) / 1e6 / engine.input.shape[0]
        except ToolkitError as error:
            warn(f"{way} cannot run {path.name}: {error}")
            found[way] = Verdict(False)
            continue
        summary = fidelity.summary()
        found[way] = Verdict(
            fidelity.passes(gate), summary.psnr_db, summary.ssim, summary.worst_psnr_db, float(f"{ms:.3g}")
        )
    return found


def _translated(engine: Engine, images: Iterable[Image], times: list[int]) -> Iterator[Image]:
    """Translate images one by one, and add to `times` the nanoseconds that each took to compute."""
    for image in images:
        ticket = engine.submit(np.repeat(image[None], engine.input.shape[0], axis=0))
        yield ticket.result()[0]
        times.append(ticket.compute_ns)


def verdict_lines(verdicts: dict[str, Verdict]) -> list[str]:
    """Return a line for each verdict, for people."""
    lines = []
    for way, verdict in verdicts.items():
        said = "passes" if verdict.passed else "fails, and is not chosen"
        if verdict.psnr_db is not None and verdict.worst_psnr_db is not None:
            said += f": PSNR {verdict.psnr_db:.1f} dB, worst image {verdict.worst_psnr_db:.1f} dB,"
            said += f" {verdict.ms:g} ms where it was judged"
        lines.append(f"  {way} {said}")
    return lines
