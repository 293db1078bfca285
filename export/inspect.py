"""Count what an ONNX graph costs, layer by layer: multiply-adds, bytes of weights and activations, precision.

  python -m export inspect exported/facades.fp32.onnx
  python -m export inspect exported/facades.int8.onnx

Where the sidecar tells, it also shows what each rewrite saved, and what each layer's precision costs in fidelity.

A multiply-add is one multiplication of an activation by a weight; padding is counted, as is usual, and so is what a
transposed convolution computes and crops. Numbers are for one run of the graph; a free batch counts as 1.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from pix2pix_edge.runtime.engine import check_file
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.sidecar import Rewrite, Sidecar, read_sidecar

if TYPE_CHECKING:
    import onnx

    from pix2pix_edge.export.graph.graph import Graph

QUANTIZING = ("QuantizeLinear", "DequantizeLinear")
COMPUTING = ("Conv", "ConvTranspose", "Gemm", "MatMul")
PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}


@dataclass(frozen=True)
class LayerCost:
    """What one node costs for one run of the graph, as if no engine fused it with its neighbours.

    Bytes of activations are those that are stored: next to Q/DQ nodes, the quantised ones; those nodes themselves cost
    nothing. precision: "fp32", "fp16", "bf16", "fp64" or "int8" (data and weights both dequantised), else the type of
    the data.
    """

    name: str
    op: str
    output: tuple[int, ...]
    multiply_adds: int
    weight_bytes: int
    read_bytes: int
    written_bytes: int
    precision: str


def count(graph: Graph) -> list[LayerCost]:
    """Return the cost of every node but Q/DQ and what follows from constants alone, in the graph's order.

    Raises InputError for unknown shapes.
    """
    shapes, dtypes = graph.shapes(), graph.dtypes()
    producers, consumers = graph.producers(), graph.consumers()

    def nbytes(name: str) -> int:
        return prod(shapes[name]) * dtypes[name].itemsize

    def codes(name: str) -> str | None:
        maker = producers.get(name)
        if maker is not None and maker.op_type == "Transpose":  # the image is dequantised before it is transposed
            maker = producers.get(maker.input[0])
        return maker.input[0] if maker is not None and maker.op_type == "DequantizeLinear" else None

    def narrow(name: str) -> str | None:
        """Return the codes of weights that are said as a cast and a product (export/graph/layout.py)."""
        product = producers.get(name)
        cast = producers.get(product.input[0]) if product is not None and product.op_type == "Mul" else None
        return cast.input[0] if cast is not None and cast.input[0] in graph.constants else None

    def constant(name: str) -> bool:  # weights may be quantised in the graph
        maker = producers.get(name)
        return name in graph.constants or (
            maker is not None and maker.op_type == "QuantizeLinear" and constant(maker.input[0])
        )

    def stored(name: str) -> str:
        readers = consumers.get(name, [])
        return readers[0].output[0] if readers and all(n.op_type == "QuantizeLinear" for n in readers) else name

    costs = []
    for node in graph.nodes:
        if node.op_type in QUANTIZING or narrow(node.output[0]) or set(node.input) <= graph.constants.keys():
            continue
        inputs = [codes(name) or narrow(name) or name for name in node.input if name]
        constants = [name for name in inputs if constant(name)]
        weights = [name for name in constants if dtypes[name] != "int64" and node.op_type != "Resize"]
        computing = node.op_type in COMPUTING
        int8 = computing and all(map(codes, node.input[:2]))
        kind = str(dtypes[node.input[0]])
        costs.append(
            LayerCost(
                node.name,
                node.op_type,
                shapes[node.output[0]],
                _multiply_adds(node, shapes) if computing else 0,
                sum(nbytes(name) for name in weights),
                sum(nbytes(name) for name in inputs if name not in constants),
                sum(nbytes(stored(name)) for name in node.output),
                "int8" if int8 else PRECISIONS.get(kind, kind),
            )
        )
    return costs


def _multiply_adds(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    data, weight, output = shapes[node.input[0]], shapes[node.input[1]], shapes[node.output[0]]
    if node.op_type == "Conv":  # weight [out, in / group, kernel…]
        return prod(output) * prod(weight[1:])
    if node.op_type == "ConvTranspose":  # weight [in, out / group, kernel…]
        return prod(data) * prod(weight[1:])
    transposed = node.op_type == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute)
    return prod(output) * data[0 if transposed else -1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="an .onnx file; its sidecar is read where there is one")


def run(args: argparse.Namespace) -> None:
    from pix2pix_edge.export.graph.graph import Graph

    check_file(args.file, (".onnx",))
    graph = Graph.load(args.file)
    if not graph.model.graph.input or not graph.model.graph.output:
        raise InputError(f"{args.file} has no input or no output, so it computes nothing; export its model again")
    if any(not dim.dim_value for dim in graph.input.type.tensor_type.shape.dim[1:]):
        raise InputError(
            f"{args.file} has open sizes, by which its cost is decided; choose one, and inspect the result:"
            f" python -m export convert {shlex.quote(str(args.file))} --out DIR --size 256x256"
        )
    for dim in graph.input.type.tensor_type.shape.dim[:1]:
        dim.dim_value = dim.dim_value or 1
    graph.output.type.tensor_type.ClearField("shape")  # inferred anew from the input
    sidecar = read_sidecar(args.file) or Sidecar()
    try:
        costs = count(graph)
    except InputError as error:
        raise InputError(f"{args.file}: {error}") from error
    print("\n".join(describe(costs, sidecar)))


def describe(costs: Sequence[LayerCost], sidecar: Sidecar) -> list[str]:
    """Return the lines that `inspect` prints: layers that compute, everything else in one line, totals, rewrites."""
    lost = {layer: f"{psnr_db:.1f} dB" for layer, psnr_db in sidecar.sensitivity.items()}
    found = sidecar.precision.layers
    layers = [cost for cost in costs if cost.multiply_adds]
    others = [cost for cost in costs if not cost.multiply_adds]
    header = ["layer", "operator", "output", "multiply-adds", "weights", "activations", "precision"]
    rows = [
        [
            cost.name,
            cost.op,
            "×".join(map(str, cost.output[1:])),
            *_amounts([cost]),
            found.get(cost.name, cost.precision),
        ]
        for cost in layers
    ]
    rows.append([f"{len(others)} others", "", "", *_amounts(others), ""])
    rows.append(["total", "", "", *_amounts(costs), ""])
    if lost:
        header.append("costs")
        rows = [[*row, lost.get(row[0], "")] for row in rows]
    lines = [*_table(header, rows, left=3), *_describe_rewrites(sidecar.rewrites, costs)]
    if sidecar.backends:
        from pix2pix_edge.export.backends import verdict_lines  # whose OpenCV takes a tenth of a second

        lines += ["", "on a CPU:", *verdict_lines(sidecar.backends)]
    return lines


def _describe_rewrites(rewrites: Sequence[Rewrite], costs: Sequence[LayerCost]) -> list[str]:
    counted = [entry for entry in rewrites if any(entry.multiply_adds)]
    lines = []
    if counted:
        rows = [
            [
                entry.layer,
                entry.form,
                " → ".join(multiples(n) for n in entry.multiply_adds),
                " → ".join(megabytes(n) for n in entry.weight_bytes),
            ]
            for entry in counted
        ]
        after = sum(cost.multiply_adds for cost in costs)
        before = after + sum(entry.multiply_adds[0] - entry.multiply_adds[1] for entry in counted)
        rows.append(["whole graph", "", f"{multiples(before)} → {multiples(after)}", ""])
        lines += ["", *_table(["rewritten", "form", "multiply-adds", "weights"], rows, left=2)]
    absorbed = [entry for entry in rewrites if entry not in counted and not entry.reason]
    if absorbed:
        kinds = sorted({entry.rewrite for entry in absorbed})
        lines += ["", f"absorbed by their neighbours: {len(absorbed)} nodes ({', '.join(kinds)})"]
    lines += [f"left alone: {entry.layer}: {entry.reason}" for entry in rewrites if entry.reason]
    return lines


def _amounts(costs: Iterable[LayerCost]) -> list[str]:
    costs = list(costs)
    return [
        multiples(sum(cost.multiply_adds for cost in costs)),
        megabytes(sum(cost.weight_bytes for cost in costs)),
        megabytes(sum(cost.read_bytes + cost.written_bytes for cost in costs)),
    ]


def multiples(number: int) -> str:
    """Return a number of multiply-adds for people: "6.52 G"."""
    return f"{number / 1e9:.2f} G" if number >= 1e9 else f"{number / 1e6:.2f} M"


def megabytes(number: int) -> str:
    """Return a number of bytes for people: "10.52 MB", "8.30 kB"."""
    return f"{number / 1e6:.2f} MB" if number >= 1e5 else f"{number / 1e3:.2f} kB"


def _table(header: list[str], rows: list[list[str]], left: int) -> list[str]:
    """Align columns, the first `left` of them to the left."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return [
        "  ".join(f"{cell:{'<' if i < left else '>'}{widths[i]}}" for i, cell in enumerate(row)).rstrip()
        for row in [header, *rows]
    ]
