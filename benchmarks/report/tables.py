"""The report's tables as rows of text, for Markdown, HTML and the documentation alike."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pix2pix_edge.benchmarks.report.schema import Report, Row, rounded
from pix2pix_edge.benchmarks.report.summary import PERCENTILES

Cell = Callable[[Row], str]

SCOPES = {
    "compute": "the session or GPU alone",
    "engine": "host to host: an image in, its translation out",
    "stream": "capture to sink, of a live picture of 640×480 at 30 a second",
    "overlap": "from one result to the next, with every slot of the engine busy",
    "submit": "until submit() returns",
    "cpu": "time of all CPU cores that the engine's process used meanwhile",
}
"""What each scope measures."""


@dataclass(frozen=True)
class Table:
    """A heading, column names, rows of cells, and lines to read below it. The first column is a name."""

    heading: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str]


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, without an exponent; "–" for None."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    from math import floor, log10

    value = rounded(value, digits)  # 99.96 is 100, not 100.0
    return f"{value:.{max(0, digits - 1 - floor(log10(abs(value))))}f}"


def scope_value(row: Row, scope: str, key: str) -> float | None:
    """Return a number of a scope, or None where it was not measured."""
    value: float | None = row["scopes"].get(scope, {}).get(key)
    return value


def latency(row: Row) -> str:
    """Median of the scope engine (compute, where there is no other) with its interval: "42.1 (41.5 to 42.8)"."""
    scope = row["scopes"].get("engine") or row["scopes"].get("compute")
    if not scope:
        return "–"
    if not scope["interval_ms"]:
        return number(scope["p50_ms"])
    low, high = scope["interval_ms"]
    return f"{number(scope['p50_ms'])} ({number(low)} to {number(high)})"


def psnr(row: Row) -> str:
    """Mean PSNR to the reference in dB; "reference" for the reference itself, "equal" for equal pictures."""
    fidelity = row.get("fidelity")
    if not fidelity:
        return "–"
    if fidelity["itself"]:
        return "reference"
    return "equal" if fidelity["max_difference"] == 0 else f"{fidelity['psnr_db']:.1f}"


def ratio(row: Row) -> str:
    """Speed as a multiple of the first engine's: "2.31× (2.28 to 2.35)"."""
    found = row.get("ratio")
    if not found:
        return "–"
    return f"{1 / found['value']:.2f}× ({1 / found['high']:.2f} to {1 / found['low']:.2f})"


def _get(row: Row, *keys: str) -> Any:
    value: Any = row
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _megabytes(*keys: str) -> Cell:
    return lambda row: "–" if _get(row, *keys) is None else number(_get(row, *keys) / 1e6)


def _plain(*keys: str, digits: int = 3) -> Cell:
    return lambda row: number(_get(row, *keys), digits)


def _median(*keys: str) -> Cell:
    return lambda row: number(statistics.median(_get(row, *keys))) if _get(row, *keys) else "–"


def _share(row: Row) -> str:
    share = _get(row, "work", "share_of_peak")
    return "–" if share is None else f"{share:.0%}"


def _worst(row: Row) -> str:
    fidelity = row.get("fidelity")
    if not fidelity or fidelity["max_difference"] == 0:
        return "–"
    return f"{fidelity['psnr_worst_db']:.1f} ({fidelity['worst_image']})"


def _table(heading: str, rows: list[Row], columns: dict[str, Cell], notes: list[str]) -> Table | None:
    """Build a table without the columns that no row fills; None without a single row."""
    cells = {name: [cell(row) for row in rows] for name, cell in columns.items()}
    kept = [name for i, name in enumerate(cells) if i == 0 or any(text != "–" for text in cells[name])]
    if not rows or len(kept) < 2:
        return None
    return Table(heading, kept, [list(r) for r in zip(*(cells[name] for name in kept), strict=True)], notes)


def main_table(report: Report) -> Table:
    """Speed with fidelity beside it: the table that people share."""
    rows = report["engines"]
    single_stream = report.get("profile", {}).get("name", "").startswith("single-stream")
    percentiles: dict[str, Cell] = {
        f"p{p}": lambda row, p=p: number(scope_value(row, "engine", f"p{p}_ms"))  # type: ignore[misc]
        for p in PERCENTILES[1:]
    }
    columns: dict[str, Cell] = {
        "engine": lambda row: row["name"],
        "latency p50, ms": latency,
        "speed": ratio,
        "PSNR, dB": psnr,
        "SSIM": lambda row: "–" if not row.get("fidelity") else f"{row['fidelity']['ssim']:.4f}",
        **percentiles,
        "p90 bound": (lambda row: number(row.get("p90_bound_ms"))) if single_stream else lambda row: "–",
        "images/s": lambda row: number(
            _get(row, "frames_per_second", "overlap") or _get(row, "frames_per_second", "serial")
        ),
        "precision": lambda row: row["precision"] or "–",
        "runs in": lambda row: row["engine"] or "–",
    }
    notes = [
        "Latency: host to host. In brackets: where another run of the same length lands, 95 times in 100.",
    ]
    if report.get("machine", {}).get("virtual"):
        notes[0] += " This machine is virtual: on its CPU that includes what its neighbours may do meanwhile."
    if any(row.get("ratio") for row in rows):
        base = next(row["ratio"]["to"] for row in rows if row.get("ratio"))
        notes.append(
            f"Speed: as a multiple of {base}, from rounds that both shared, so that the machine's drift cancels."
        )
    if single_stream:
        notes.append("p90 bound: the 90th percentile of all images that could come is below it, with 99 % confidence.")
    notes += [
        f"{row['name']}: computation alone, transfers were left out."
        for row in rows
        if "compute" in row["scopes"] and "engine" not in row["scopes"]
    ]
    notes += [
        f"{row['name']}: {row['batch']} images in a call; latency, multiply-adds and CPU time are of a call."
        for row in rows
        if row["batch"] > 1
    ]
    notes += _left_out(rows)
    failed = [f"{row['name']}: {row['error']}" for row in rows if row["error"]]
    return _table("Speed and fidelity", rows, columns, notes + failed) or Table(
        "Speed and fidelity", ["engine"], [], failed
    )


