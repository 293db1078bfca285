"""A row of the report from what was measured of one engine."""

from __future__ import annotations

import importlib.util
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.boards import Board
from benchmarks.interleave import Nanoseconds
from benchmarks.measure import Measured, Run
from benchmarks.power import Meter, mean_watts
from benchmarks.schema import Row, interval_json, rounded, scope_json
from benchmarks.summary import early_stopping_estimate, paired_ratio, rate
from runtime.errors import ToolkitError
from runtime.files import sha256_of
from runtime.frame import STAGES
from runtime.sidecar import read_sidecar

SCOPES = ("compute", "engine", "stream", "overlap", "submit", "cpu")
AGES = 300
"""Frames that the frame-age plot shows: the last ones."""


def row_json(measured: Measured, run: Run, fidelity: dict[str, Any] | None) -> Row:
    """Return the row (docs/report-schema.md), without work and power; whatever was not measured is left out."""
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
    if path.suffix != ".plan":
        for name in ("engine", "compute", "overlap", "cpu"):
            if name in row["scopes"]:
                at_equal_speed(row["scopes"][name], run.reference_json)
    if not row["scopes"].get("engine"):
        return row
    row["frames_per_second"] = _rates(measured, row["batch"])
    estimate = early_stopping_estimate(np.concatenate(measured.scope("engine")) / 1e6)
    if estimate is not None:
        row["p90_bound_ms"] = rounded(estimate)
    if stream := measured.scope("stream"):
        row["stream"] = {
            "stages_ms": {stage: rounded(_median_ms(measured.scope(stage))) for stage in STAGES},
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


def at_equal_speed(scope: dict[str, Any], work: dict[str, Any] | None) -> None:
    """Widen the interval of a scope on the CPU by the error of the reference work.

    A machine that others use too may have become slower by a fifth when the run is repeated, and no run can know that
    of itself. The interval is that of a repetition scaled to the same speed of the machine, which the reference work
    of both runs tells with an error of its own.
    """
    own, other = scope["interval_ms"], work and work["interval_ms"]
    if own and work and other:
        value = scope["p50_ms"]
        error = math.hypot(math.log(own[1] / value), math.log(other[1] / work["p50_ms"]))
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
    """Return multiply-adds, weights, and which share of the peak the compute scope reaches; None without a graph.

    The peak is the measured one for a CPU engine, and the board's published one for a plan. Layers count at the peak
    of their own precision: the share is the time that the arithmetic would take there, in the time that it took.
    """
    graph_file = path if path.suffix == ".onnx" else _graph_of(path)
    if graph_file is None or importlib.util.find_spec("onnx") is None:  # a Jetson needs no onnx to run plans
        return None
    from export.count import count
    from export.graph import Graph

    try:
        layers = count(Graph.load(graph_file))
    except ToolkitError:
        return None
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
    source = (read_sidecar(plan) or {}).get("source", {}).get("file")
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
