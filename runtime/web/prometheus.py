"""Prometheus' text format, version 0.0.4."""

from __future__ import annotations


class Metrics:
    """Collects metrics; str() gives the text."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, name: str, kind: str, help: str, *samples: tuple[dict[str, str], float | None]) -> None:
        """Add a metric with a value for each set of labels; what is None is not known, and left out."""
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            self._lines.append(f"# HELP pix2pix_{name} {help}")
            self._lines.append(f"# TYPE pix2pix_{name} {kind}")
        for labels, value in known:
            inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            self._lines.append(f"pix2pix_{name}{{{inside}}} {value}" if inside else f"pix2pix_{name} {value}")

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"


def printable(text: str) -> str:
    """Return a text without what no screen shows: control characters, and bytes of a name that are not UTF-8."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