def _left_out(rows: list[Row]) -> list[str]:
    """Say which percentiles are missing for want of calls."""
    missing: dict[str, int] = {}
    for row in rows:
        missing |= row["scopes"].get("engine", {}).get("left_out", {})
    if not missing:
        return []
    listing = ", ".join(f"{name} needs {calls}" for name, calls in missing.items())
    return [f"A percentile is left out where fewer than 10 images lie beyond it ({listing})."]


def detail_tables(report: Report) -> list[Table]:
    """Cost, fidelity, and every scope of every engine."""
    rows = report["engines"]
    power = report.get("power", {}).get("of", "board")
    costs = _table(
        "Cost",
        rows,
        {
            "engine": lambda row: row["name"],
            "file, MB": _megabytes("bytes"),
            "multiply-adds, G": lambda row: (
                "–" if not row.get("work") else number(row["work"]["multiply_adds"] / 1e9, 4)
            ),
            "share of peak": _share,
            "CPU time, ms": lambda row: number(scope_value(row, "cpu", "p50_ms")),
            "load, ms": _median("load_ms"),
            "first image, ms": _median("first_ms"),
            "peak memory, MB": _megabytes("memory", "host_peak_bytes"),
            "device memory, MB": lambda row: number((_get(row, "memory", "device_bytes") or 0) / 1e6 or None),
            f"{power} power, W": _plain("power", "watts"),
            "energy, mJ": _plain("power", "energy_mj"),
            "above idle, mJ": _plain("power", "above_idle_mj"),
        },
        [
            "Share of peak: the time that the multiply-adds would take at the machine's peak, each layer at that of its"
            " precision, over the time that the scope compute took.",
            "CPU time: of all cores together. Energy: for one image. Memory: of the engine's process.",
        ],
    )
    judged = [row for row in rows if row.get("fidelity")]
    fidelity = _table(
        "Fidelity",
        judged,
        {
            "engine": lambda row: row["name"],
            "reference": lambda row: row["fidelity"]["reference"],
            "images": lambda row: str(row["fidelity"]["images"]),
            "PSNR, dB": psnr,
            "worst, dB": _worst,
            "SSIM": lambda row: f"{row['fidelity']['ssim']:.4f}",
            "largest difference": lambda row: f"{row['fidelity']['max_difference']} of 255",
        },
        ["Against the FP32 graph in ONNX Runtime, on the images given with --data."],
    )
    lines = [row | {"scope": name} for row in rows for name in SCOPES if name in row["scopes"]]

    def of(key: str) -> Cell:
        return lambda line: number(line["scopes"][line["scope"]].get(key))

    scopes = _table(
        "Every scope, ms",
        lines,
        {
            "engine": lambda line: line["name"],
            "scope": lambda line: line["scope"],
            "n": lambda line: str(line["scopes"][line["scope"]]["n"]),
            "min": of("min_ms"),
            "mean": of("mean_ms"),
            "p50": of("p50_ms"),
            "repeats within": _interval,
            **{f"p{p}": of(f"p{p}_ms") for p in PERCENTILES[1:]},
            "max": of("max_ms"),
            "variation": _variation,
        },
        [f"{name}: {meaning}." for name, meaning in SCOPES.items() if any(line["scope"] == name for line in lines)],
    )
    return [table for table in (costs, fidelity, scopes) if table]


def _variation(line: Row) -> str:
    variation = line["scopes"][line["scope"]].get("variation")
    return "–" if variation is None else f"{variation:.1%}"


def _interval(line: Row) -> str:
    interval = line["scopes"][line["scope"]]["interval_ms"]
    return f"{number(interval[0])} to {number(interval[1])}" if interval else "–"


def machine_table(report: Report) -> Table:
    """What the machine is, and what changed during the run."""
    machine, state = report["machine"], report["state"]
    rows = [[key.replace("_", " "), _text(value)] for key, value in machine.items()]
    for key in dict.fromkeys((*state["before"], *state["after"])):
        before, after = (_state(key, state[when].get(key)) for when in ("before", "after"))
        rows.append([f"{key.replace('_', ' ')}, before and after", f"{before}, {after}"])
    for key, value in state.get("during", {}).items():
        rows.append([f"CPU {'used by others' if key == 'others' else 'stolen'} meanwhile", f"{value:.1%}"])
    for precision, value in report.get("peak", {}).items():
        unit = "GB/s" if precision == "bandwidth" else "G multiply-adds/s"
        rows.append([f"measured peak, {precision}", f"{value / 1e9:.1f} {unit}"])
    work = report.get("reference_work")
    if work:
        low, high = min(work["medians_ms"]), max(work["medians_ms"])
        rows.append(["reference work", f"{number(low)} to {number(high)} ms over the rounds: {work['what']}"])
    profile = report["profile"]
    rows.append(
        [
            "profile",
            f"{profile['name']}: {profile['launches']} launches, {profile['rounds']} rounds,"
            f" turns of {profile['turn_s']:g} s after {profile['warm_up_s']:g} s of warming up",
        ]
    )
    return Table("The machine", ["", ""], rows, [])


def _state(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.1%}" if key in ("busy", "stolen") else f"{value:g}"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def commands(report: Report) -> list[str]:
    """Return the commands that measure again, and that compare."""
    return [report["command"], "python -m benchmarks compare OLD/report.json NEW/report.json"]
