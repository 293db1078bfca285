"""Write the result tables of the documentation from the committed JSON files; nobody types a number.

  python -m benchmarks docs                                take the JSON files in docs/benchmarks as they are
  python -m benchmarks docs --results report/report.json   first make this the published report
  python -m benchmarks docs --trials trials.json           first make these the published trials; likewise the others

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

from pix2pix_edge.benchmarks.report.schema import STREAM, TRAINING, TRIALS
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.files import written_beside

FOLDER = Path("docs/benchmarks")
ABSENT = "Not measured yet."
UNPUBLISHED = ("quantiles_ms", "ages_ms", "psnr_each_db", "throughput", "half_rate", "overload")
"""Long lists that no table needs."""


@dataclass(frozen=True)
class Section:
    """A generated part of a page: where it stands, the command that measures it, how its file is read and shown."""

    page: Path
    command: str
    load: Callable[[Path], dict[str, Any]]
    show: Callable[[dict[str, Any]], str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, section in SECTIONS.items():
        parser.add_argument(f"--{name}", type=Path, metavar="FILE.json", help=f"what `{section.command}` wrote")


def run(args: argparse.Namespace) -> None:
    pages = {section.page for section in SECTIONS.values()}
    for page in pages:
        if not page.is_file():
            raise InputError(f"there is no {page} here; run this in the root of a checkout of pix2pix-edge")
    contents = {
        name: publishable(section.load(file)) for name, section in SECTIONS.items() if (file := getattr(args, name))
    }
    texts = {page: render(page, FOLDER, contents) for page in sorted(pages)}  # all or nothing
    for name, content in contents.items():
        _publish(name, content)
    for page, text in texts.items():
        with written_beside(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(f"wrote {page}")


def render(page: Path, folder: Path, given: Mapping[str, dict[str, Any]] = MappingProxyType({})) -> str:
    """Return the page's text with every generated section written anew, from `given` or the JSON files in `folder`.

    A section lies between <!-- NAME: generated --> and <!-- end of NAME -->. Raises InputError when one is missing, or
    a file lacks what its section shows.
    """
    text = page.read_text(encoding="utf-8")
    for name, section in SECTIONS.items():
        if section.page.name != page.name:
            continue
        pattern = re.compile(rf"(<!-- {name}: generated[^>]*-->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if not pattern.search(text):
            raise InputError(f"{page} has lost the marks of its section {name}; restore them from git")
        file = folder / f"{name}.json"
        content = ABSENT
        if name in given or file.is_file():
            try:
                content = section.show(given[name] if name in given else section.load(file))
            except (KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    f"the numbers of {name} are not whole ({error!r}); make them: {section.command}"
                ) from error
        text = pattern.sub(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)  # type: ignore[misc]
    return text


def publishable(report: dict[str, Any]) -> dict[str, Any]:
    """Return a result without what only its plots and its gallery need: the pictures are the user's own."""

    def slim(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: slim(item) for key, item in value.items() if key not in UNPUBLISHED}
        return [slim(item) for item in value] if isinstance(value, list) else value

    slimmed: dict[str, Any] = slim(report)
    return slimmed | {"gallery": []} if "gallery" in slimmed else slimmed


def _publish(name: str, content: dict[str, Any]) -> None:
    with written_beside(FOLDER / f"{name}.json") as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        # a list of numbers is one line, and not one for each of them
        text = re.sub(r"\[[-\d.,\s]+\]", lambda found: " ".join(found[0].split()), text)
        temporary.write_text(text + "\n", encoding="utf-8")


def loader(form: str, command: str) -> Callable[[Path], dict[str, Any]]:
    """Return a function that reads a JSON file of this format; it raises InputError for any other."""

    def load(file: Path) -> dict[str, Any]:
        try:
            content: Any = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{file} cannot be read as JSON ({error}); make it with: {command}") from error
        if not isinstance(content, dict) or content.get("format") != form:
            raise InputError(f"{file} was not written by this version's: {command}")
        found: dict[str, Any] = content
        return found

    return load


def _load_report(file: Path) -> dict[str, Any]:
    from pix2pix_edge.benchmarks.report.schema import load_report

    return load_report(file)


def _results(report: dict[str, Any]) -> str:
    from pix2pix_edge.benchmarks.report.markdown import markdown_table
    from pix2pix_edge.benchmarks.report.tables import detail_tables, machine_table, main_table

    tables = [main_table(report), *(t for t in detail_tables(report) if t.heading in ("Cost", "Fidelity"))]
    parts = [f"### {table.heading}\n\n{markdown_table(table)}" for table in (*tables, machine_table(report))]
    if report["warnings"]:
        parts.append("### Read with care\n\n" + "\n".join(f"- {warning}" for warning in report["warnings"]))
    return "\n\n".join([*parts, f"Measured with:\n\n    {report['command']}"])


def _trials(content: dict[str, Any]) -> str:
    from pix2pix_edge.benchmarks.claims.trials import sentence

    busy = content.get("busy_before")
    where = content["machine"].get("cpu", "this machine") + ("" if busy is None else f", {busy:.0%} busy at the start")
    others = content.get("others")
    where += "" if others is None else f" and {others:.0%} used by others meanwhile"
    return f"With {content['engine']} on {where}: {sentence(content)}."


def _training(content: dict[str, Any]) -> str:
    from pix2pix_edge.benchmarks.claims.train import sentence

    return (
        "\n".join(f"- {sentence(width)}" for width in content["widths"])
        + f"\n\nMeasured with:\n\n    {content['command']}"
    )


def _stream(content: dict[str, Any]) -> str:
    lines = ["| | measured | limit |", "|:--|--:|--:|"]
    for row in content["rows"]:
        kept = {True: "", False: " (missed)", None: ""}[row["kept"]]
        lines.append(f"| {row['what']} | {row['value']}{kept} | {row['limit']} |")
    return "\n".join([*lines, f"\nMeasured with:\n\n    {content['command']}"])


def _section(page: str, form: str, command: str, show: Callable[[dict[str, Any]], str]) -> Section:
    command = f"python -m benchmarks {command}"
    return Section(Path("docs") / page, command, loader(form, command), show)


SECTIONS = {
    "results": Section(Path("docs/benchmarks.md"), "python -m benchmarks run", _load_report, _results),
    "trials": _section("benchmarks.md", TRIALS, "trials --out FILE.json", _trials),
    "stream": _section("streaming.md", STREAM, "stream", _stream),
    "training": _section("training.md", TRAINING, "train --out FILE.json", _training),
}
