"""Graphs as a CPU runs them fastest compute what they did, to the bit but for the order of sums."""

from __future__ import annotations

import numpy as np
import pytest

from pix2pix_edge.export.graph.graph import Graph, attributes
from pix2pix_edge.export.graph.layout import arrange
from tests.export.arithmetic import Array, graph_of, model_of, operators, random, run

ROWS = ["Split", "Transpose", "Reshape", "Transpose", "Reshape", "Concat", "Reshape"]
TO_PIXELS = """t = Tanh(s) a = Add(t, one) m = Mul(a, half) r = Round(m)
    p = Transpose <perm = [0, 2, 3, 1]> (r) y = Cast <to = 2> (p)"""
CONSTANTS = {"one": np.array(1.0), "half": np.array(127.5)}


def boxed(channels: int, kernel: int, cells: int = 5) -> Graph:
    """A map of phases, interleaved, summed over a box of its own for each channel, as a picture."""
    size = 2 * cells - kernel + 1
    box, bias = random(channels, 1, kernel, kernel), random(channels)
    body = f'd = DepthToSpace <blocksize = 2, mode = "DCR"> (x) s = Conv <group = {channels}> (d, w, b)'
    model = model_of(
        f"(double[2, {4 * channels}, {cells}, {cells}] x) => (uint8[2, {size}, {size}, {channels}] y)",
        f"{body} {TO_PIXELS}",
        CONSTANTS | {"w": box, "b": bias},
    )
    return Graph(model)


@pytest.mark.parametrize(("channels", "kernel"), [(1, 3), (3, 3), (4, 3), (3, 5), (2, 1)])
def test_a_box_of_few_channels_is_a_convolution_of_the_phases(channels: int, kernel: int) -> None:
    graph = boxed(channels, kernel)
    arranged = arrange(graph)
    assert operators(arranged) == ["Conv", "Tanh", "Add", "Mul", "Round", "Cast", *ROWS]
    x = random(2, 4 * channels, 5, 5)
    assert np.array_equal(run(arranged, x), run(graph, x))
    assert operators(graph)[0] == "DepthToSpace"  # the one given is left as it was


@pytest.mark.parametrize("other", [boxed(5, 3), boxed(3, 2)])
def test_other_boxes_stay(other: Graph) -> None:
    arranged = arrange(other)
    channels = other.constants["w"].shape[0]
    assert [attributes(node)["group"] for node in arranged.nodes if node.op_type == "Conv"] == [channels]
    x = random(2, 4 * channels, 5, 5)
    assert np.array_equal(run(arranged, x), run(other, x))


@pytest.mark.parametrize("block", [2, 3])
def test_interleaving_moves_runs(block: int) -> None:
    source, result = (2, 5 * block**2, 3, 4), (2, 5, 3 * block, 4 * block)
    graph = graph_of(f"d = DepthToSpace <blocksize = {block}> (x) y = Add(d, shift)",
                     {"shift": random(1, 5, 1, 1)}, source, result)  # fmt: skip
    arranged = arrange(graph)
    assert operators(arranged) == ["Transpose", "Reshape", "Transpose", "Reshape", "Transpose", "Add"]
    assert np.array_equal(run(arranged, random(*source)), run(graph, random(*source)))


@pytest.mark.parametrize(
    "body",
    [
        "y = DepthToSpace <blocksize = 2> (x)",  # the graph gives it out
        "d = DepthToSpace <blocksize = 2> (x) e = Exp(d) y = Mul(d, e)",  # two read it
        "e = Exp(x) d = DepthToSpace <blocksize = 2> (e) y = Relu(d)",
    ],
)
def test_interleaves_are_put_where_their_readers_find_them(body: str) -> None:
    graph = graph_of(body, {}, (1, 8, 3, 3), (1, 2, 6, 6))
    arranged = arrange(graph)
    assert "DepthToSpace" not in operators(arranged)
    x = random(1, 8, 3, 3)
    assert np.array_equal(run(arranged, x), run(graph, x))


def test_what_interleaves_by_columns_stays() -> None:
    graph = graph_of('y = DepthToSpace <blocksize = 2, mode = "CRD"> (x)', {}, (1, 8, 3, 3), (1, 2, 6, 6))
    assert operators(arrange(graph)) == ["DepthToSpace"]


def test_the_image_is_dequantised_before_it_is_transposed() -> None:
    graph = Graph(
        model_of(
            "(uint8[1, 3, 4, 3] x) => (float[1, 3, 3, 4] y)",
            "t = Transpose <perm = [0, 3, 1, 2]> (x) d = DequantizeLinear (t, scale, zero) y = Relu (d)",
            {"scale": np.array(0.5, np.float32), "zero": np.array(128, np.uint8)},
            19,
        )
    )
    arranged = arrange(graph)
    assert operators(arranged) == ["DequantizeLinear", "Transpose", "Relu"]
    x: Array = np.random.default_rng(0).integers(0, 256, (1, 3, 4, 3), np.uint8)
    assert np.array_equal(run(arranged, x), run(graph, x))
