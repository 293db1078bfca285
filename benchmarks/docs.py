"""Write the result tables of the documentation from the committed JSON files; nobody types a number.

  python -m benchmarks docs                                take the JSON files in docs/benchmarks as they are
  python -m benchmarks docs --results report/report.json   first make this the published report
  python -m benchmarks docs --trials trials.json           first make these the published trials; likewise the others
  python -m benchmarks docs --models MODELS                a folder of reports, one for each model
  python -m benchmarks docs --peers PEERS                  a folder of what `benchmarks peers` wrote, one for each width

Run it in the root of a checkout, and commit the pages in docs/ with docs/benchmarks/.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pix2pix_edge.benchmarks.report.schema import Report
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import written_beside

if TYPE_CHECKING:
    from pix2pix_edge.benchmarks.report.reader import Formatted
    from pix2pix_edge.benchmarks.report.table import Table

FOLDER = Path("docs/benchmarks")
ABSENT = "Not measured yet."
UNPUBLISHED = ("quantiles_ms", "ages_ms", "psnr_each_db", "throughput", "half_rate", "overload", "gallery")
"""What no table needs: long lists, and pictures, which are the user's own."""


@dataclass(frozen=True)
class Published:
    """A result file as it was read, and as its section shows it."""

    content: Formatted
    text: str


@dataclass(frozen=True)
class Section:
    """A generated part of a page: where it stands, the command that measures it, and what reads its file."""

    page: Path
    command: str
    read: Callable[[Path, str], Published]

    def load(self, file: Path) -> Published:
        """Read a result file. Raises InputError for any other."""
        return self.read(file, self.command)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, section in SECTIONS.items():
        parser.add_argument(f"--{name}", type=Path, metavar="FILE.json", help=f"what `{section.command}` wrote")


def run(args: argparse.Namespace) -> None:
    pages = {section.page for section in SECTIONS.values()}
    for page in pages:
        if not page.is_file():
            raise InputError(f"there is no {page} here; run this in the root of a checkout of pix2pix-edge")
    given = {name: section.load(file) for name, section in SECTIONS.items() if (file := getattr(args, name))}
    texts = {page: render(page, FOLDER, given) for page in sorted(pages)}  # all or nothing
    for name, published in given.items():
        _publish(name, published.content)
    for page, text in texts.items():
        with written_beside(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"wrote {page}")


