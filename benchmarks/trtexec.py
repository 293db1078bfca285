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
import codecs
import itertools
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pix2pix_edge.benchmarks.machine.cautions import row_cautions
from pix2pix_edge.benchmarks.machine.power import without_colours
from pix2pix_edge.benchmarks.measure.interleave import Nanoseconds
from pix2pix_edge.benchmarks.report.reader import MOST, load_report
from pix2pix_edge.benchmarks.report.schema import Rates, Row, Scope
from pix2pix_edge.benchmarks.report.summary import PERCENTILES, repeat_error, samples_needed, scope_of
from pix2pix_edge.benchmarks.report.table import markdown_table, rounded
from pix2pix_edge.benchmarks.report.tables import scope_table
from pix2pix_edge.runtime.errors import InputError, printable

ROUNDS = 20
"""Parts in which the calls of one trtexec run are taken for rounds, so that its drift shows in the interval."""

WARM_UP_MS = 200
"""trtexec's default. The JSON of TensorRT 8.2 and older begins with the calls that warm up; later ones have none."""

LARGEST_FILE = 256 << 20
LONGEST_LINE = 4096
"""A longer line is none of trtexec's summary."""

SHARP = 0.05
"""`submit` is the difference of two times since the start, with six digits: it is kept where their last digit is worth
no more than this share of it."""

HEADINGS = {
    "compute": "GPU Compute Time",
    "submit": "Enqueue Time",
    "h2d": "H2D Latency",
    "d2h": "D2H Latency",
    "engine": "Latency",
}
"""Scope -> heading of a line in trtexec's log (TensorRT samples/common/sampleReporting.cpp)."""

RUNNING = "&&&& RUNNING"
_PLAN = re.compile(r"--(?:load|save)Engine=[\"']?(?:[^\s\"']*[/\\])?([^\s\"'/\\]+)")
_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?(?:e[-+]\d{1,2})?)"
_VALUE = re.compile(rf"([a-z]+(?:\(\d{{1,2}}%\))?) = {_NUMBER} ms")
_AVERAGE = re.compile(
    rf"Average on \d+ runs - GPU latency: {_NUMBER} ms - Host latency: {_NUMBER} ms \(.{{0,80}}?enqueue {_NUMBER} ms"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="LOG_OR_JSON", help="trtexec's log, or the JSON of --exportTimes")
    parser.add_argument("--name", help="the plan that was measured (default: what the log names, or the file)")
    parser.add_argument("--report", type=Path, metavar="DIR", help="add the row to this report")


def run(args: argparse.Namespace) -> None:
    from pix2pix_edge.benchmarks.report.page import write_report

    row = read_trtexec(args.file, args.name)
    if not args.report:
        if table := scope_table([row]):
            print(markdown_table(table))
        return
    report = load_report(args.report)
    folder = args.report if args.report.is_dir() else args.report.parent
    # the same plan gives the same pictures, whoever times it
    twin = next((r for r in report.engines if r.measured_by == "run" and r.file == row.file), None)
    if twin and twin.batch != row.batch:
        raise InputError(
            f"trtexec gave {row.file} {row.batch} images at once, as far as {args.file} tells, the report"
            f" {twin.batch}; give the log of a trtexec run with --shapes for a batch of {twin.batch}"
        )
    if twin:
        row = replace(row, fidelity=twin.fidelity, bytes=twin.bytes, sha256=twin.sha256)
    rows = [r for r in report.engines if r.name != row.name] + [row]
    earlier = [warning for warning in report.warnings if not warning.startswith(f"{row.name}: ")]
    write_report(replace(report, engines=rows, warnings=earlier + row_cautions(row)), folder)
    print(f"added {row.name} to {folder / 'report.html'}")


