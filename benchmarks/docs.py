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
from typing import Any

from pix2pix_edge.benchmarks.claims.eyes import Choices, agreement
from pix2pix_edge.benchmarks.claims.peers import Peers, PeersReport, peer_table
from pix2pix_edge.benchmarks.claims.train import TrainingReport
from pix2pix_edge.benchmarks.claims.trials import Trials
from pix2pix_edge.benchmarks.report.reader import FILE, Formatted, as_json, load_report, read
from pix2pix_edge.benchmarks.report.schema import Report
from pix2pix_edge.benchmarks.report.table import Table, bullets, markdown_table, number
from pix2pix_edge.benchmarks.report.tables import NONE, detail_tables, latency, machine_table, main_table, psnr, ratio
from pix2pix_edge.benchmarks.stream import StreamReport, requirement_table
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import written_beside
from pix2pix_edge.train.judge import COLUMNS, Judged

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
    """A generated part of a page: where it stands, the command that measures it, and how its file is shown.

    kind: the dataclass of the file, whose default of `format` is what the file says. gather: makes that of a folder of
    reports; None for any other path.
    """

    page: Path
    command: str
    kind: Any
    show: Callable[[Any], str]
    gather: Callable[[Path], Formatted | None] = lambda file: None

    def load(self, file: Path) -> Published:
        """Read a result file. Raises InputError for any other."""
        content = self.gather(file) or read(file, self.kind, self.kind.format, self.command)
        return Published(content, self.show(content))


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
    with written_beside(FOLDER / f"{name}.json") as temporary:
        text = json.dumps(_slim(as_json(content)), indent=1, ensure_ascii=False, allow_nan=False)
        # a list of numbers is one line, and not one for each of them
        text = re.sub(r"\[[-\d.,\s]+\]", lambda found: " ".join(found[0].split()), text)
        temporary.write_text(text + "\n", encoding="utf-8")


def _results(report: Report) -> str:
    tables = [main_table(report), *(t for t in detail_tables(report) if t.heading in ("Cost", "Fidelity"))]
    parts = [f"### {table.heading}\n\n{markdown_table(table)}" for table in (*tables, machine_table(report))]
    if report.warnings:
        parts.append("### Read with care\n\n" + bullets(report.warnings))
    return "\n\n".join([*parts, _measured_with(report.command)])


def _trials(trials: Trials) -> str:
    where = trials.machine.cpu or "this machine"
    where += "" if trials.busy_before is None else f", {trials.busy_before:.0%} busy at the start"
    where += "" if trials.others is None else f" and {trials.others:.0%} used by others meanwhile"
    return f"With {trials.engine} on {where}: {trials.sentence()}."


def _training(report: TrainingReport) -> str:
    return f"{bullets([width.sentence() for width in report.widths])}\n\n{_measured_with(report.command)}"


def _judged(judged: Judged) -> str:
    cells = [[name, *(number(row.get(key)) for key in COLUMNS)] for name, row in judged.rows.items()]
    table = markdown_table(Table("", ["network", *COLUMNS.values()], cells))
    return f"{table}\n\nOn {judged.pairs} pairs that none of them was trained on."


def _choices(choices: Choices) -> str:
    sentence, table = agreement(choices)
    return f"{sentence}\n\n{markdown_table(table)}"


def _stream(report: StreamReport) -> str:
    return f"{markdown_table(requirement_table(report.rows))}\n\n{_measured_with(report.command)}"


@dataclass(frozen=True, kw_only=True)
class Models:
    """A report for each model, whose first engine is its plain graph."""

    format: str = "pix2pix-edge-models/1"
    reports: list[Report]


def _all_models(folder: Path) -> Models | None:
    found = sorted(folder.glob(f"*/{FILE}"))
    return Models(reports=[load_report(report) for report in found]) if found else None


def _models(models: Models) -> str:
    columns = ["engine", "multiply-adds, G", "latency p50, ms", "speed", "PSNR, dB", "SSIM", "runs in", "others' CPU"]
    rows = []
    for report in models.reports:
        others = report.state.during.others
        for row in report.engines:
            work = number(row.work.multiply_adds / 1e9, 4) if row.work else NONE
            ssim = f"{row.fidelity.ssim:.4f}" if row.fidelity else NONE
            used = NONE if others is None else f"{others:.0%}"
            rows.append([row.name, work, latency(row), ratio(row), psnr(row), ssim, row.engine or NONE, used])
    return f"{markdown_table(Table('Models', columns, rows))}\n\n{_measured_with(MODELS)}"


def _all_peers(folder: Path) -> Peers | None:
    files = sorted(folder.glob("*.json"), reverse=True)
    reports = {file.stem: read(file, PeersReport, PeersReport.format, PEERS) for file in files}
    return Peers(reports=reports) if reports else None


def _peers(peers: Peers) -> str:
    parts = [f"### {name}\n\n{markdown_table(peer_table(report.rows))}" for name, report in peers.reports.items()]
    return "\n\n".join([*parts, _measured_with(PEERS)])


def _measured_with(command: str) -> str:
    return f"Measured with:\n\n    {command}"


RUN = "python -m benchmarks run --engine FILE --data DIR --out DIR"
TRIALS = "python -m benchmarks trials --engine FILE --data DIR --out FILE.json"
STREAM = "python -m benchmarks stream --engine FILE --out DIR"
JUDGE = "python -m train.judge GENERATOR … --data DIR --out FILE.json"
MODELS = "python -m benchmarks run --engine PLAIN FILE FILE --data DIR --out MODELS/NAME"
PEERS = "python -m benchmarks peers GENERATOR --engine FILE … --data DIR --out PEERS/NAME.json"
TRAIN = "python -m benchmarks train --data DIR --out FILE.json"
CHOICES = "choices written down before it is looked up whose they are"
BENCHMARKS, TRAINING = Path("docs/benchmarks.md"), Path("docs/training.md")

SECTIONS = {
    "results": Section(BENCHMARKS, RUN, Report, _results, lambda path: load_report(path) if path.is_dir() else None),
    "trials": Section(BENCHMARKS, TRIALS, Trials, _trials),
    "stream": Section(Path("docs/streaming.md"), STREAM, StreamReport, _stream),
    "judged": Section(TRAINING, JUDGE, Judged, _judged),
    "tried": Section(TRAINING, JUDGE, Judged, _judged),
    "choices": Section(TRAINING, CHOICES, Choices, _choices),
    "models": Section(Path("docs/models.md"), MODELS, Models, _models, _all_models),
    "peers": Section(BENCHMARKS, PEERS, Peers, _peers, _all_peers),
    "training": Section(TRAINING, TRAIN, TrainingReport, _training),
}
