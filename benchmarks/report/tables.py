"""The report's tables, for Markdown, HTML and the documentation alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TypeVar

from pix2pix_edge.benchmarks.report.schema import Report, Row, Scope
from pix2pix_edge.benchmarks.report.summary import PERCENTILES
from pix2pix_edge.benchmarks.report.table import Table, number
from pix2pix_edge.runtime.errors import as_typed

T = TypeVar("T")
NONE = "–"

SCOPES = {
    "compute": "the session or GPU alone",
    "engine": "host to host: an image in, its translation out",
    "stream": "capture to sink, of a live picture of 640×480 at 30 a second",
    "overlap": "from one result to the next, with every slot of the engine busy",
    "submit": "until submit() returns",
    "cpu": "time of all CPU cores that the engine's process used meanwhile",
}
"""What each scope measures."""


def latency(row: Row) -> str:
    """Median of the scope engine (compute, where there is no other) with its interval: "42.1 (41.5 to 42.8)"."""
    scope = row.scopes.get("engine") or row.scopes.get("compute")
    if not scope:
        return NONE
    return number(scope.p50_ms) + (f" ({_interval(scope)})" if scope.interval_ms else "")


def psnr(row: Row) -> str:
    """Mean PSNR to the reference in dB; "reference" for the reference itself, "equal" for equal pictures."""
    fidelity = row.fidelity
    if not fidelity:
        return NONE
    if fidelity.itself:
        return "reference"
    found = "equal" if fidelity.max_difference == 0 else f"{fidelity.psnr_db:.1f}"
    return f"{found} (sidecar)" if fidelity.from_sidecar else found


def ratio(row: Row) -> str:
    """Speed as a multiple of the first engine's: "2.31× (2.28 to 2.35)"."""
    found = row.ratio
    return f"{1 / found.value:.2f}× ({1 / found.high:.2f} to {1 / found.low:.2f})" if found else NONE


def _interval(scope: Scope) -> str:
    return f"{number(scope.interval_ms[0])} to {number(scope.interval_ms[1])}" if scope.interval_ms else NONE


def _mega(value: float | None) -> str:
    return number(value / 1e6) if value else NONE


def _share(value: float | None, form: str = ".0%") -> str:
    return NONE if value is None else f"{value:{form}}"


def _middle(values: Sequence[float]) -> str:
    return number(statistics.median(values)) if values else NONE


def _scope(row: Row, scope: str, percent: int = 50) -> str:
    found = row.scopes.get(scope)
    return number(found.percentile(percent) if found else None)


def _worst(row: Row) -> str:
    fidelity = row.fidelity
    if not fidelity or fidelity.psnr_worst_db is None or fidelity.max_difference == 0:
        return NONE
    return f"{fidelity.psnr_worst_db:.1f} ({fidelity.worst_image})"


def _table(heading: str, lines: Sequence[T], columns: dict[str, Callable[[T], str]], notes: list[str]) -> Table | None:
    """Build a table without the columns that no line fills; None without a single line."""
    cells = {name: [cell(line) for line in lines] for name, cell in columns.items()}
    kept = [name for i, name in enumerate(cells) if i == 0 or any(text != NONE for text in cells[name])]
    if not lines or len(kept) < 2:
        return None
    return Table(heading, kept, [list(r) for r in zip(*(cells[name] for name in kept), strict=True)], notes)


