"""The graph editor: names, shapes, editing, sorting, and files that are no ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from pix2pix_edge.export.graph.graph import Graph, attributes
from pix2pix_edge.runtime.errors import InputError
from tests.conftest import write_inverter

TEXT = """
<ir_version: 8, opset_import: ["" : 18]>
small (float[1,2,4,4] x) => (float[1,2,4,4] y) {
  two = Constant <value = float {2.0}>()
  shape = Constant <value_ints = [1, 2, 16]>()
  a = Mul(x, two)
  flat = Reshape(a, shape)
  unused = Neg(flat)
  b = Relu(a)
  y = Add(b, two)
}
"""


def small() -> Graph:
    model = onnx.parser.parse_model(TEXT)
    for number, node in enumerate(model.graph.node):
        node.name = f"{node.op_type.lower()}{number}"
    return Graph(model)


def test_constants_of_every_form_become_arrays() -> None:
    graph = small()
    assert graph.constants["two"] == np.float32(2)
    assert graph.constants["shape"].tolist() == [1, 2, 16]
    assert [node.op_type for node in graph.nodes] == ["Mul", "Reshape", "Neg", "Relu", "Add"]


def test_producers_consumers_shapes_and_types() -> None:
    graph = small()
    assert graph.producers()["b"].op_type == "Relu"
    assert [node.op_type for node in graph.consumers()["a"]] == ["Reshape", "Relu"]
    assert graph.shapes() == {
        "two": (), "shape": (3,), "x": (1, 2, 4, 4), "a": (1, 2, 4, 4), "flat": (1, 2, 16), "unused": (1, 2, 16),
        "b": (1, 2, 4, 4), "y": (1, 2, 4, 4),
    }  # fmt: skip
    assert graph.dtypes()["a"] == np.float32
    assert graph.opset == 18


def test_shapes_do_not_depend_on_large_constants() -> None:
    graph = small()
    add = graph.nodes[-1]
    add.input[1] = graph.constant("weights", np.zeros((1, 2, 4, 4), np.float32).repeat(2, 0))
    graph.model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2
    assert graph.shapes()["y"] == (2, 2, 4, 4)


def test_an_unknown_dimension_is_refused_by_name() -> None:
    graph = small()
    graph.input.type.tensor_type.shape.dim[0].dim_param = "batch"
    graph.nodes = [graph.nodes[0], graph.nodes[3], graph.nodes[4]]
    with pytest.raises(InputError, match="tensor a has an unknown dimension"):
        graph.shapes()
    assert "a" not in graph.known_shapes()


def test_a_new_name_is_never_taken() -> None:
    graph = small()
    assert graph.name("x") == "x_2"  # an input
    assert graph.name("relu5") == "relu5_2"  # a node
    assert graph.constant("two", np.float32(3)) == "two_2"
    assert [graph.name("new"), graph.name("new")] == ["new", "new_2"]


def test_replace_keeps_the_order() -> None:
    graph = small()
    mul, relu = graph.nodes[0], graph.nodes[3]
    abs_ = graph.node("Abs", ["x"], "abs")
    graph.replace([mul, relu], [abs_, graph.node("Neg", abs_.output, "neg", "b")])
    assert [node.name for node in graph.nodes] == ["reshape3", "neg4", "abs", "neg", "add6"]


def test_sort_orders_and_prunes() -> None:
    graph = small()
    graph.nodes.reverse()
    graph.sort()
    assert [node.op_type for node in graph.nodes] == ["Mul", "Relu", "Add"]
    assert list(graph.constants) == ["two"]
    graph.check()


def test_rename_and_relabel() -> None:
    graph = small()
    graph.rename("b", "a")
    assert list(graph.nodes[-1].input) == ["a", "two"]
    graph.relabel({"add6": "last"}, {"a": "scaled", "two": "factor"})
    graph.sort()
    assert [node.name for node in graph.nodes] == ["mul2", "last"]
    assert list(graph.nodes[0].output) == ["scaled"]
    assert list(graph.constants) == ["factor"]
    assert graph.name("scaled") == "scaled_2"
    assert graph.name("a") == "a"
    graph.check()


def test_to_model_and_back(tmp_path: Path) -> None:
    graph = small()
    graph.sort()
    model = graph.to_model()
    onnx.save(model, tmp_path / "small.onnx")
    again = Graph.load(tmp_path / "small.onnx")
    assert again.to_model().SerializeToString() == model.SerializeToString()
    assert again.model.ir_version == 8


def test_attributes_as_python_values() -> None:
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 2, 2], group=1)
    assert attributes(node) == {"pads": [1, 1, 2, 2], "group": 1}


def test_half_a_file_is_no_onnx(tmp_path: Path) -> None:
    path = write_inverter(tmp_path / "cut.onnx")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=r"cut\.onnx cannot be opened as an exported graph"):
        Graph.load(path)
