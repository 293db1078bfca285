"""Prometheus' text format, version 0.0.4."""

from __future__ import annotations

from pix2pix_edge.runtime.frame import Histogram


class Metrics:
    """Collects metrics; str() gives the text."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, name: str, kind: str, help: str, *samples: tuple[dict[str, str], float | None]) -> None:
        """Add a metric with a value for each set of labels; what is None is not known, and left out."""
        known = [(labels, value) for labels, value in samples if value is not None]
        if known:
            self._head(name, kind, help)
        for labels, value in known:
            self._line(name, labels, value)

    def histogram(self, name: str, help: str, *samples: tuple[dict[str, str], Histogram]) -> None:
        """Add a histogram for each set of labels."""
        parts: list[tuple[str, dict[str, str], float]] = []
        for labels, found in samples:
            bounds = {f"{bound:g}": count for bound, count in found.below.items()} | {"+Inf": found.count}
            parts += [("_bucket", labels | {"le": bound}, count) for bound, count in bounds.items()]
            parts += [("_sum", labels, found.sum_s), ("_count", labels, found.count)]
        self._head(name, "histogram", help)
        for suffix, labels, value in parts:
            self._line(name + suffix, labels, value)

    def _head(self, name: str, kind: str, help: str) -> None:
        self._lines += [f"# HELP pix2pix_{name} {help}", f"# TYPE pix2pix_{name} {kind}"]

    def _line(self, name: str, labels: dict[str, str], value: float) -> None:
        inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        self._lines.append(f"pix2pix_{name}{{{inside}}} {value}" if inside else f"pix2pix_{name} {value}")

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
