"""Measure the streaming loop against the bare engine: throughput, added latency, freshness, and what it leaves behind.

python -m benchmarks stream --engine facades.int8.cpu.onnx --out reports/stream
python -m benchmarks stream --engine facades.int8.cpu.onnx --out reports/stream --seconds 600 --frames 20000
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pix2pix_edge.benchmarks.machine.description import Machine, State, command_line, describe_machine, machine_state
from pix2pix_edge.benchmarks.measure.interleave import Budget, Timings
from pix2pix_edge.benchmarks.measure.streams import (
    Ages,
    LongRun,
    engine_ns,
    live,
    long_run,
    throughput,
    write_clip,
)
from pix2pix_edge.benchmarks.report.reader import write
from pix2pix_edge.benchmarks.report.summary import Floats, paired_ratio, samples_needed
from pix2pix_edge.benchmarks.report.table import Table, markdown_table
from pix2pix_edge.runtime.cli import add_backend, add_engine, add_out
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import InputError, require
from pix2pix_edge.runtime.files import written_beside

FORMAT = "pix2pix-edge-stream/1"
TURN_S = 1.0
OVERLOAD = 3.0
"""How much faster than the engine the source of the overloaded run is."""

CALM_FRAMES = 1100
"""The run at half the rate is over when it has so many: enough for a p99, with some to spare for those dropped."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_engine(parser)
    add_out(parser, "folder for stream.json and frame_age.png")
    add_backend(parser)
    add = parser.add_argument
    add("--seconds", type=float, default=20.0, metavar="S",
        help="length of the overloaded run; the one at half the engine's rate ends as soon as it has the"
        f" {CALM_FRAMES} frames that a p99 needs (default: %(default)g)")  # fmt: skip
    add("--frames", type=int, default=1000, metavar="N", help="length of the stored run (default: %(default)s)")
    add("--rounds", type=int, default=12, metavar="N", help="turns of the throughput run (default: %(default)s)")


@dataclass(frozen=True)
class Requirement:
    """One number: what it is, its value, its limit as text, and whether it keeps to it (None: it has no limit)."""

    what: str
    value: str
    limit: str = ""
    kept: bool | None = None


@dataclass(frozen=True, kw_only=True)
class AgesKept:
    """A live run as the report keeps it: milliseconds, rounded to a hundredth, so that the file stays small."""

    fps: float
    dropped: dict[str, int]
    delivered_at_ms: list[float] = field(default_factory=list)
    age_ms: list[float] = field(default_factory=list)
    engine_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class StreamReport:
    """What this command writes. throughput: contender -> scope -> one value of nanoseconds, or a count, a round."""

    format: str = FORMAT
    engine: dict[str, str]
    command: str
    machine: Machine
    state: State
    rows: list[Requirement]
    stored: LongRun
    throughput: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    half_rate: AgesKept | None = None
    overload: AgesKept | None = None


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
        shape = engine.input.shape
        clip = write_clip(Path(temporary), *shape[1:3])
        timings: dict[str, Timings] = {}
        _say(f"throughput, {args.rounds} rounds of bare engine, null and webm")
        throughput(engine, clip, Path(temporary), Budget(args.rounds, TURN_S, TURN_S), timings)
        bare_ns = engine_ns(engine, np.zeros(shape, np.uint8), TURN_S)
        calm_s = min(args.seconds, max(1.0, CALM_FRAMES * 2 * bare_ns / 1e9))  # threads take their time to start
        _say(f"latency at half the engine's rate, {calm_s:.0f} s")
        calm = live(engine, 0.5e9 / bare_ns, calm_s)
        _say(f"freshness at {OVERLOAD:g} times the engine's rate, {args.seconds:g} s")
        overload = live(engine, OVERLOAD * 1e9 / bare_ns, args.seconds)
        _say(f"{args.frames} stored frames")
        stored = long_run(engine, clip, args.frames)
    for name, found in timings.items():
        if found.error:
            raise InputError(f"the run {name} failed: {found.error}")
    stored = replace(stored, threads_after_close=threading.active_count())
    rows = [*throughput_rows(timings), *latency_rows(calm), *freshness_rows(overload), *stored_rows(stored)]
    report = StreamReport(
        engine=about,
        command=command_line(),
        machine=describe_machine(),
        state=state,
        rows=rows,
        stored=stored,
        throughput={name: {k: [int(v[0]) for v in r] for k, r in t.scopes.items()} for name, t in timings.items()},
        half_rate=_kept(calm),
        overload=_kept(overload),
    )
    write(report, args.out / "stream.json")
    with written_beside(args.out / "frame_age.png") as path:
        plot_ages(overload, path)
    print(markdown_table(requirement_table(rows)))
    print(f"wrote {args.out / 'stream.json'} and {args.out / 'frame_age.png'}")
    return 0


