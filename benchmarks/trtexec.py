"""Read what trtexec measured, as a row beside our own engines.

  trtexec --loadEngine=facades.fp16.plan --exportTimes=times.json --iterations=1000
  python -m benchmarks trtexec times.json --name facades.fp16.plan --report report
  python -m benchmarks trtexec trtexec.log

Takes the JSON of --exportTimes (best: every call is in it) or the log that trtexec prints. With --report the row joins
that report; without, it is printed. From TensorRT 11 on trtexec leaves out transfers unless --includeDataTransfers is
given; up to 10 it includes them. The row says which it was: `compute` is always comparable, `engine` only with them.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_edge.benchmarks.machine.cautions import row_cautions
from pix2pix_edge.benchmarks.measure.interleave import Nanoseconds
from pix2pix_edge.benchmarks.report.schema import Row, load_report, rounded, scope_json
from pix2pix_edge.benchmarks.report.summary import PERCENTILES, repeat_error
from pix2pix_edge.runtime.errors import InputError

ROUNDS = 20
"""Parts in which the calls of one trtexec run are taken for rounds, so that its drift shows in the interval."""

WARM_UP_MS = 200
"""trtexec's default; its JSON begins with the calls that warm up, its log leaves them out."""

LINES = {
    "compute": "GPU Compute Time",
    "submit": "Enqueue Time",
    "h2d": "H2D Latency",
    "d2h": "D2H Latency",
    "engine": "Latency",
}
"""Scope -> heading of a line in trtexec's log (TensorRT samples/common/sampleReporting.cpp)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="LOG_OR_JSON", help="trtexec's log, or the JSON of --exportTimes")
    parser.add_argument("--name", help="the plan that was measured (default: what the log names, or the file)")
    parser.add_argument("--report", type=Path, metavar="DIR", help="add the row to this report")


def run(args: argparse.Namespace) -> None:
    from pix2pix_edge.benchmarks.report.markdown import markdown_table, write_report
    from pix2pix_edge.benchmarks.report.tables import detail_tables

    row = read_trtexec(args.file, args.name)
    if not args.report:
        report: dict[str, Any] = {"engines": [row]}
        for table in detail_tables(report):
            print(markdown_table(table))
        return
    report = load_report(args.report)
    folder = args.report if args.report.is_dir() else args.report.parent
    # the same plan gives the same pictures, whoever times it
    twin: Row = next((r for r in report["engines"] if r["from"] == "run" and r["file"] == row["file"]), {})
    row |= {key: twin[key] for key in ("fidelity", "bytes", "sha256") if key in twin}
    if twin and twin["batch"] != row["batch"]:
        raise InputError(
            f"trtexec gave {row['file']} {row['batch']} images at once, as far as {args.file} tells, the report"
            f" {twin['batch']}; give the log of a trtexec run with --shapes for a batch of {twin['batch']}"
        )
    report["engines"] = [r for r in report["engines"] if r["name"] != row["name"]] + [row]
    earlier = [warning for warning in report["warnings"] if not warning.startswith(f"{row['name']}: ")]
    report["warnings"] = earlier + row_cautions(row)
    write_report(report, folder)
    print(f"added {row['name']} to {folder / 'report.html'}")


def read_trtexec(file: Path, name: str | None = None) -> Row:
    """Return a row of the report. Raises InputError when the file is neither a log nor a JSON of trtexec."""
    try:
        text = file.read_text(errors="replace")
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    plan = re.search(r"--(?:load|save)Engine=(\S+)", text)
    name = name or (Path(plan[1]).name if plan else file.name)
    shape = re.search(r"Input binding for \S+ with dimensions (\d+)x", text)  # not in the JSON
    row: Row = {
        "name": f"{name} (trtexec)",
        "from": "trtexec",
        "file": Path(name).name,
        "error": "",
        "engine": "TensorRT",
        "precision": "",
        "describe": {"measured by": "trtexec"},
        "batch": int(shape[1]) if shape else 1,
    }
    if version := re.search(r"TensorRT version: ([\d.]+)", text):
        row["describe"]["version"] = version[1]
    scopes = _from_json(text, file) if text.lstrip().startswith("[") and "computeMs" in text else _from_log(text, file)
    transfers = any(scope in scopes and scopes[scope]["max_ms"] > 0 for scope in ("h2d", "d2h"))
    row["describe"]["transfers"] = "included" if transfers else "left out (--includeDataTransfers includes them)"
    kept = ("compute", "engine", "submit") if transfers else ("compute", "submit")
    row["scopes"] = {scope: scopes[scope] for scope in kept if scope in scopes}
    if throughput := re.search(r"Throughput: ([\d.]+) qps", text):
        row["frames_per_second"] = {"overlap": rounded(row["batch"] * float(throughput[1]), 4)}
    return row


def _from_json(text: str, file: Path) -> dict[str, Any]:
    try:
        calls = json.loads(text)
        calls = [call for call in calls if call["startComputeMs"] >= WARM_UP_MS] or calls
        table = {
            "compute": [call["computeMs"] for call in calls],
            "submit": [call["endEnqMs"] - call["startEnqMs"] for call in calls],
            "h2d": [call["h2dMs"] for call in calls],
            "d2h": [call["d2hMs"] for call in calls],
            "engine": [call["latencyMs"] for call in calls],
        }
        return {scope: scope_json(_rounds(values)) for scope, values in table.items()}
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{file} is not what trtexec --exportTimes writes ({error}); export it again") from error


def _rounds(milliseconds: Sequence[float]) -> list[Nanoseconds]:
    values = np.rint(np.array(milliseconds) * 1e6).astype(np.int64)
    return [part for part in np.array_split(values, min(ROUNDS, len(values))) if part.size]


def _from_log(text: str, file: Path) -> dict[str, Any]:
    """Read the summary. Its averages of ten calls each are taken for rounds; the single calls are not in a log.

    So it has no variation either: that of averages would be a third of it.
    """
    queries = re.search(r"Timing trace has (\d+) queries", text)
    averages = re.findall(
        r"Average on \d+ runs - GPU latency: ([\d.]+) ms - Host latency: ([\d.]+) ms.*?enqueue ([\d.]+) ms", text
    )
    series = dict(zip(("compute", "engine", "submit"), zip(*averages, strict=True), strict=True)) if averages else {}
    scopes: dict[str, Any] = {}
    for scope, heading in LINES.items():
        line = re.search(rf"(?:\] |^){re.escape(heading)}: (.*)", text, re.MULTILINE)
        numbers = {k: float(v) for k, v in re.findall(r"([\w()%]+) = ([\d.]+) ms", line[1])} if line else {}
        if {"min", "max", "mean", "median"} <= numbers.keys():
            medians = [float(value) for value in series.get(scope, [numbers["median"]])]
            spread = repeat_error(np.log(medians)) if min(medians) > 0 else None
            bounds = None if spread is None else [rounded(numbers["median"] * math.exp(s)) for s in (-spread, spread)]
            scopes[scope] = {
                "n": int(queries[1]) if queries else 0,
                "min_ms": numbers["min"],
                "mean_ms": numbers["mean"],
                "max_ms": numbers["max"],
                "p50_ms": numbers["median"],
                **{f"p{p}_ms": numbers[f"percentile({p}%)"] for p in PERCENTILES if f"percentile({p}%)" in numbers},
                "left_out": {},
                "interval_ms": bounds,
                "medians_ms": medians,
                "lows_ms": medians,
            }
    if "compute" not in scopes:
        raise InputError(
            f"{file} is neither a log nor an --exportTimes JSON of trtexec; run it again with: --exportTimes=times.json"
        )
    return scopes