def render(page: Path, folder: Path, given: Mapping[str, Published] = MappingProxyType({})) -> str:
    """Return the page's text with every generated section written anew, from `given` or the JSON files in `folder`.

    A section lies between <!-- NAME: generated --> and <!-- end of NAME -->. Raises InputError when one is missing.
    """
    text = page.read_text(encoding="utf-8")
    for name, section in SECTIONS.items():
        if section.page.name != page.name:
            continue
        pattern = re.compile(rf"(<!-- {name}: generated[^>]*-->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise InputError(f"{page} has lost the marks of its section {name}; restore them from git")
        file = folder / f"{name}.json"
        shown = given[name].text if name in given else section.load(file).text if file.is_file() else ABSENT
        text = pattern.sub(lambda found, shown=shown: f"{found[1]}{shown}\n{found[2]}", text)  # type: ignore[misc]
    return text


def _slim(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _slim(item) for key, item in value.items() if key not in UNPUBLISHED}
    return [_slim(item) for item in value] if isinstance(value, list) else value


def _publish(name: str, content: Formatted) -> None:
    from pix2pix_edge.benchmarks.report.reader import as_json

    with written_beside(FOLDER / f"{name}.json") as temporary:
        text = json.dumps(_slim(as_json(content)), indent=1, ensure_ascii=False, allow_nan=False)
        # a list of numbers is one line, and not one for each of them
        text = re.sub(r"\[[-\d.,\s]+\]", lambda found: " ".join(found[0].split()), text)
        temporary.write_text(text + "\n", encoding="utf-8")


def _results(file: Path, command: str) -> Published:
    from pix2pix_edge.benchmarks.report.reader import load_report
    from pix2pix_edge.benchmarks.report.table import bullets, markdown_table
    from pix2pix_edge.benchmarks.report.tables import detail_tables, machine_table, main_table

    report = load_report(file)
    tables = [main_table(report), *(t for t in detail_tables(report) if t.heading in ("Cost", "Fidelity"))]
    parts = [f"### {table.heading}\n\n{markdown_table(table)}" for table in (*tables, machine_table(report))]
    if report.warnings:
        parts.append("### Read with care\n\n" + bullets(report.warnings))
    return Published(report, "\n\n".join([*parts, _measured_with(report.command)]))


def _trials(file: Path, command: str) -> Published:
    from pix2pix_edge.benchmarks.claims.trials import FORMAT, Trials
    from pix2pix_edge.benchmarks.report.reader import read

    trials = read(file, Trials, FORMAT, command)
    where = trials.machine.cpu or "this machine"
    where += "" if trials.busy_before is None else f", {trials.busy_before:.0%} busy at the start"
    where += "" if trials.others is None else f" and {trials.others:.0%} used by others meanwhile"
    return Published(trials, f"With {trials.engine} on {where}: {trials.sentence()}.")


def _training(file: Path, command: str) -> Published:
    from pix2pix_edge.benchmarks.claims.train import FORMAT, TrainingReport
    from pix2pix_edge.benchmarks.report.reader import read
    from pix2pix_edge.benchmarks.report.table import bullets

    report = read(file, TrainingReport, FORMAT, command)
    lines = [width.sentence() for width in report.widths]
    return Published(report, f"{bullets(lines)}\n\n{_measured_with(report.command)}")


def _judged(file: Path, command: str) -> Published:
    from pix2pix_edge.benchmarks.report.reader import read
    from pix2pix_edge.benchmarks.report.table import Table, markdown_table, number
    from pix2pix_edge.train.judge import COLUMNS, FORMAT, Judged

    judged = read(file, Judged, FORMAT, command)
    cells = [[name, *(number(row.get(key)) for key in COLUMNS)] for name, row in judged.rows.items()]
    table = markdown_table(Table("", ["network", *COLUMNS.values()], cells))
    return Published(judged, f"{table}\n\nOn {judged.pairs} pairs that none of them was trained on.")


def _choices(file: Path, command: str) -> Published:
    from pix2pix_edge.benchmarks.claims.eyes import FORMAT, Choices, agreement
    from pix2pix_edge.benchmarks.report.reader import read
    from pix2pix_edge.benchmarks.report.table import markdown_table

    choices = read(file, Choices, FORMAT, command)
    sentence, table = agreement(choices)
    return Published(choices, f"{sentence}\n\n{markdown_table(table)}")


def _stream(file: Path, command: str) -> Published:
    from pix2pix_edge.benchmarks.report.reader import read
    from pix2pix_edge.benchmarks.report.table import markdown_table
    from pix2pix_edge.benchmarks.stream import FORMAT, StreamReport, requirement_table

    report = read(file, StreamReport, FORMAT, command)
    return Published(report, f"{markdown_table(requirement_table(report.rows))}\n\n{_measured_with(report.command)}")


@dataclass(frozen=True, kw_only=True)
class Models:
    """A report for each model, whose first engine is its plain graph."""

    format: str = "pix2pix-edge-models/1"
    reports: list[Report]


def _models(file: Path, command: str) -> Published:
    """Read the published file, or a folder with a report's folder for each model."""
    from pix2pix_edge.benchmarks.report.reader import FILE, load_report, read
    from pix2pix_edge.benchmarks.report.table import markdown_table

    found = sorted(file.glob(f"*/{FILE}"))
    models = Models(reports=[load_report(report) for report in found]) if found else None
    models = models or read(file, Models, Models.format, command)
    return Published(models, f"{markdown_table(_models_table(models.reports))}\n\n{_measured_with(command)}")


def _models_table(reports: list[Report]) -> Table:
    from pix2pix_edge.benchmarks.report.table import Table, number
    from pix2pix_edge.benchmarks.report.tables import NONE, latency, psnr, ratio

    columns = ["engine", "multiply-adds, G", "latency p50, ms", "speed", "PSNR, dB", "SSIM", "runs in", "others' CPU"]
    rows = []
    for report in reports:
        others = report.state.during.others
        for row in report.engines:
            work = number(row.work.multiply_adds / 1e9, 4) if row.work else NONE
            ssim = f"{row.fidelity.ssim:.4f}" if row.fidelity else NONE
            used = NONE if others is None else f"{others:.0%}"
            rows.append([row.name, work, latency(row), ratio(row), psnr(row), ssim, row.engine or NONE, used])
    return Table("Models", columns, rows)


def _peers(file: Path, command: str) -> Published:
    """Read the published file, or a folder of NAME.json."""
    from pix2pix_edge.benchmarks.claims.peers import FORMAT, Peers, PeersReport, peer_table
    from pix2pix_edge.benchmarks.report.reader import read
    from pix2pix_edge.benchmarks.report.table import markdown_table

    reports = {
        path.stem: read(path, PeersReport, FORMAT, command) for path in sorted(file.glob("*.json"), reverse=True)
    }
    peers = Peers(reports=reports) if reports else read(file, Peers, Peers.format, command)
    parts = [f"### {name}\n\n{markdown_table(peer_table(report.rows))}" for name, report in peers.reports.items()]
    return Published(peers, "\n\n".join([*parts, _measured_with(command)]))


def _measured_with(command: str) -> str:
    return f"Measured with:\n\n    {command}"


SECTIONS = {
    "results": Section(
        Path("docs/benchmarks.md"), "python -m benchmarks run --engine FILE --data DIR --out DIR", _results
    ),
    "trials": Section(
        Path("docs/benchmarks.md"), "python -m benchmarks trials --engine FILE --data DIR --out FILE.json", _trials
    ),
    "stream": Section(Path("docs/streaming.md"), "python -m benchmarks stream --engine FILE --out DIR", _stream),
    "judged": Section(
        Path("docs/training.md"), "python -m train.judge GENERATOR … --data DIR --out FILE.json", _judged
    ),
    "tried": Section(Path("docs/training.md"), "python -m train.judge GENERATOR … --data DIR --out FILE.json", _judged),
    "choices": Section(
        Path("docs/training.md"), "choices written down before it is looked up whose they are", _choices
    ),
    "models": Section(
        Path("docs/models.md"),
        "python -m benchmarks run --engine PLAIN FILE FILE --data DIR --out MODELS/NAME",
        _models,
    ),
    "peers": Section(
        Path("docs/benchmarks.md"),
        "python -m benchmarks peers GENERATOR --engine FILE … --data DIR --out PEERS/NAME.json",
        _peers,
    ),
    "training": Section(Path("docs/training.md"), "python -m benchmarks train --data DIR --out FILE.json", _training),
}
