"""Graphs that would fill the memory, by one operator or by a chain that grows: refused before anything is computed."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import resource
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.sizes import check_sizes
from pix2pix_edge.runtime.errors import EngineError, InputError
from tests.commands import python
from tests.runtime.engines.test_onnx_file import SHAPE, number, save

Nodes = list[onnx.NodeProto]
CONSTANTS = [number(value, name) for name, value in {
    "shape": SHAPE, "fours": [4, 4, 4, 4], "pads": [0, 4000, 4000, 0] * 2, "large": [1, 1 << 12, 1 << 12, 64],
    "column": [-1, 1], "row": [1, -1], "zero": 0, "one": 1, "many": 1 << 40, "off_on": [0, 1],
    "rows": [1, 1, 8, 24], "kernel": [1, 1, 1 << 12, 1 << 12], "indices": [1 << 12, 1 << 12, 1],
}.items()] + [number([1, 9, 9, 1], "scales", np.float32), number(1, "unit", np.float32)]  # fmt: skip


def make(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    """Return a node; "-" stands for an input that is left out."""
    return helper.make_node(operator, inputs.replace("-", " ").split(" ") if inputs else [], [output], **attributes)


def picture(name: str) -> Nodes:
    """Return what makes the picture of our contract from any tensor."""
    return [make("Cast", name, "numbers", to=TensorProto.INT32), make("ReduceMax", "numbers", "max", keepdims=0),
            make("Cast", "max", "byte", to=TensorProto.UINT8), make("Expand", "byte shape", "translated")]  # fmt: skip


def cast(kind: int) -> onnx.NodeProto:
    return make("Cast", "image", "x0", to=kind)


def chain(times: int, operator: str, inputs: str, **attributes: Any) -> Nodes:
    """Return operators after each other, of which each reads what the one before it made as X, column C and row R."""
    nodes: Nodes = []
    for i in range(times):
        nodes += [make("Reshape", f"x{i} column", f"c{i}"), make("Reshape", f"x{i} row", f"r{i}")]
        names = inputs.replace("X", f"x{i}").replace("C", f"c{i}").replace("R", f"r{i}")
        nodes.append(make(operator, names, f"x{i + 1}", **attributes))
    return [*nodes, *picture(f"x{times}")]


BYTES, FLOATS, NUMBERS = (cast(kind) for kind in (TensorProto.UINT8, TensorProto.FLOAT, TensorProto.INT64))
WIDE = [make("Concat", " ".join(["image"] * 2000), "wide", axis=0)]
HELD = [*WIDE, *(make("Cast", "wide", f"d{n}", to=TensorProto.DOUBLE) for n in range(1500))]
GROWING: dict[str, Nodes] = {
    "Concat": [BYTES, *chain(23, "Concat", "X X", axis=0)],
    "Concat of a constant": [make("Identity", "large", "x0"), *chain(27, "Concat", "X X", axis=0)],
    "Concat of a shape": [make("Shape", "image", "x0"), *chain(40, "Concat", "X X", axis=0)],
    "Pad": [BYTES, *chain(20, "Pad", "X pads")],
    "Tile": [BYTES, *chain(6, "Tile", "X fours")],
    "Expand": [make("Expand", "one large", "e"), *picture("e")],
    "ConstantOfShape": [make("Mul", "large fours", "s"), make("ConstantOfShape", "s", "c"), *picture("c")],
    "Resize": [FLOATS, *chain(5, "Resize", "X--scales")],
    "Add": [FLOATS, *chain(3, "Add", "C R")],
    "MatMul": [FLOATS, *chain(3, "MatMul", "C R")],
    "Einsum": [FLOATS, *chain(3, "Einsum", "C R", equation="ij,kl->il")],
    "Gather": [NUMBERS, make("Mul", "x0 zero", "i"), *chain(4, "Gather", "X i")],
    "GatherND": [make("Expand", "zero indices", "i"), make("GatherND", "image i", "g"), *picture("g")],
    "ConvTranspose": [FLOATS, make("Expand", "unit kernel", "w"), make("Reshape", "x0 rows", "x"),
                      make("ConvTranspose", "x w", "c"), *picture("c")],
    "Range": [make("Range", "zero many one", "r"), *picture("r")],
    "OneHot": [NUMBERS, make("OneHot", "x0 many off_on", "o"), *picture("o")],
    "NonZero": [make("NonZero", "image", "n"), make("Reshape", "n row", "x0"), *chain(3, "Concat", "X X", axis=0)],
    "RandomNormal": [make("RandomNormal", "", "r", shape=[1 << 20, 1 << 20]), *picture("r")],
    "SequenceInsert": [make("SequenceConstruct", "image image", "s"), make("SequenceInsert", "s image", "t"),
                       make("ConcatFromSequence", "t", "c", axis=0), *picture("c")],
    "Max": [*HELD, make("Max", " ".join(f"d{n}" for n in range(1500)), "all"), *picture("all")],
}  # fmt: skip


@pytest.fixture
def little_memory() -> Any:
    """A refusal that comes too late fails here, not on the machine."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (3 << 30), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("kind", GROWING)
def test_a_graph_that_grows_is_refused_before_anything_is_computed(tmp_path: Path, kind: str) -> None:
    path = save(tmp_path / "grows.onnx", GROWING[kind], CONSTANTS)
    said = "absurd|only a run would tell|Type 'seq"
    for backend in filter(importlib.util.find_spec, ("onnxruntime", "openvino")):
        with pytest.raises(EngineError, match=rf"grows\.onnx .*({said}).*python -m export convert") as caught:
            open_engine(path, backend=backend)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    with contextlib.suppress(InputError):  # it computes nothing, and so may know more
        Graph.load(path).shapes()


@pytest.mark.parametrize("kind", ["Tile", "ConstantOfShape"])
def test_a_foreign_graph_that_grows_is_not_converted(tmp_path: Path, kind: str) -> None:
    """Its sizes may be known only by a run, which has a limit; so it has a process of its own.

    Where memory ends, a thread of Python can end with a lock in its hands, and every later one waits for that.
    """
    path = save(tmp_path / "grows.onnx", GROWING[kind], CONSTANTS)
    done = python("-m", "export", "convert", path, "--out", tmp_path)
    assert done.returncode == 2 and re.search(r"^error: .*(absurd|cannot run .*grows\.onnx)", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr and not list(tmp_path.glob("*.fp32.onnx"))


def test_a_large_picture_is_no_absurd_size(tmp_path: Path) -> None:
    """Three tensors of 2048 x 2048 x 24 float32 at once: more than any example, and no more than memory has."""
    shape = [1, 2048, 2048, 3]
    wide = [make("Concat", " ".join(["image"] * 8), "wide", axis=3), make("Cast", "wide", "x0", to=TensorProto.FLOAT),
            *(make(f, f"x{i}", f"x{i + 1}") for i, f in enumerate(["Relu", "Tanh", "Exp"] * 9)),
            make("Identity", "image", "translated")]  # fmt: skip
    check_sizes(save(tmp_path / "large.onnx", wide, shapes=(shape, shape)))
