"""Write the result tables of docs/benchmarks.md from the committed reports; nobody types a number.

  python -m benchmarks docs                                take the JSON files in docs/benchmarks as they are
  python -m benchmarks docs --results report/report.json   first make this the published report
  python -m benchmarks docs --trials trials.json           first make these the published trials

Run it in the root of a checkout, and commit docs/benchmarks.md with docs/benchmarks/.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runtime.errors import InputError
from runtime.files import written_beside

PAGE = Path("docs/benchmarks.md")
FOLDER = Path("docs/benchmarks")
ABSENT = "Not measured yet."
UNPUBLISHED = ("quantiles_ms", "ages_ms", "psnr_each_db")
"""Long lists that no table needs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=Path, metavar="FILE.json", help="a report to publish, or its folder")
    parser.add_argument("--trials", type=Path, metavar="FILE.json", help="what `benchmarks trials --out` wrote")


def run(args: argparse.Namespace) -> None:
    from benchmarks.schema import load_report

    if not PAGE.is_file():
        raise InputError(f"there is no {PAGE} here; run this in the root of a checkout of pix2pix-edge")
    if args.results:
        _publish("results", publishable(load_report(args.results)))
    if args.trials:
        _publish("trials", load_trials(args.trials))
    text = render(PAGE.read_text(encoding="utf-8"), FOLDER)
    with written_beside(PAGE) as temporary:
        temporary.write_text(text, encoding="utf-8")
    print(f"wrote {PAGE}")


def render(page: str, folder: Path) -> str:
    """Return the page with every generated section written anew from the JSON files in `folder`.

    A section lies between <!-- NAME: generated --> and <!-- end of NAME -->. Raises InputError when one is missing.
    """
    for name, section in SECTIONS.items():
        pattern = re.compile(rf"(<!-- {name}: generated[^>]*-->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if not pattern.search(page):
            raise InputError(f"{PAGE} has lost the marks of its section {name}; restore them from git")
        file = folder / f"{name}.json"
        content = section(file) if file.is_file() else ABSENT
        page = pattern.sub(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", page)  # type: ignore[misc]
    return page


def publishable(report: dict[str, Any]) -> dict[str, Any]:
    """Return a report without what only its plots and its gallery need: the pictures are the user's own."""

    def slim(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: slim(item) for key, item in value.items() if key not in UNPUBLISHED}
        return [slim(item) for item in value] if isinstance(value, list) else value

    slimmed: dict[str, Any] = slim(report)
    return slimmed | {"gallery": []}


def _publish(name: str, content: dict[str, Any]) -> None:
    with written_beside(FOLDER / f"{name}.json") as temporary:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        # a list of numbers is one line, and not one for each of them
        text = re.sub(r"\[[-\d.,\s]+\]", lambda found: " ".join(found[0].split()), text)
        temporary.write_text(text + "\n", encoding="utf-8")


def load_trials(file: Path) -> dict[str, Any]:
    """Read what `benchmarks trials` wrote. Raises InputError."""
    from benchmarks.trials import FORMAT

    try:
        content: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} cannot be read as JSON ({error}); make it with: python -m benchmarks trials"
        ) from error
    if content.get("format") != FORMAT:
        raise InputError(f"{file} was not written by this version's: python -m benchmarks trials --out")
    return content


def _results(file: Path) -> str:
    from benchmarks.report import markdown_table
    from benchmarks.schema import load_report
    from benchmarks.tables import detail_tables, machine_table, main_table

    report = load_report(file)
    tables = [main_table(report), *(t for t in detail_tables(report) if t.heading in ("Cost", "Fidelity"))]
    parts = [f"### {table.heading}\n\n{markdown_table(table)}" for table in (*tables, machine_table(report))]
    if report["warnings"]:
        parts.append("### Read with care\n\n" + "\n".join(f"- {warning}" for warning in report["warnings"]))
    return "\n\n".join([*parts, f"Measured with:\n\n    {report['command']}"])


def _trials(file: Path) -> str:
    from benchmarks.trials import sentence

    content = load_trials(file)
    busy = content.get("busy_before")
    where = content["machine"].get("cpu", "this machine") + ("" if busy is None else f", {busy:.0%} busy at the start")
    others = content.get("others")
    where += "" if others is None else f" and {others:.0%} used by others meanwhile"
    return f"With {content['engine']} on {where}: {sentence(content)}."


SECTIONS: dict[str, Callable[[Path], str]] = {"trials": _trials, "results": _results}
