"""Measure the streaming loop against the bare engine: throughput, added latency, freshness, and what it leaves behind.

python -m benchmarks stream --engine facades.int8.cpu.onnx --out reports/stream
python -m benchmarks stream --engine facades.int8.cpu.onnx --out reports/stream --seconds 600 --frames 20000
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_edge.benchmarks.machine.description import command_line, describe_machine, machine_state
from pix2pix_edge.benchmarks.measure.interleave import Plan, Samples
from pix2pix_edge.benchmarks.measure.streams import Ages, engine_ns, live, long_run, throughput, write_clip
from pix2pix_edge.benchmarks.report.schema import STREAM
from pix2pix_edge.benchmarks.report.summary import paired_ratio, samples_needed
from pix2pix_edge.runtime.cli import BACKENDS
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import InputError, require
from pix2pix_edge.runtime.files import written_beside

TURN_S = 1.0
OVERLOAD = 3.0
"""How much faster than the engine the source of the freshness trial is."""

CALM_FRAMES = 1100
"""The latency trial is over when it has so many: enough for a p99, with some to spare for those that are dropped."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add = parser.add_argument
    add("--engine", required=True, type=Path, metavar="FILE", help=".onnx (CPU) or .plan (TensorRT)")
    add("--out", required=True, type=Path, metavar="DIR", help="folder for stream.json and frame_age.png")
    add("--seconds", type=float, default=20.0, metavar="S",
        help="length of the overload trial; the one at half the engine's rate ends as soon as it has the"
        f" {CALM_FRAMES} frames that a p99 needs (default: %(default)g)")  # fmt: skip
    add("--frames", type=int, default=1000, metavar="N", help="length of the stored trial (default: %(default)s)")
    add("--rounds", type=int, default=12, metavar="N", help="turns of the throughput trial (default: %(default)s)")
    add("--backend", choices=BACKENDS, default="auto", help="what runs an .onnx (default: %(default)s)")
    add("--threads", type=int, metavar="N", help="CPU threads of an .onnx (default: one per core)")


@dataclass(frozen=True)
class Row:
    """One number: what it is, its value, its limit as text, and whether it keeps to it (None: it has no limit)."""

    what: str
    value: str
    limit: str = ""
    kept: bool | None = None


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the report."""
    if not 1 <= args.seconds <= 86400 or args.frames < 2 or args.rounds < 1:
        raise InputError("--seconds must be between 1 and 86400, --frames 2 or more, --rounds 1 or more")
    require("matplotlib", "benchmarks", "the plot of the frames' age")
    import cv2

    state = machine_state()
    with (
        open_engine(args.engine, backend=args.backend, threads=args.threads) as engine,
        tempfile.TemporaryDirectory() as temporary,
    ):
        about = engine.describe()
        if engine.on_cpu:  # an engine on the CPU wants every core, as in runtime/run.py
            cv2.setNumThreads(1)
        size = engine.input.shape[1]
        clip = write_clip(Path(temporary), size)
        samples: dict[str, Samples] = {}
        _say(f"throughput, {args.rounds} rounds of bare engine, null and mp4")
        throughput(engine, clip, Path(temporary), Plan(args.rounds, TURN_S, TURN_S), samples)
        bare_ns = engine_ns(engine, np.zeros((1, size, size, 3), np.uint8), TURN_S)
        calm_s = min(args.seconds, CALM_FRAMES * 2 * bare_ns / 1e9)
        _say(f"latency at half the engine's rate, {calm_s:.0f} s")
        calm = live(engine, 0.5e9 / bare_ns, calm_s)
        _say(f"freshness at {OVERLOAD:g} times the engine's rate, {args.seconds:g} s")
        overload = live(engine, OVERLOAD * 1e9 / bare_ns, args.seconds)
        _say(f"{args.frames} stored frames")
        stored = long_run(engine, clip, args.frames)
    stored["threads_after_close"] = threading.active_count()
    for name, sample in samples.items():
        if sample.error:
            raise InputError(f"the trial {name} failed: {sample.error}")
    rows = [*throughput_rows(samples), *latency_rows(calm), *freshness_rows(overload), *stored_rows(stored)]
    report = {
        "format": STREAM,
        "engine": about,
        "command": command_line(),
        "machine": describe_machine(),
        "state": state,
        "rows": [vars(row) for row in rows],
        "throughput": {name: {k: [int(v[0]) for v in r] for k, r in s.scopes.items()} for name, s in samples.items()},
        "half_rate": _ages_json(calm),
        "overload": _ages_json(overload),
        "stored": stored,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    with written_beside(args.out / "stream.json") as path:
        path.write_text(json.dumps(report, indent=1) + "\n")
    with written_beside(args.out / "frame_age.png") as path:
        plot_ages(overload, path)
    print(table(rows))
    print(f"wrote {args.out / 'stream.json'} and {args.out / 'frame_age.png'}")
    return 0


def throughput_rows(samples: dict[str, Samples]) -> list[Row]:
    """Return the rate of the stream as a share of the bare engine's, and what each costs per frame."""
    rows = []
    for name, least in (("null", 97), ("mp4", 90)):
        share = 100 * float(np.median(_flat(samples["bare"], "frame") / _flat(samples[name], "frame")))
        interval = paired_ratio(samples[name]["frame"], samples["bare"]["frame"])
        spread = f" ({100 / interval.high:.1f} to {100 / interval.low:.1f})" if interval else ""
        rows.append(Row(f"throughput, video to {name}, of the bare engine", f"{share:.1f} %{spread}", f">= {least} %",
                        share >= least))  # fmt: skip
    for scope, unit, scale in (("cpu", "ms", 1e6), ("switches", "", 1)):
        values = [f"{name} {np.median(_flat(samples[name], scope)) / scale:.1f}" for name in ("bare", "null", "mp4")]
        what = "processor time per frame" if scope == "cpu" else "context switches per frame"
        rows.append(Row(what, ", ".join(values) + f" {unit}".rstrip()))
    return rows


