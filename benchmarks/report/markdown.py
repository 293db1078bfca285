"""The report as Markdown, and the folder that holds it: report.json, report.md, report.html, gallery/."""

from __future__ import annotations

from pathlib import Path

from pix2pix_edge.benchmarks.report.page import render_page
from pix2pix_edge.benchmarks.report.schema import Report, save_report
from pix2pix_edge.benchmarks.report.tables import Table, commands, detail_tables, machine_table, main_table
from pix2pix_edge.runtime.files import written_beside

TITLE = "pix2pix-edge benchmark"


def write_report(report: Report, folder: Path) -> None:
    """Write all three forms of a report, JSON first. Raises InputError when the folder cannot be written."""
    save_report(report, folder)
    for name, text in (("report.md", render_markdown(report)), ("report.html", render_page(report, folder))):
        with written_beside(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def render_markdown(report: Report) -> str:
    """Return report.md."""
    parts = [f"# {TITLE}", summary_text(report)]
    if report["warnings"]:
        parts.append("## Read with care\n\n" + "\n".join(f"- {warning}" for warning in report["warnings"]))
    parts += [f"## {table.heading}\n\n{markdown_table(table)}" for table in detail_tables(report)]
    machine = machine_table(report)
    parts.append(f"## {machine.heading}\n\n{markdown_table(machine)}")
    parts.append("## To repeat it\n\n" + "\n".join(f"    {command}" for command in commands(report)))
    return "\n\n".join(parts) + "\n"


def summary_text(report: Report) -> str:
    """Return the main table with what must be said about it."""
    state = "" if report["complete"] else "**Interrupted: this is what was measured until then.**\n\n"
    return state + markdown_table(main_table(report))


def markdown_table(table: Table) -> str:
    """Return a table, with its notes below."""
    head = "| " + " | ".join(table.columns) + " |\n|" + "|".join([":--"] + ["--:"] * (len(table.columns) - 1)) + "|"
    if table.columns == ["", ""]:
        head = "| | |\n|:--|:--|"
    lines = [head, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table.rows)]
    return "\n".join(lines) + ("\n\n" + "\n".join(f"- {note}" for note in table.notes) if table.notes else "")