def read_trtexec(file: Path, name: str | None = None) -> Row:
    """Return a row of the report. name: the plan, and which run of a log that holds several.

    Raises InputError when the file is neither a log nor a JSON of trtexec.
    """
    try:
        if not file.is_file() or file.stat().st_size > LARGEST_FILE:
            raise InputError(f"cannot read {file}: it is no file of up to {LARGEST_FILE >> 20} MB; give trtexec's log")
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    # PowerShell writes UTF-16
    encoding = "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    text = data.decode(encoding, errors="replace")
    if text.lstrip().startswith("["):
        try:
            calls = json.loads(text)
        except RecursionError as error:
            raise InputError(f"{file} is nested too deeply; export it again") from error
        except ValueError:
            calls = None  # a log begins with [, too
        if isinstance(calls, list):
            return _row(name or file.name, _from_json(calls, file))
    lines = [without_colours(line) for line in text.splitlines() if len(line) <= LONGEST_LINE]
    lines = [line.partition('\\n"')[0] for line in lines]  # as docker keeps them, in JSON
    lines = _one_run(lines, file, name)
    text = "\n".join(lines)
    if re.search(r"&&&& (?:FAILED|SKIPPED)", text):
        raise InputError(f"{file} is of a trtexec run that failed; see there why, and run it again")
    # a network with an implicit batch, up to TensorRT 9: its bindings have none, and each image counts as a query
    implicit = re.search(r"--batch=(\d{1,5})\b", text)
    each = max(1, int(implicit[1])) if implicit else 1
    shape = implicit or re.search(r"[Ii]nput binding for \S+ with dimensions (\d{1,5})(?:x\d+){3}\b", text)
    shape = shape or re.search(r"--shapes=\S*?:(\d{1,5})x\d", text)  # none of it is in the JSON
    scopes = _from_log(lines, file, each)
    row = replace(_row(name or _plan(lines) or file.name, scopes), batch=max(1, int(shape[1])) if shape else 1)
    if version := re.search(r"TensorRT version: ([\d.]+)", text):
        row.describe["version"] = version[1]
    if queries := re.search(rf"Throughput: {_NUMBER} qps", text):
        row = replace(row, frames_per_second=Rates(overlap=rounded(row.batch // each * float(queries[1]), 4)))
    return row


def _row(name: str, scopes: dict[str, Scope]) -> Row:
    transfers = any(scope in scopes and scopes[scope].max_ms > 0 for scope in ("h2d", "d2h"))
    kept = ("compute", "engine", "submit") if transfers else ("compute", "submit")
    said = "included" if transfers else "left out (--includeDataTransfers includes them)"
    return Row(
        name=f"{printable(name)} (trtexec)",
        file=printable(Path(name).name),
        measured_by="trtexec",
        engine="TensorRT",
        describe={"measured by": "trtexec", "transfers": said},
        scopes={scope: scopes[scope] for scope in kept if scope in scopes},
    )


def _plan(lines: Iterable[str]) -> str:
    """Return the file name of the plan that a run's command names, or ""."""
    return next((plan for line in lines for plan in _PLAN.findall(line)), "")


def _one_run(lines: list[str], file: Path, name: str | None) -> list[str]:
    """Return the lines of the one run that a log holds, or of the one of the plan `name`. Raises InputError."""
    starts = [index for index, line in enumerate(lines) if RUNNING in line]
    if len(starts) < 2:
        runs = [lines]  # what precedes the command may hold the binding
    else:
        runs = [lines[start:end] for start, end in itertools.pairwise([*starts, len(lines)])]
    summaries = [sum(_summary("compute", line) is not None for line in run) for run in runs]
    ends = [{_plan([line]) for line in run if "&&&& " in line} for run in runs]
    if any(found > 1 or (found and len(plans) > 1) for plans, found in zip(ends, summaries, strict=True)):
        raise InputError(f"{file} has lines of several runs of trtexec among each other; give the log of one run")
    runs = [run for run, found in zip(runs, summaries, strict=True) if found]
    if len(runs) > 1:
        plans = [_plan(run) for run in runs]
        chosen = [run for run, plan in zip(runs, plans, strict=True) if name and plan == Path(name).name]
        if len(chosen) != 1:
            raise InputError(
                f"{file} holds {len(runs)} runs of trtexec, of {', '.join(map(printable, plans))}; name one plan that"
                " was run once with --name, or give the log of one run"
            )
        return chosen[0]
    return runs[0] if runs else lines


def _summary(scope: str, line: str) -> str | None:
    """Return the numbers of a line of the summary; verbose logs explain the words in lines that begin alike."""
    before, heading, numbers = line.partition(f"{HEADINGS[scope]}: min = ")
    return f"min = {numbers}" if heading and (not before or before.endswith("] ")) else None


def _from_json(calls: list[Any], file: Path) -> dict[str, Scope]:
    keys = ("computeMs", "h2dMs", "d2hMs", "latencyMs", "startComputeMs", "startEnqMs", "endEnqMs")
    try:
        table = np.array([[_milliseconds(call[key]) for key in keys] for call in calls])
        old = "endToEndMs" in calls[0]
    except (ValueError, TypeError, KeyError, IndexError, OverflowError) as error:
        raise InputError(
            f"{file} is not what trtexec --exportTimes writes (a list of calls, each with the numbers"
            f" {', '.join(keys)}); export it again"
        ) from error
    if not (np.isfinite(table).all() and table.min() >= 0 and table.max() < MOST / 1e6 and table[:, 0].max() > 0):
        raise InputError(f"{file} has times that are no times (negative, or not finite); export it again")
    if old:
        counted = table[:, 4] >= WARM_UP_MS
        table = table[counted] if counted.any() else table
    scopes = dict(zip(("compute", "h2d", "d2h", "engine"), table.T[:4], strict=True))
    submit = table[:, 6] - table[:, 5]
    last_digit = 10 ** (math.floor(math.log10(max(float(table[:, 6].max()), 1e-6))) - 5)
    if submit.min() >= 0 and last_digit <= SHARP * np.median(submit):
        scopes["submit"] = submit
    return {name: scope_of(_rounds(values)) for name, values in scopes.items()}


def _milliseconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.40} is no time")
    return float(value)


def _rounds(milliseconds: Any) -> list[Nanoseconds]:
    values = np.rint(milliseconds * 1e6).astype(np.int64)
    return [part for part in np.array_split(values, min(ROUNDS, len(values))) if part.size]


def _from_log(lines: Sequence[str], file: Path, each: int) -> dict[str, Scope]:
    """Read the summary. Its averages of ten calls each are taken for rounds; the single calls are not in a log.

    So it has no variation either: that of averages would be a third of it. each: queries that a call counts for.
    """
    averages = [[float(value) for value in match.groups()] for line in lines if (match := _AVERAGE.search(line))]
    series = dict(zip(("compute", "engine", "submit"), map(list, zip(*averages, strict=True)), strict=False))
    queries = next((match for line in lines if (match := re.search(r"trace has (\d{1,12}) queries", line))), None)
    count = int(queries[1]) // each if queries else 0
    scopes: dict[str, Scope] = {}
    for scope in HEADINGS:
        line = next((said for line in lines if (said := _summary(scope, line))), "")
        values = {key: float(value) for key, value in _VALUE.findall(line)}
        if {"min", "max", "mean", "median"} <= values.keys():
            sorted_times = values["min"] <= values["median"] <= values["max"] < MOST / 1e6
            if not sorted_times or (scope == "compute" and not values["max"]):
                raise InputError(f"{file} has times that are no times ({line[:80]}); run trtexec again")
            scopes[scope] = _summarised(values, count, series.get(scope) or [values["median"]])
    if "compute" not in scopes and any(re.search(r"median = \d+,\d+ ms", line) for line in lines):
        raise InputError(f"{file} has decimal commas; run trtexec again with: LC_ALL=C trtexec …")
    if "compute" not in scopes:
        raise InputError(
            f"{file} is neither a log nor an --exportTimes JSON of trtexec; run it again with: --exportTimes=times.json"
        )
    return scopes


def _summarised(values: dict[str, float], count: int, medians: list[float]) -> Scope:
    """Return a scope from a line of the summary, and the medians or averages of its rounds."""
    spread = repeat_error(np.log(medians)) if min(medians) > 0 else None
    middle = values["median"]
    told = {p: values[f"percentile({p}%)"] for p in PERCENTILES[1:] if f"percentile({p}%)" in values}
    given = {p: value for p, value in told.items() if count >= samples_needed(p)}
    return Scope(
        n=count,
        min_ms=values["min"],
        mean_ms=values["mean"],
        max_ms=values["max"],
        p50_ms=middle,
        p90_ms=given.get(90),
        p95_ms=given.get(95),
        p99_ms=given.get(99),
        left_out={f"p{p}": samples_needed(p) for p in PERCENTILES[1:] if p not in given},
        interval_ms=None
        if spread is None
        else (rounded(middle * math.exp(-spread)), rounded(middle * math.exp(spread))),
        medians_ms=medians,
        lows_ms=medians,
    )
