"""Each pass alone leaves the function of a graph as it is, and does what it says."""

from __future__ import annotations

import numpy as np
import pytest

from pix2pix_edge.export.graph.simplify import fold_constants, readable_names
from tests.export.arithmetic import graph_of, operators, random, run


@pytest.mark.parametrize(
    ("body", "result", "left"),
    [
        pytest.param(
            """weight = Constant <value_floats = [1.0, 2.0, 3.0, 4.0]>()  two = Constant <value = float {2.0}>()
            shape = Constant <value_ints = [1, 4, 1, 1]>()
            bent = Reshape(weight, shape)  doubled = Mul(bent, two)  y = Add(x, doubled)""",
            (1, 4, 2, 2), ["Add"], id="constants",
        ),
        pytest.param(
            """flat = Constant <value_ints = [-1]>()
            r = Relu(x)  s = Shape(r)  n = ReduceProd <keepdims = 1> (s)  a = Reshape(r, n)  t = Shape(a)
            one = Constant <value_ints = [1]>()  u = Concat <axis = 0> (one, t)  y = Reshape(a, u)""",
            (1, 16), ["Relu", "Reshape", "Reshape"], id="shapes that are known",
        ),
        pytest.param(
            """kept = Constant <value = bool[4] {1, 0, 1, 1}>()  c = Compress <axis = 1> (x, kept)
            s = Shape(c)  e = ConstantOfShape(s)  y = Add(c, e)""",
            (1, 3, 2, 2), ["Gather", "Add"], id="the shape of a choice of known places",
        ),
    ],
)  # fmt: skip
def test_folded(body: str, result: tuple[int, ...], left: list[str]) -> None:
    graph = graph_of(body, {}, (1, 4, 2, 2), result, "float")
    x = random(1, 4, 2, 2).astype(np.float32)
    expected = run(graph, x)
    sources = fold_constants(graph)
    assert operators(graph) == left
    assert np.array_equal(run(graph, x), expected)
    if left == ["Add"]:  # constants remember where they come from
        assert sources == {"bent": "weight", "doubled": "weight"} and list(graph.constants) == ["doubled"]


def test_random_numbers_and_the_output_are_not_constants() -> None:
    graph = graph_of(
        "shape = Constant <value_ints = [1, 2]>() r = RandomNormal <shape = [1, 2], seed = 1.0> () y = Add(x, r)",
        {},
        (1, 2),
        (1, 2),
        "float",
    )
    fold_constants(graph)
    assert operators(graph) == ["RandomNormal", "Add"]


def test_names_follow_the_layers() -> None:
    graph = graph_of(
        """k = Constant <value = float[3, 3, 1, 1] {1, 2, 3, 4, 5, 6, 7, 8, 9}>()
        two = Constant <value = float {2.0}>()  a = Mul(x, two)
        b = Conv(a, k)  c = LeakyRelu(b)  d = Conv(c, k)  e = Tanh(d)  y = Mul(e, two)""",
        {},
        (1, 3, 4, 4),
        (1, 3, 4, 4),
        "float",
    )
    readable_names(graph, {"k": "down1"})
    assert [node.name for node in graph.nodes] == [
        "input/mul", "down1/conv", "down1/leaky_relu", "down1/conv_2", "down1/tanh", "output/mul",
    ]  # fmt: skip
    assert list(graph.constants) == ["input/mul:constant", "down1/conv:weight"]
    assert list(graph.nodes[2].output) == ["down1/leaky_relu:out"]
    assert (graph.input.name, graph.output.name) == ("x", "y")
    graph.check()
