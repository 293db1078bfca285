"""Transposed convolutions of stride 2 as convolutions of the small map: as TensorFlow and PyTorch pad, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pix2pix_edge.export.graph.fold import fold
from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.int8.placement import find_layers
from pix2pix_edge.runtime.sidecar import Rewrite
from tests.export.arithmetic import Array, graph_of, operators, random, run

Pair = tuple[int, int]


def transposed(x: Array, weight: Array, bias: Array, pads: tuple[Pair, Pair], tail: Pair) -> Array:
    """The definition: each cell adds the kernel, weight [in, out, …], at twice its place; then `pads` are cut off."""
    (_, _, height, width), (_, channels, tall, wide) = x.shape, weight.shape
    y = np.zeros((1, channels, 2 * height - 2 + tall + tail[0], 2 * width - 2 + wide + tail[1]))
    for i in range(height):
        for j in range(width):
            y[:, :, 2 * i : 2 * i + tall, 2 * j : 2 * j + wide] += np.einsum("ni,iokl->nokl", x[:, :, i, j], weight)
    (top, bottom), (left, right) = pads
    return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right] + bias.reshape(1, -1, 1, 1)


def layer(size: Pair, kernel: Pair, pads: tuple[Pair, Pair], tail: Pair = (0, 0), more: str = "") -> Graph:
    """A transposed convolution, 2 channels to 3, and an activation."""
    extents = [2 * (s - 1) + k + t - sum(p) for s, k, t, p in zip(size, kernel, tail, pads, strict=True)]
    around = [pads[0][0], pads[1][0], pads[0][1], pads[1][1]]
    padding = f"pads = {around}, output_padding = {list(tail)}"
    body = f"c = ConvTranspose <strides = [2, 2], {padding}> (x, w, b) y = Relu(c)"
    constants = {"w": random(2, 3, *kernel), "b": random(3)}
    return graph_of(body, constants, (1, 2, *size), (1, 3, extents[0], extents[1]))


def assert_folded(
    size: Pair, kernel: Pair, pads: tuple[Pair, Pair], tail: Pair = (0, 0), form: str = "auto"
) -> tuple[Graph, Rewrite]:
    graph = layer(size, kernel, pads, tail)
    expected = np.maximum(
        transposed(x := random(1, 2, *size, seed=1), graph.constants["w"], graph.constants["b"], pads, tail), 0
    )
    (rewrite,) = fold(graph, form)
    assert "ConvTranspose" not in operators(graph)
    np.testing.assert_allclose(run(graph, x), expected, rtol=0, atol=1e-12)
    return graph, rewrite


sides = st.tuples(st.integers(2, 5), st.integers(0, 4), st.integers(0, 4), st.integers(0, 1)).filter(
    # What is cut off is part of what the kernel adds: any more has no use, and stays as it is.
    lambda side: side[1] <= side[0] - 2 and side[2] <= side[0] - 2 + side[3]
)


@pytest.mark.parametrize("form", ["phases", "dense"])
@given(size=st.tuples(st.integers(1, 5), st.integers(1, 5)), rows=sides, columns=sides)
@settings(max_examples=150)
def test_any_kernel_padding_and_output_padding(
    form: str, size: Pair, rows: tuple[int, int, int, int], columns: tuple[int, int, int, int]
) -> None:
    axes = (rows, columns)
    assume(all(2 * (s - 1) + k + t - p - q > 0 for s, (k, p, q, t) in zip(size, axes, strict=True)))
    _, rewrite = assert_folded(size, (rows[0], columns[0]), (rows[1:3], columns[1:3]), (rows[3], columns[3]), form)
    assert rewrite.form == form and rewrite.rewrite == "transposed"


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("kernel", range(2, 6))
def test_as_tensorflow_pads(kernel: int, size: int) -> None:
    """`same` gives twice the size, `valid` all that the kernel reaches; tf2onnx writes both as pads."""
    same = ((kernel - 2) // 2, (kernel - 1) // 2)
    assert_folded((size, size), (kernel, kernel), (same, same))
    assert_folded((size, size), (kernel, kernel), ((0, 0), (0, 0)))


@pytest.mark.parametrize(("kernel", "padding", "tail"), [(2, 0, 0), (3, 1, 1), (4, 1, 0), (5, 2, 1), (3, 1, 0)])
def test_as_pytorch_pads(kernel: int, padding: int, tail: int) -> None:
    """Padding on both sides, and output_padding at the end, as most public translators have them."""
    pads = (padding, padding)
    assert_folded((4, 3), (kernel, kernel), (pads, pads), (tail, tail))


def test_every_weight_is_used_once() -> None:
    graph, rewrite = assert_folded((5, 5), (4, 4), ((1, 1), (1, 1)), form="phases")
    assert [node.op_type for node in graph.nodes] == ["Conv", "Relu"] * 4 + ["Concat", "DepthToSpace"]
    assert sum(v.size for name, v in graph.constants.items() if "weight" in name) == 2 * 3 * 16
    assert rewrite.multiply_adds == (2 * 3 * 16 * 25,) * 2


def test_taps_that_meet_only_zeros_are_left_out() -> None:
    """The bottom of a U-Net is one cell: of a 4×4 kernel only the middle reaches the result."""
    graph, rewrite = assert_folded((1, 1), (4, 4), ((1, 1), (1, 1)), form="phases")
    assert sum(v.size for name, v in graph.constants.items() if "weight" in name) == 2 * 3 * 4
    assert rewrite.multiply_adds == (2 * 3 * 16, 2 * 3 * 4)


def test_a_2x2_kernel_is_one_convolution() -> None:
    graph, _ = assert_folded((4, 4), (2, 2), ((0, 0), (0, 0)))
    assert operators(graph) == ["Conv", "Relu", "DepthToSpace"]


def test_what_they_become_can_be_int8() -> None:
    graph = graph_of(
        "c = ConvTranspose <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w, b) r = Relu(c) y = Conv (r, v)",
        {"w": random(2, 3, 4, 4), "b": random(3), "v": random(3, 3, 1, 1)},
        (1, 2, 4, 4),
        (1, 3, 8, 8),
    )
    assert not find_layers(graph)
    fold(graph)
    (found,) = find_layers(graph)
    assert found.multiply_adds == 2 * 3 * 16 * 16


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (
            graph_of("y = ConvTranspose (x, w)", {"w": random(2, 3, 4, 4)}, (1, 2, 4, 4), (1, 3, 7, 7)),
            "strides [1, 1]; only 2×2 is rewritten",
        ),
        (layer((4, 4), (3, 3), ((0, 0), (2, 1))), "cuts off more than its 3×3 kernel adds"),
        (
            graph_of(
                'y = ConvTranspose <strides = [2, 2], auto_pad = "SAME_UPPER"> (x, w)',
                {"w": random(2, 3, 4, 4)},
                (1, 2, 4, 4),
                (1, 3, 8, 8),
            ),
            "leaves its padding to the engine",
        ),
    ],
)
def test_what_is_left_alone_says_why(graph: Graph, reason: str) -> None:
    (rewrite,) = fold(graph)
    assert rewrite.form == "none" and reason in rewrite.reason
    assert "ConvTranspose" in operators(graph)