def _flat(samples: Samples, scope: str) -> np.ndarray[Any, Any]:
    return np.concatenate(samples[scope]).astype(float)


def latency_rows(calm: Ages) -> list[Row]:
    """Return what the stream adds to the engine's latency: from capture to delivery, less the engine's own time."""
    added = (calm.age - calm.engine) / 1e6
    return [
        _percentile_row(f"latency added at {calm.fps:.1f} fps", added, p, ".2f", "ms", most)
        for p, most in ((50, 2), (99, 8))
    ]


def _percentile_row(what: str, values: np.ndarray[Any, Any], p: int, form: str, unit: str, most: float) -> Row:
    """Return a percentile against its limit; unjudged where too few frames lie beyond it."""
    what, limit = f"{what}, p{p} of {len(values)}", f"<= {most:g} {unit}"
    if len(values) < (needed := samples_needed(p)):
        return Row(what, f"needs {needed} frames", limit)
    value = float(np.percentile(values, p))
    return Row(what, f"{value:{form}} {unit}", limit, value <= most)


FLAT = 10
"""Percent that the age may grow: a queue that fills would double it within a second."""


def freshness_rows(overload: Ages) -> list[Row]:
    """Return the age of frames of a source that is too fast, and how it changes from the first third to the last."""
    times = overload.age / float(np.median(overload.engine))
    # against the engine's latency at that time, since a machine that gets slower makes everything older
    thirds = [float(np.median(t)) for t in np.array_split(overload.age / overload.engine, 3)]
    growth = 100 * (thirds[2] / thirds[0] - 1)
    return [
        _percentile_row(f"age at {overload.fps:.1f} fps in, of the engine's latency", times, 99, ".2f", "×", 2.2),
        Row("age, last third against first", f"{growth:+.1f} %", f"<= {FLAT} %", growth <= FLAT),
        Row("dropped", ", ".join(f"{count} {cause}" for cause, count in overload.dropped.items()) or "none"),
    ]  # fmt: skip


def stored_rows(stored: dict[str, Any]) -> list[Row]:
    """Return what a long video lost, and what it left behind."""
    wrong = stored["lost"] + stored["out_of_order"]
    threads, files = stored["threads_after_close"], stored["files_left"]
    rows = [
        Row(f"lost or out of order, of {stored['frames']} stored frames", str(wrong), "0", wrong == 0),
        Row("threads after close", str(threads), "1", threads == 1),
        Row("files left open", str(files), "0", files <= 0),
    ]
    if stored["growth_bytes"] is not None:
        growth = stored["growth_bytes"] / 1e6
        rows.append(Row("memory grown since frame 500", f"{growth:+.1f} MB", "<= 10 MB", growth <= 10))
    return rows


def table(rows: list[Row]) -> str:
    """Return the rows as aligned text."""
    widths = [max(len(getattr(row, key)) for row in rows) for key in ("what", "value", "limit")]
    marks = {None: "", True: "kept", False: "MISSED"}
    lines = []
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip((row.what, row.value, row.limit), widths, strict=True))
        lines.append("  ".join([*cells, marks[row.kept]]).rstrip())
    return "\n".join(lines)


def _ages_json(ages: Ages) -> dict[str, Any]:
    """Return milliseconds, rounded to a hundredth, so that the file stays small."""
    columns = {"delivered_at_ms": ages.delivered_at, "age_ms": ages.age, "engine_ms": ages.engine}
    values = {name: [round(v / 1e6, 2) for v in column.tolist()] for name, column in columns.items()}
    return {"fps": ages.fps, "dropped": ages.dropped, **values}


def plot_ages(ages: Ages, path: Path) -> None:
    """Draw each frame's age over time, with the engine's latency and 2.2 times that."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    engine = float(np.median(ages.engine)) / 1e6
    figure, axes = pyplot.subplots(figsize=(9, 3.6), layout="constrained")
    axes.plot(
        ages.delivered_at / 1e9, ages.age / 1e6, ".", markersize=2, color="#1f6f8b", label="frame age at delivery"
    )
    axes.axhline(engine, color="#444444", linewidth=1, label=f"engine latency, median ({engine:.1f} ms)")
    axes.axhline(2.2 * engine, color="#c0392b", linewidth=1, linestyle="--", label="2.2 × engine latency")
    axes.set(xlabel="time [s]", ylabel="age [ms]", ylim=(0, max(3 * engine, float(ages.age.max()) / 1e6 * 1.05)),
             title=f"A source of {ages.fps:.0f} fps, {OVERLOAD:g} times what the engine can")  # fmt: skip
    axes.legend(loc="upper right", fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
