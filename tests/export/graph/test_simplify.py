"""Each pass alone leaves the function of a graph as it is, and does what it says."""

from __future__ import annotations

import numpy as np

from pix2pix_edge.export.graph.simplify import cancel_transposes, fold_constants, readable_names
from tests.export.graph.test_upsample import graph_of, operators, random, run


def test_constants_are_folded_and_remember_where_they_come_from() -> None:
    graph = graph_of(
        """weight = Constant <value_floats = [1.0, 2.0, 3.0, 4.0]>()  two = Constant <value = float {2.0}>()
        shape = Constant <value_ints = [1, 4, 1, 1]>()
        bent = Reshape(weight, shape)  doubled = Mul(bent, two)  y = Add(x, doubled)""",
        (1, 4, 2, 2),
        (1, 4, 2, 2),
    )
    x = random((1, 4, 2, 2))
    expected = run(graph, x)
    assert fold_constants(graph) == {"bent": "weight", "doubled": "weight"}
    assert operators(graph) == ["Add"]
    assert list(graph.constants) == ["doubled"]
    assert np.array_equal(run(graph, x), expected)


def test_shapes_that_are_known_are_folded() -> None:
    graph = graph_of(
        """flat = Constant <value_ints = [-1]>()
        r = Relu(x)  s = Shape(r)  n = ReduceProd <keepdims = 1> (s)  a = Reshape(r, n)  t = Shape(a)
        one = Constant <value_ints = [1]>()  u = Concat <axis = 0> (one, t)  y = Reshape(a, u)""",
        (1, 4, 2, 2),
        (1, 16),
    )
    x = random((1, 4, 2, 2))
    expected = run(graph, x)
    fold_constants(graph)
    assert operators(graph) == ["Relu", "Reshape", "Reshape"]
    assert np.array_equal(run(graph, x), expected)


def test_random_numbers_and_the_output_are_not_constants() -> None:
    graph = graph_of(
        "shape = Constant <value_ints = [1, 2]>() r = RandomNormal <shape = [1, 2], seed = 1.0> () y = Add(x, r)",
        (1, 2),
        (1, 2),
    )
    fold_constants(graph)
    assert operators(graph) == ["RandomNormal", "Add"]


def test_transposes_that_undo_each_other_vanish_past_elementwise_operators() -> None:
    graph = graph_of(
        """slope = Constant <value_floats = [0.1, 0.2, 0.3]>()
        a = Transpose <perm = [0, 2, 3, 1]> (x)  b = Sigmoid(a)  c = Mul(a, b)  d = PRelu(c, slope)
        y = Transpose <perm = [0, 3, 1, 2]> (d)""",
        (1, 3, 4, 5),
        (1, 3, 4, 5),
    )
    x = random((1, 3, 4, 5))
    expected = run(graph, x)
    cancel_transposes(graph)
    graph.check()
    assert operators(graph) == ["Sigmoid", "Mul", "PRelu"]
    assert np.array_equal(run(graph, x), expected)


def test_a_transpose_that_cannot_be_cancelled_stays_where_it_is() -> None:
    graph = graph_of("a = Transpose <perm = [0, 2, 3, 1]> (x)  y = Relu(a)", (1, 3, 4, 5), (1, 4, 5, 3))
    before = graph.to_model().SerializeToString()
    cancel_transposes(graph)
    assert graph.to_model().SerializeToString() == before


def test_mixed_layouts_are_not_confused() -> None:
    graph = graph_of(
        """a = Transpose <perm = [0, 2, 3, 1]> (x)  b = Transpose <perm = [0, 3, 2, 1]> (x)
        c = Add(a, b)  y = Transpose <perm = [0, 3, 1, 2]> (c)""",
        (1, 3, 4, 4),
        (1, 3, 4, 4),
    )
    x = random((1, 3, 4, 4))
    expected = run(graph, x)
    cancel_transposes(graph)
    assert np.array_equal(run(graph, x), expected)


def test_names_follow_the_layers() -> None:
    graph = graph_of(
        """k = Constant <value = float[3, 3, 1, 1] {1, 2, 3, 4, 5, 6, 7, 8, 9}>()
        two = Constant <value = float {2.0}>()  a = Mul(x, two)
        b = Conv(a, k)  c = LeakyRelu(b)  d = Conv(c, k)  e = Tanh(d)  y = Mul(e, two)""",
        (1, 3, 4, 4),
        (1, 3, 4, 4),
    )
    readable_names(graph, {"k": "down1"})
    assert [node.name for node in graph.nodes] == [
        "input/mul", "down1/conv", "down1/leaky_relu", "down1/conv_2", "down1/tanh", "output/mul",
    ]  # fmt: skip
    assert list(graph.constants) == ["input/mul:constant", "down1/conv:weight"]
    assert list(graph.nodes[2].output) == ["down1/leaky_relu:out"]
    assert (graph.input.name, graph.output.name) == ("x", "y")
    graph.check()