def main_table(report: Report) -> Table:
    """Speed with fidelity beside it: the table that people share."""
    rows = report.engines
    single_stream = report.profile.name.startswith("single-stream")
    columns: dict[str, Callable[[Row], str]] = {
        "engine": lambda row: row.name,
        "latency p50, ms": latency,
        "speed": ratio,
        "PSNR, dB": psnr,
        "SSIM": lambda row: f"{row.fidelity.ssim:.4f}" if row.fidelity else NONE,
        "p90": lambda row: _scope(row, "engine", 90),
        "p95": lambda row: _scope(row, "engine", 95),
        "p99": lambda row: _scope(row, "engine", 99),
        "p90 bound": lambda row: number(row.p90_bound_ms if single_stream else None),
        "images/s": lambda row: number(row.frames_per_second.overlap or row.frames_per_second.serial),
        "precision": lambda row: row.precision or NONE,
        "runs in": lambda row: row.engine or NONE,
    }
    notes = [
        "Latency: host to host. In brackets: where another run of the same length lands, 95 times in 100, as far as the"
        " rounds of this one tell."
    ]
    if report.machine.virtual:
        notes[0] += " This machine is virtual: what its neighbours do between two runs, no run can tell."
    if base := next((row.ratio.to for row in rows if row.ratio), None):
        notes.append(
            f"Speed: as a multiple of {base}, from rounds that both shared, so that the machine's drift cancels."
        )
    if single_stream:
        notes.append("p90 bound: the 90th percentile of all images that could come is below it, with 99 % confidence.")
    notes += _fidelity_notes(rows)
    notes += [
        f"{row.name}: computation alone, transfers were left out."
        for row in rows
        if "compute" in row.scopes and "engine" not in row.scopes
    ]
    notes += [
        f"{row.name}: {row.batch} images in a call; latency, multiply-adds and CPU time are of a call."
        for row in rows
        if row.batch > 1
    ]
    notes += _left_out(rows)
    failed = [f"{row.name}: {row.error}" for row in rows if row.error]
    heading = "Speed and fidelity"
    return _table(heading, rows, columns, notes + failed) or Table(heading, ["engine"], [], failed)


def _fidelity_notes(rows: Sequence[Row]) -> list[str]:
    """Say of which engines the fidelity was not measured here, and why."""
    found = [
        f"{row.name}: fidelity as its export measured it, on other images, since its FP32 graph is not beside it."
        for row in rows
        if row.fidelity and row.fidelity.from_sidecar
    ]
    unknown = [row.name for row in rows if row.scopes and row.measured_by == "run" and not row.fidelity]
    if unknown:
        found.append(
            f"Fidelity not known: {', '.join(unknown)}. Without their FP32 graph there is nothing to compare with; give"
            " it with --reference."
        )
    return found


def _left_out(rows: Sequence[Row]) -> list[str]:
    """Say which percentiles are missing for want of calls."""
    missing: dict[str, int] = {}
    for row in rows:
        if "engine" in row.scopes:
            missing |= row.scopes["engine"].left_out
    if not missing:
        return []
    listing = ", ".join(f"{name} needs {calls}" for name, calls in missing.items())
    return [f"A percentile is left out where fewer than 10 images lie beyond it ({listing})."]


def detail_tables(report: Report) -> list[Table]:
    """Cost, fidelity, and every scope of every engine."""
    compared = [row for row in report.engines if row.fidelity and not row.fidelity.from_sidecar]
    fidelity: dict[str, Callable[[Row], str]] = {
        "engine": lambda row: row.name,
        "reference": lambda row: row.fidelity.reference if row.fidelity else NONE,
        "images": lambda row: str(row.fidelity.images) if row.fidelity else NONE,
        "PSNR, dB": psnr,
        "worst, dB": _worst,
        "SSIM": lambda row: f"{row.fidelity.ssim:.4f}" if row.fidelity else NONE,
        "largest difference": lambda row: f"{row.fidelity.max_difference} of 255" if row.fidelity else NONE,
    }
    note = "Against the FP32 graph in ONNX Runtime, on the images given with --data."
    tables = (_costs(report), _table("Fidelity", compared, fidelity, [note]), scope_table(report.engines))
    return [table for table in tables if table]


