"""A row of the report from what was measured of one engine."""

from __future__ import annotations

import importlib.util
import math
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_edge.benchmarks.machine.boards import Board
from pix2pix_edge.benchmarks.machine.power import Meter, mean_watts
from pix2pix_edge.benchmarks.measure.engines import Measured, Run
from pix2pix_edge.benchmarks.measure.interleave import Nanoseconds
from pix2pix_edge.benchmarks.report.schema import Row, interval_json, rounded, scope_json
from pix2pix_edge.benchmarks.report.summary import NORMAL, early_stopping_estimate, paired_ratio, rate
from pix2pix_edge.runtime.errors import ToolkitError
from pix2pix_edge.runtime.files import sha256_of
from pix2pix_edge.runtime.frame import STAGES
from pix2pix_edge.runtime.sidecar import Sidecar, read_sidecar

SCOPES = ("compute", "engine", "stream", "overlap", "submit", "cpu")
AGES = 300
"""Frames that the frame-age plot shows: the last ones."""


SHARED_DRIFT = 0.04
"""Standard deviation between the medians of runs on a host that others use too, as a logarithm: 0.036 for the reference
work in 40 runs of 46 s within half an hour on our host. `benchmarks trials` prints it of an engine."""

SPELL_S = 60.0
"""So long one state of such a host lasts, at most: longer runs meet several, and their medians differ less."""


