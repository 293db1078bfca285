"""A table of text, and its one printer: Markdown, which a terminal shows as well."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from math import floor, isfinite, log10

from pix2pix_edge.runtime.errors import printable


@dataclass(frozen=True)
class Table:
    """A heading, column names, rows of cells, and lines to read below it. The first column is a name."""

    heading: str
    columns: list[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)


def escaped(text: str) -> str:
    """Return a text for HTML, where it stays text."""
    return html.escape(printable(text), quote=True)


def rounded(value: float, digits: int = 6) -> float:
    """Return a number with so many significant digits: a report that says more says it falsely."""
    if not isfinite(value) or value == 0:
        return value
    return round(value, digits - 1 - floor(log10(abs(value))))


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, without an exponent; "–" for None."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    value = rounded(value, digits)  # 99.96 is 100, not 100.0
    return f"{value:.{max(0, digits - 1 - floor(log10(abs(value))))}f}"


def markdown_table(table: Table) -> str:
    """Return a table, with its notes below. Cells hold whatever the user's files are called: they stay text."""
    titles = ["|", *(f" {title} |" if title else " |" for title in table.columns)]
    other = "--:" if any(table.columns) else ":--"
    lines = ["".join(titles), "|:--|" + f"{other}|" * (len(table.columns) - 1)]
    for row in table.rows:
        lines.append("| " + " | ".join(printable(cell).replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines) + ("\n\n" + bullets(table.notes) if table.notes else "")


def bullets(lines: list[str]) -> str:
    """Return lines as a Markdown list."""
    return "\n".join(f"- {printable(line)}" for line in lines)