def _costs(report: Report) -> Table | None:
    power = report.power.of if report.power else "board"
    columns: dict[str, Callable[[Row], str]] = {
        "engine": lambda row: row.name,
        "file, MB": lambda row: _mega(row.bytes),
        "multiply-adds, G": lambda row: number(row.work.multiply_adds / 1e9, 4) if row.work else NONE,
        "share of peak": lambda row: _share(row.work.share_of_peak) if row.work else NONE,
        "CPU time, ms": lambda row: _scope(row, "cpu"),
        "load, ms": lambda row: _middle(row.load_ms),
        "first image, ms": lambda row: _middle(row.first_ms),
        "peak memory, MB": lambda row: _mega(row.memory.host_peak_bytes) if row.memory else NONE,
        "device memory, MB": lambda row: _mega(row.memory.device_bytes) if row.memory else NONE,
        f"{power} power, W": lambda row: number(row.power.watts) if row.power else NONE,
        "energy, mJ": lambda row: number(row.power.energy_mj) if row.power else NONE,
        "above idle, mJ": lambda row: number(row.power.above_idle_mj) if row.power else NONE,
    }
    notes = [
        "Share of peak: the time that the multiply-adds would take at the machine's peak, each layer at that of its"
        " precision, over the time that the scope compute took.",
        "CPU time: of all cores together. Energy: for one image. Memory: of the engine's process.",
    ]
    return _table("Cost", report.engines, columns, notes)


def scope_table(rows: Sequence[Row]) -> Table | None:
    """Every scope of every row, with what each scope means."""
    lines = [(row, name, row.scopes[name]) for row in rows for name in SCOPES if name in row.scopes]
    columns: dict[str, Callable[[tuple[Row, str, Scope]], str]] = {
        "engine": lambda line: line[0].name,
        "scope": lambda line: line[1],
        "n": lambda line: str(line[2].n),
        "min": lambda line: number(line[2].min_ms),
        "mean": lambda line: number(line[2].mean_ms),
        "p50": lambda line: number(line[2].p50_ms),
        "repeats within": lambda line: _interval(line[2]),
        **{f"p{p}": lambda line, p=p: number(line[2].percentile(p)) for p in PERCENTILES[1:]},  # type: ignore[misc]
        "max": lambda line: number(line[2].max_ms),
        "variation": lambda line: _share(line[2].variation, ".1%"),
    }
    notes = [f"{name}: {meaning}." for name, meaning in SCOPES.items() if any(line[1] == name for line in lines)]
    return _table("Every scope, ms", lines, columns, notes)


def machine_table(report: Report) -> Table:
    """What the machine is, and what changed during the run."""
    rows = []
    for entry in fields(report.machine):
        if value := getattr(report.machine, entry.name):
            rows.append([entry.name.replace("_", " "), _text(value)])
    before, after = report.state.before, report.state.after
    for entry in fields(before):
        form = ".1%" if entry.name in ("busy", "stolen") else "g"
        both = [getattr(state, entry.name) for state in (before, after)]
        if both != [None, None]:
            title = f"{entry.name.replace('_', ' ')}, before and after"
            rows.append([title, ", ".join(_share(value, form) for value in both)])
    during = report.state.during
    for title, value in (("used by others", during.others), ("stolen", during.stolen)):
        if value is not None:
            rows.append([f"CPU {title} meanwhile", f"{value:.1%}"])
    for precision, value in report.peak.items():
        unit = "GB/s" if precision == "bandwidth" else "G multiply-adds/s"
        rows.append([f"measured peak, {precision}", f"{value / 1e9:.1f} {unit}"])
    if work := report.reference_work:
        low, high = min(work.medians_ms), max(work.medians_ms)
        rows.append(["reference work", f"{number(low)} to {number(high)} ms over the rounds: {work.what}"])
    effort = report.profile
    rows.append(
        [
            "profile",
            f"{effort.name}: {effort.launches} launches, {effort.rounds} rounds,"
            f" turns of {effort.turn_s:g} s after {effort.warm_up_s:g} s of warming up",
        ]
    )
    return Table("The machine", ["", ""], rows)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def commands(report: Report) -> list[str]:
    """Return the commands that measure again, and that compare."""
    return [report.command, as_typed("python -m benchmarks compare OLD/report.json NEW/report.json")]
