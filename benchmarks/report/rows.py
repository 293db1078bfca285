"""A row of the report from what was measured of one engine."""

from __future__ import annotations

import importlib.util
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pix2pix_edge.benchmarks.machine.boards import BoardSpec
from pix2pix_edge.benchmarks.machine.power import Meter, mean_watts
from pix2pix_edge.benchmarks.measure.engines import Measured, Run
from pix2pix_edge.benchmarks.measure.interleave import Nanoseconds
from pix2pix_edge.benchmarks.report.schema import Fidelity, MemoryUse, Power, Rates, Row, StreamTimes, Work
from pix2pix_edge.benchmarks.report.summary import early_stopping_estimate, paired_ratio, rate, scope_of
from pix2pix_edge.benchmarks.report.table import rounded
from pix2pix_edge.runtime.errors import ToolkitError
from pix2pix_edge.runtime.files import sha256_of
from pix2pix_edge.runtime.frame import STAGES
from pix2pix_edge.runtime.sidecar import Sidecar, read_sidecar

SCOPES = ("compute", "engine", "stream", "overlap", "submit", "cpu")
AGES = 300
"""Frames that the frame-age plot shows: the last ones."""


def row_of(measured: Measured, run: Run, fidelity: Fidelity | None = None) -> Row:
    """Return an engine's row without work and power; whatever was not measured is left out."""
    path = measured.target.path
    describe = dict(measured.describe)
    row = Row(
        name=measured.label,
        file=path.name,
        error=measured.error,
        engine=describe.pop("engine", "TensorRT" if path.suffix == ".plan" else ""),
        precision=describe.pop("precision", ""),
        describe=describe,
        batch=measured.opened[-1].shape[0] if measured.opened else 1,
        fidelity=fidelity,
        scopes={name: scope_of(rounds) for name in SCOPES if (rounds := measured.scope(name))},
    )
    if path.is_file():
        row = replace(row, bytes=path.stat().st_size, sha256=sha256_of(path))
    if measured.first_ns:
        row = replace(
            row,
            load_ms=[rounded(opened.load_ns / 1e6, 4) for opened in measured.opened],
            first_ms=[rounded(ns / 1e6, 4) for ns in measured.first_ns],
        )
    if "engine" not in row.scopes:
        return row
    estimate = early_stopping_estimate(np.concatenate(measured.scope("engine")) / 1e6)
    base = next((m for m in run.engines if m.scope("engine")), measured)
    ratio = None if base is measured else paired_ratio(measured.scope("engine"), base.scope("engine"), base.label)
    return replace(
        row,
        frames_per_second=_rates(measured, row.batch),
        p90_bound_ms=None if estimate is None else rounded(estimate),
        ratio=ratio,
        stream=_stream(measured),
        memory=_memory(measured),
    )


def _stream(measured: Measured) -> StreamTimes | None:
    rounds = measured.scope("stream")
    if not rounds:
        return None
    stages = {stage: float(np.median(np.concatenate(measured.scope(f"{stage} stage")))) / 1e6 for stage in STAGES}
    ages = np.concatenate(rounds)[-AGES:] / 1e6
    return StreamTimes(
        stages_ms={stage: rounded(took) for stage, took in stages.items()},
        ages_ms=[rounded(age, 4) for age in ages.tolist()],
    )


def _memory(measured: Measured) -> MemoryUse | None:
    if not measured.memory:
        return None
    return MemoryUse(
        host_peak_bytes=max(used.host_peak for used in measured.memory),
        host_before_bytes=measured.opened[-1].host_base,
        device_bytes=max(used.device for used in measured.memory),
    )


def _rates(measured: Measured, batch: int) -> Rates:
    def mean(rounds: Sequence[Nanoseconds]) -> float | None:
        return rounded(batch * 1e9 / float(np.concatenate(list(rounds)).mean()), 4) if rounds else None

    pairs = zip(measured.scope("captured_at"), measured.scope("stream"), strict=True)
    delivered = [captured + age for captured, age in pairs if len(age) > 1]
    return Rates(
        serial=mean(measured.scope("engine")),
        overlap=mean(measured.scope("overlap")),
        stream=rounded(statistics.fmean(map(rate, delivered)), 4) if delivered else None,
    )


def work_of(row: Row, path: Path, peak: dict[str, float], board: BoardSpec | None) -> Work | None:
    """Return a call's multiply-adds, the weights, and the share of the peak that the scope compute reaches.

    None without a graph, or without onnx. The peak is the measured one for a CPU engine, and the board's published one
    for a plan. Layers count at the peak of their own precision: the share is the time that the arithmetic would take
    there, in the time that it took.
    """
    if importlib.util.find_spec("onnx") is None:  # a Jetson needs no onnx to run plans
        return None
    from pix2pix_edge.export.graph.graph import Graph
    from pix2pix_edge.export.inspect import count

    try:
        graph_file = path if path.suffix == ".onnx" else _graph_of(path)
        if graph_file is None:
            return None
        graph = Graph.load(graph_file)
        layers = count(graph)
    except ToolkitError:
        return None
    # a plan for several images at once may come from a graph for one
    images = row.batch / graph.shapes()[graph.input.name][0]
    bf16 = "bf16" in row.precision
    multiply_adds: Counter[str] = Counter()  # by precision
    for layer in layers:
        kind = "bf16" if bf16 and layer.precision == "fp32" else layer.precision
        multiply_adds[kind] += round(layer.multiply_adds * images)
    found = Work(multiply_adds=multiply_adds.total(), weight_bytes=sum(layer.weight_bytes for layer in layers))
    if path.suffix == ".plan":
        peak = board.peak if board else {}
    compute = row.scopes.get("compute")
    multiply_adds = +multiply_adds  # without the precisions in which nothing is multiplied
    if not compute or not compute.p50_ms or not multiply_adds.keys() <= peak.keys():
        return found
    at_peak = sum(count / peak[kind] for kind, count in multiply_adds.items())
    return replace(
        found,
        at_peak_ms=rounded(at_peak * 1e3, 4),
        share_of_peak=rounded(at_peak * 1e3 / compute.p50_ms, 3),
        peak=f"published for {board.name}" if board and path.suffix == ".plan" else "measured here",
    )


def _graph_of(plan: Path) -> Path | None:
    source = (read_sidecar(plan) or Sidecar()).source.file
    graph = plan.with_name(source) if source else None
    return graph if graph and graph.suffix == ".onnx" and graph.is_file() else None


def power_of(measured: Measured, meter: Meter, idle_watts: float | None, batch: int) -> Power | None:
    """Return mean power and energy per image over the engine's own turns; None where nothing measured it."""
    watts = mean_watts(meter.readings, measured.windows)
    if watts is None:
        return None
    seconds = sum(end - start for start, end in measured.windows) / 1e9 / (measured.windowed_calls * batch)
    above = None if idle_watts is None else rounded((watts - idle_watts) * seconds * 1e3, 4)
    return Power(watts=rounded(watts, 4), energy_mj=rounded(watts * seconds * 1e3, 4), above_idle_mj=above)
