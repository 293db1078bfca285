"""The report's JSON: read, checked, written. docs/report-schema.md describes every key."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_edge.benchmarks.measure.interleave import Nanoseconds
from pix2pix_edge.benchmarks.report.summary import Interval, summarise
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import written_beside

FORMAT = "pix2pix-edge-report/1"
TRIALS, STREAM = "pix2pix-edge-trials/1", "pix2pix-edge-stream/1"
TRAINING = "pix2pix-edge-training/1"
FILE = "report.json"
QUANTILES = 100
"""The distribution of a scope is kept as its 0th, 1st … 100th percentile; the calls themselves would fill megabytes."""

LOW = 10
"""Percentile of a round that other programs hardly touch; what `compare` looks at for CPU time."""

Report = dict[str, Any]
Row = dict[str, Any]


def scope_json(rounds: Sequence[Nanoseconds]) -> dict[str, Any]:
    """Return a scope's entry: its summary, median and LOW of each round, its distribution; milliseconds, rounded."""
    summary = summarise(rounds)
    values = np.concatenate(list(rounds)) / 1e6
    return {
        "n": summary.n,
        "min_ms": rounded(summary.minimum),
        "mean_ms": rounded(summary.mean),
        "max_ms": rounded(summary.maximum),
        "variation": rounded(summary.variation),
        **{f"p{p}_ms": rounded(value) for p, value in summary.percentiles.items()},
        "left_out": {f"p{p}": needed for p, needed in summary.left_out.items()},
        "interval_ms": None if summary.interval is None else [rounded(bound) for bound in summary.interval],
        "medians_ms": [rounded(m) for m in summary.medians],
        "lows_ms": [rounded(float(np.percentile(r, LOW)) / 1e6) for r in rounds],
        "quantiles_ms": [rounded(q) for q in np.percentile(values, np.linspace(0, 100, QUANTILES + 1))],
    }


def on_gpu(row: Row) -> bool:
    """Return whether a row is of a TensorRT plan; trtexec runs nothing else, whatever its file is called."""
    return bool(row["file"].endswith(".plan") or row.get("from") == "trtexec")


def interval_json(interval: Interval | None) -> dict[str, float] | None:
    """Return {"value", "low", "high"}, or None."""
    if interval is None:
        return None
    return {"value": rounded(interval.value), "low": rounded(interval.low), "high": rounded(interval.high)}


def rounded(value: float, digits: int = 6) -> float:
    """Return a number with so many significant digits: a report that says more says it falsely."""
    if not math.isfinite(value) or value == 0:
        return value
    return round(value, digits - 1 - math.floor(math.log10(abs(value))))


def load_report(path: str | Path) -> Report:
    """Read a report, its folder or its JSON file. Raises InputError when it is missing, broken or of another schema."""
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    try:
        report = json.loads(file.read_text())
    except OSError as error:
        raise InputError(
            f"there is no report {file} ({error.strerror}); make one with: python -m benchmarks run"
            " --engine FILE --data DIR --out DIR"
        ) from error
    except ValueError as error:
        raise InputError(f"{file} is not whole JSON ({error}); measure again") from error
    found = report.get("format") if isinstance(report, dict) else None
    if found != FORMAT:
        raise InputError(
            f"{file} is of another schema ({found or 'it names none'}; this version reads {FORMAT});"
            " measure again, or use the version that wrote it"
        )
    missing = [key for key in ("engines", "machine", "command") if key not in report]
    if missing:
        raise InputError(f"{file} lacks {', '.join(missing)}; measure again")
    return report


def save_report(report: Report, folder: Path) -> None:
    """Write FOLDER/report.json. Raises InputError when it cannot be written."""
    with written_beside(folder / FILE) as temporary:
        temporary.write_text(json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def new_folder(folder: Path) -> None:
    """Make the folder of a report, if it is missing. Raises InputError when it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another --out") from error
