"""The report as Markdown, and the folder that holds it: report.json, report.md, report.html, gallery/."""

from __future__ import annotations

from pathlib import Path

from pix2pix_edge.benchmarks.report.page import render_page
from pix2pix_edge.benchmarks.report.reader import FILE, write
from pix2pix_edge.benchmarks.report.schema import Report
from pix2pix_edge.benchmarks.report.table import bullets, markdown_table
from pix2pix_edge.benchmarks.report.tables import commands, detail_tables, machine_table, main_table
from pix2pix_edge.runtime.errors import printable
from pix2pix_edge.runtime.files import written_beside

TITLE = "pix2pix-edge benchmark"


def write_report(report: Report, folder: Path) -> None:
    """Write all three forms of a report, JSON first. Raises InputError when the folder cannot be written."""
    write(report, folder / FILE)
    for name, text in (("report.md", render_markdown(report)), ("report.html", render_page(report, folder))):
        with written_beside(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def render_markdown(report: Report) -> str:
    """Return report.md."""
    parts = [f"# {TITLE}", summary_text(report)]
    if report.warnings:
        parts.append("## Read with care\n\n" + bullets(report.warnings))
    tables = (*detail_tables(report), machine_table(report))
    parts += [f"## {table.heading}\n\n{markdown_table(table)}" for table in tables]
    parts.append("## To repeat it\n\n" + "\n".join(f"    {printable(command)}" for command in commands(report)))
    return "\n\n".join(parts) + "\n"


def summary_text(report: Report) -> str:
    """Return the main table with what must be said about it."""
    state = "" if report.complete else "**Interrupted: this is what was measured until then.**\n\n"
    return state + markdown_table(main_table(report))