def row_json(measured: Measured, run: Run, fidelity: dict[str, Any] | None, *, shared: bool) -> Row:
    """Return the row (docs/report-schema.md), without work and power; whatever was not measured is left out.

    shared: whether the CPU is a virtual machine's.
    """
    path = measured.target.path
    opened = measured.opened[-1] if measured.opened else {}
    describe = dict(measured.describe)
    row: Row = {
        "name": measured.label,
        "from": "run",
        "file": path.name,
        "error": measured.error,
        "engine": describe.pop("engine", "TensorRT" if path.suffix == ".plan" else ""),
        "precision": describe.pop("precision", ""),
        "describe": describe,
        "batch": opened.get("shape", [1])[0],
    }
    if path.is_file():
        row |= {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    if fidelity:
        row["fidelity"] = fidelity
    if measured.first_ns:
        row["load_ms"] = [rounded(o["load_ns"] / 1e6, 4) for o in measured.opened]
        row["first_ms"] = [rounded(ns / 1e6, 4) for ns in measured.first_ns]
    row["scopes"] = {name: scope_json(rounds) for name in SCOPES if (rounds := measured.scope(name))}
    if shared and path.suffix != ".plan" and measured.windows:
        seconds = (measured.windows[-1][1] - measured.windows[0][0]) / 1e9
        for scope in row["scopes"].values():
            widen_for_neighbours(scope, seconds)
    if not row["scopes"].get("engine"):
        return row
    row["frames_per_second"] = _rates(measured, row["batch"])
    estimate = early_stopping_estimate(np.concatenate(measured.scope("engine")) / 1e6)
    if estimate is not None:
        row["p90_bound_ms"] = rounded(estimate)
    if stream := measured.scope("stream"):
        row["stream"] = {
            "stages_ms": {stage: rounded(_median_ms(measured.scope(f"{stage} stage"))) for stage in STAGES},
            "ages_ms": [rounded(age / 1e6, 4) for age in np.concatenate(stream)[-AGES:].tolist()],
        }
    if measured.memory:
        row["memory"] = {
            "host_peak_bytes": max(m["host_peak"] for m in measured.memory),
            "host_before_bytes": opened["host_base"],
            "device_bytes": max(m["device"] for m in measured.memory),
        }
    base = next((m for m in run.engines if m.scope("engine")), measured)
    ratio = paired_ratio(measured.scope("engine"), base.scope("engine"))
    if base is not measured and ratio:
        row["ratio"] = {"to": base.label, **(interval_json(ratio) or {})}
    return row


def widen_for_neighbours(scope: dict[str, Any], seconds: float) -> None:
    """Widen the interval of a scope by what a host's other users may do until the run, of so many seconds, is repeated.

    A run that falls into one state of its host knows nothing of the others, so this must come from elsewhere.
    """
    if scope["interval_ms"]:
        value = scope["p50_ms"]
        between_runs = SHARED_DRIFT * math.sqrt(SPELL_S / max(SPELL_S, seconds))
        neighbours = NORMAL * math.sqrt(2) * between_runs
        error = math.hypot(math.log(scope["interval_ms"][1] / value), neighbours)
        scope["interval_ms"] = [rounded(value * math.exp(-error)), rounded(value * math.exp(error))]


def _median_ms(rounds: Sequence[Nanoseconds]) -> float:
    return float(np.median(np.concatenate(list(rounds)))) / 1e6


def _rates(measured: Measured, batch: int) -> dict[str, float]:
    """Images a second: one after the other, with every slot busy, and delivered by the stream of 30 a second."""
    found = {"serial": measured.scope("engine"), "overlap": measured.scope("overlap")}
    rates = {
        name: rounded(batch * 1e9 / float(np.concatenate(rounds).mean()), 4) for name, rounds in found.items() if rounds
    }
    pairs = zip(measured.scope("captured_at"), measured.scope("stream"), strict=True)
    delivered = [captured + age for captured, age in pairs if len(age) > 1]
    if delivered:
        rates["stream"] = rounded(statistics.fmean(rate(stamps) for stamps in delivered), 4)
    return rates


def work_json(row: Row, path: Path, peak: dict[str, float], board: Board | None) -> dict[str, Any] | None:
    """Return a call's multiply-adds, the weights, and the share of the peak that the compute scope reaches.

    None without a graph.

    The peak is the measured one for a CPU engine, and the board's published one for a plan. Layers count at the peak
    of their own precision: the share is the time that the arithmetic would take there, in the time that it took.
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
    images = row["batch"] / graph.shapes()[graph.input.name][0]
    layers = [replace(layer, multiply_adds=round(layer.multiply_adds * images)) for layer in layers]
    found: dict[str, Any] = {
        "multiply_adds": sum(layer.multiply_adds for layer in layers),
        "weight_bytes": sum(layer.weight_bytes for layer in layers),
    }
    if path.suffix == ".plan":
        peak = board.peak if board else {}
    compute = row["scopes"].get("compute")
    bf16 = "bf16" in row["precision"]
    kinds = [("bf16" if bf16 and layer.precision == "fp32" else layer.precision) for layer in layers]
    if compute and all(kind in peak for kind, layer in zip(kinds, layers, strict=True) if layer.multiply_adds):
        at_peak = sum(la.multiply_adds / peak[kind] for kind, la in zip(kinds, layers, strict=True) if la.multiply_adds)
        found["at_peak_ms"] = rounded(at_peak * 1e3, 4)
        found["share_of_peak"] = rounded(at_peak * 1e3 / compute["p50_ms"], 3)
        found["peak"] = f"published for {board.name}" if board and path.suffix == ".plan" else "measured here"
    return found


def _graph_of(plan: Path) -> Path | None:
    source = (read_sidecar(plan) or Sidecar()).source.file
    graph = plan.with_name(source) if source else None
    return graph if graph and graph.suffix == ".onnx" and graph.is_file() else None


def power_json(measured: Measured, meter: Meter, idle_watts: float | None, batch: int) -> dict[str, Any] | None:
    """Return mean power and energy per image over the engine's own turns; None where nothing measured it."""
    watts = mean_watts(meter.readings, measured.windows)
    if watts is None:
        return None
    seconds = sum(end - start for start, end in measured.windows) / 1e9 / (measured.windowed_calls * batch)
    found = {"watts": rounded(watts, 4), "energy_mj": rounded(watts * seconds * 1e3, 4)}
    if idle_watts is not None:
        found["above_idle_mj"] = rounded((watts - idle_watts) * seconds * 1e3, 4)
    return found
