"""Predict how fast a board could run a graph at best, layer by layer: a roofline, not a measurement.

  python -m benchmarks predict out/facades.fp16.onnx --board orin-nano-super
  python -m benchmarks predict out/facades.int8.onnx --board here

A layer takes as long as its multiply-adds at the board's peak, or as its weights and activations at the memory's
bandwidth, whichever is longer (Williams, Waterman and Patterson, CACM 52(4), 2009). Only layers that multiply count: a
good engine fuses the others into them. `here` measures this machine's peak.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pix2pix_edge.benchmarks.machine.boards import BOARDS
from pix2pix_edge.benchmarks.report.table import Table, markdown_table, number
from pix2pix_edge.runtime.errors import InputError

if TYPE_CHECKING:
    from pix2pix_edge.export.inspect import LayerCost

HERE = "here"
MARK = "PREDICTION, not measured"


@dataclass(frozen=True)
class Floor:
    """The least time of a layer in milliseconds, and what bounds it: "compute" or "memory"."""

    layer: LayerCost
    milliseconds: float
    bound: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE.onnx", help="a graph written by: python -m export")
    parser.add_argument("--board", required=True, metavar="NAME", help=f"{HERE}, {', '.join(BOARDS)}")
    parser.add_argument("--top", type=int, default=12, metavar="N", help="layers to list, slowest first (default: 12)")


def run(args: argparse.Namespace) -> None:
    from pix2pix_edge.export.graph.graph import Graph
    from pix2pix_edge.export.inspect import count

    if args.board != HERE and args.board not in BOARDS:
        raise InputError(f"there is no board {args.board}; --board takes {HERE}, {', '.join(BOARDS)}")
    if args.top < 1:
        raise InputError(f"--top {args.top} must be 1 or more")
    layers = count(Graph.load(args.file))
    if args.board == HERE:
        from pix2pix_edge.benchmarks.measure.peak import measured_peak
        from pix2pix_edge.runtime.board import cpu_name

        peak = measured_peak()
        name, bandwidth = f"this machine ({cpu_name()}, its peak measured now)", peak.pop("bandwidth")
    else:
        board = BOARDS[args.board]
        name, peak, bandwidth = board.name, board.peak, board.bandwidth
    floors = predict(layers, peak, bandwidth, name)
    print(markdown_table(floor_table(floors, args.top)))
    total = sum(floor.milliseconds for floor in floors)
    memory = sum(floor.milliseconds for floor in floors if floor.bound == "memory")
    print(
        f"\n{MARK}: {args.file.name} takes at least {number(total)} ms on {name}, at most {number(1000 / total)} images"
        f" a second; {memory / total:.0%} of that is bound by memory."
    )


def predict(layers: Sequence[LayerCost], peak: dict[str, float], bandwidth: float, name: str) -> list[Floor]:
    """Return the floor of every layer that multiplies.

    peak: precision -> multiply-adds a second; bandwidth: bytes a second. Raises InputError for a precision that the
    board does not have, and for a graph without such layers.
    """
    floors = []
    for layer in layers:
        if not layer.multiply_adds:
            continue
        if layer.precision not in peak:
            raise InputError(
                f"{name} does not multiply in {layer.precision}, as layer {layer.name} asks; it has"
                f" {', '.join(peak)}: predict the file in one of these"
            )
        compute = layer.multiply_adds / peak[layer.precision]
        memory = (layer.weight_bytes + layer.read_bytes + layer.written_bytes) / bandwidth
        floors.append(Floor(layer, max(compute, memory) * 1e3, "compute" if compute >= memory else "memory"))
    if not floors:
        raise InputError("the graph has no convolution or matrix product to predict")
    return floors


def floor_table(floors: Sequence[Floor], top: int) -> Table:
    """Return the slowest layers and the sum of all."""
    total = sum(floor.milliseconds for floor in floors)
    slowest = sorted(floors, key=lambda floor: -floor.milliseconds)
    rows = [_row(f.layer.name, f.layer.precision, [f], f.bound, total) for f in slowest[:top]]
    if len(slowest) > top:
        rows.append(_row(f"{len(slowest) - top} more layers", "", slowest[top:], "", total))
    rows.append(_row("whole graph", "", floors, "", total))
    columns = ["layer", "precision", "multiply-adds, M", "moved, MB", "bound by", "predicted floor, ms", "share"]
    return Table(f"Roofline ({MARK})", columns, rows)


def _row(name: str, precision: str, floors: Sequence[Floor], bound: str, total: float) -> list[str]:
    layers = [floor.layer for floor in floors]
    moved = sum(layer.weight_bytes + layer.read_bytes + layer.written_bytes for layer in layers)
    took = sum(floor.milliseconds for floor in floors)
    return [
        name,
        precision,
        number(sum(layer.multiply_adds for layer in layers) / 1e6, 4),
        number(moved / 1e6),
        bound,
        number(took),
        f"{took / total:.0%}",
    ]