def throughput_rows(timings: dict[str, Timings]) -> list[Requirement]:
    """Return the rate of the stream as a share of the bare engine's, and what each costs per frame."""
    rows = []
    for name, least in (("null", 97), ("webm", 90)):
        share = 100 * float(np.median(_flat(timings["bare"], "frame") / _flat(timings[name], "frame")))
        interval = paired_ratio(timings[name]["frame"], timings["bare"]["frame"])
        spread = f" ({100 / interval.high:.1f} to {100 / interval.low:.1f})" if interval else ""
        what = f"throughput, video to {name}, of the bare engine"
        rows.append(Requirement(what, f"{share:.1f} %{spread}", f">= {least} %", share >= least))
    for scope, unit, scale in (("cpu", "ms", 1e6), ("switches", "", 1)):
        values = [f"{name} {np.median(_flat(timings[name], scope)) / scale:.1f}" for name in ("bare", "null", "webm")]
        what = "processor time per frame" if scope == "cpu" else "context switches per frame"
        rows.append(Requirement(what, ", ".join(values) + f" {unit}".rstrip()))
    return rows


def _flat(timings: Timings, scope: str) -> Floats:
    return np.concatenate(timings[scope]).astype(float)


def latency_rows(calm: Ages) -> list[Requirement]:
    """Return what the stream adds to the engine's latency: from capture to delivery, less the engine's own time."""
    added = (calm.age - calm.engine) / 1e6
    return [
        _percentile_row(f"latency added at {calm.fps:.1f} fps", added, p, ".2f", "ms", most)
        for p, most in ((50, 2), (99, 8))
    ]


def _percentile_row(what: str, values: Floats, p: int, form: str, unit: str, most: float) -> Requirement:
    """Return a percentile against its limit; unjudged where too few frames lie beyond it."""
    what, limit = f"{what}, p{p} of {len(values)}", f"<= {most:g} {unit}"
    if len(values) < (needed := samples_needed(p)):
        return Requirement(what, f"needs {needed} frames", limit)
    value = float(np.percentile(values, p))
    return Requirement(what, f"{value:{form}} {unit}", limit, value <= most)


FLAT = 10
"""Percent that the age may grow: a queue that fills would double it within a second."""


def freshness_rows(overload: Ages) -> list[Requirement]:
    """Return the age of frames of a source that is too fast, and how it changes from the first third to the last."""
    times = overload.age / float(np.median(overload.engine))
    # against the engine's latency at that time, since a machine that gets slower makes everything older
    thirds = [float(np.median(t)) for t in np.array_split(overload.age / overload.engine, 3)]
    growth = 100 * (thirds[2] / thirds[0] - 1)
    return [
        _percentile_row(f"age at {overload.fps:.1f} fps in, of the engine's latency", times, 99, ".2f", "×", 2.2),
        Requirement("age, last third against first", f"{growth:+.1f} %", f"<= {FLAT} %", growth <= FLAT),
        Requirement("dropped", ", ".join(f"{count} {cause}" for cause, count in overload.dropped.items()) or "none"),
    ]  # fmt: skip


def stored_rows(stored: LongRun) -> list[Requirement]:
    """Return what a long video lost, and what it left behind."""
    wrong = stored.lost + stored.out_of_order
    threads, files = stored.threads_after_close, stored.files_left
    rows = [
        Requirement(f"lost or out of order, of {stored.frames} stored frames", str(wrong), "0", wrong == 0),
        Requirement("threads after close", str(threads), "1", threads == 1),
        Requirement("files left open", str(files), "0", files <= 0),
    ]
    if stored.growth_bytes is not None:
        growth = stored.growth_bytes / 1e6
        rows.append(Requirement("memory grown since frame 500", f"{growth:+.1f} MB", "<= 10 MB", growth <= 10))
    return rows


def requirement_table(rows: list[Requirement]) -> Table:
    """Return the rows as a table; what misses its limit says so."""
    cells = [[row.what, row.value + (" (missed)" if row.kept is False else ""), row.limit] for row in rows]
    return Table("The stream", ["", "measured", "limit"], cells)


def _kept(ages: Ages) -> AgesKept:
    columns = {"delivered_at_ms": ages.delivered_at, "age_ms": ages.age, "engine_ms": ages.engine}
    values = {name: [round(v / 1e6, 2) for v in column.tolist()] for name, column in columns.items()}
    return AgesKept(fps=ages.fps, dropped=ages.dropped, **values)


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
