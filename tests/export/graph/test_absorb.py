"""Scales and shifts move into convolutions where that is exact, and stay where it is not; in float64."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pix2pix_edge.export.graph.absorb import absorb
from pix2pix_edge.export.graph.graph import Graph, attributes
from tests.export.arithmetic import Array, graph_of, operators, random, run

CHANNELS = 3


def channels(*values: float) -> Array:
    return np.array(values, np.float64).reshape(1, -1, 1, 1)


POSITIVE, MIXED, ZERO = channels(0.5, 2.0, 1.5), channels(0.5, -2.0, 1.5), channels(0.5, 0.0, 1.5)
CONSTANTS = {
    "w": random(3, 3, 3, 3),
    "v": random(3, 3, 3, 3, seed=1),
    "w6": random(2, 6, 3, 3),
    "deep": random(3, 1, 3, 3),
    "b": random(3),
    "positive": POSITIVE,
    "mixed": MIXED,
    "zero": ZERO,
    "huge": channels(0.001, 2.0, 1.5),
    "shift": channels(0.3, -0.4, 0.7),
    "half": np.array(0.5),
    "slope": channels(0.1, 0.2, 0.3)[0],
    "gamma": np.array([0.5, 2.0, 1.5]),
    "negative": np.array([0.5, -2.0, 1.5]),
    "beta": np.array([0.3, -0.4, 0.7]),
    "mean": np.array([0.1, 0.2, -0.3]),
    "variance": np.array([0.5, 1.5, 2.0]),
    "scales": np.array([1, 1, 2, 2], np.float32),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    "one": np.array(1.0),
}
PADDED = "<pads = [1, 1, 1, 1]>"
BATCH_NORM = "BatchNormalization <epsilon = 0.001>"


def absorbed(body: str, size: int = 4, result: tuple[int, ...] | None = None, **constants: Array) -> Graph:
    """Absorb in a graph of 3 channels, and assert that it still computes the same."""
    body = body.replace("CONV", f"Conv {PADDED}").replace("BATCH_NORM", BATCH_NORM)
    graph = graph_of(body, {**CONSTANTS, **constants}, (1, 3, size, size), result or (1, 3, size, size))
    graph.sort()
    x = random(1, 3, size, size, seed=2)
    expected = run(copy.deepcopy(graph), x)
    names = {node.name for node in graph.nodes}
    rewrites = absorb(graph)
    np.testing.assert_allclose(run(graph, x), expected, rtol=1e-14, atol=1e-11)  # some outputs are exponentials
    assert {rewrite.layer for rewrite in rewrites} <= names
    assert len({rewrite.layer for rewrite in rewrites}) == len(rewrites)
    return graph


@pytest.mark.parametrize(
    ("body", "left"),
    [
        # Next to the convolution before: any scale, and the shift becomes bias.
        ("c = CONV(x, w, b) m = Mul(c, mixed) y = Relu(m)", ["Conv", "Relu"]),
        ("c = CONV(x, w) m = Mul(zero, c) a = Add(m, shift) y = Relu(a)", ["Conv", "Relu"]),
        ("c = CONV(x, w, b) d = Div(c, mixed) s = Sub(d, shift) y = Relu(s)", ["Conv", "Relu"]),
        ("c = CONV(x, w, b) n = BATCH_NORM(c, negative, beta, mean, variance) y = Relu(n)", ["Conv", "Relu"]),
        ("c = ConvTranspose <pads = [1, 1, 1, 1]> (x, w, b) m = Mul(c, mixed) y = Relu(m)", ["ConvTranspose", "Relu"]),
        ("c = Conv <pads = [1, 1, 1, 1], group = 3> (x, deep) m = Mul(c, mixed) y = Relu(m)", ["Conv", "Relu"]),
        ("c = CONV(x, w) m = Mul(c, half) y = Relu(m)", ["Conv", "Relu"]),
        # Through the activation, as far as it is positive; the shift before zero padding stays.
        ("c = CONV(x, w, b) r = Relu(c) m = Mul(r, positive) y = Exp(m)", ["Conv", "Relu", "Exp"]),
        ("c = CONV(x, w) r = LeakyRelu(c) m = Mul(r, zero) y = Exp(m)", ["Conv", "LeakyRelu", "Exp"]),
        ("c = CONV(x, w) r = PRelu(c, slope) m = Mul(r, positive) y = Exp(m)", ["Conv", "PRelu", "Exp"]),
        (
            "c = CONV(x, w) r = LeakyRelu(c) n = BATCH_NORM(r, gamma, beta, mean, variance) y = CONV(n, v)",
            ["Conv", "LeakyRelu", "Add", "Conv"],
        ),
        # Signs go on forwards.
        (
            "c = CONV(x, w) r = Relu(c) m = Mul(r, mixed) a = Add(m, shift) y = CONV(a, v)",
            ["Conv", "Relu", "Add", "Conv"],
        ),
        (
            "c = CONV(x, w) r = Relu(c) n = BATCH_NORM(r, negative, beta, mean, variance) y = CONV(n, v)",
            ["Conv", "Relu", "Add", "Conv"],
        ),
        # Forwards, where nothing before takes it: the input conversion, for one.
        ("e = Exp(x) m = Mul(e, mixed) y = CONV(m, v)", ["Exp", "Conv"]),
        ("e = Exp(x) m = Mul(e, zero) y = CONV(m, v)", ["Exp", "Conv"]),
        ("m = Mul(x, half) s = Sub(m, one) y = CONV(s, v)", ["Add", "Conv"]),
        ("e = Exp(x) n = BATCH_NORM(e, gamma, beta, mean, variance) y = CONV(n, v)", ["Exp", "Add", "Conv"]),
        ("e = Exp(x) m = Mul(e, mixed) y = ConvTranspose <pads = [1, 1, 1, 1]> (m, v)", ["Exp", "ConvTranspose"]),
        ("e = Exp(x) m = Mul(e, mixed) p = Pad(m, pads) y = Conv(p, v)", ["Exp", "Pad", "Conv"]),
        ("e = Exp(x) m = Mul(e, mixed) c = CONV(m, v) d = CONV(m, w) y = Add(c, d)", ["Exp", "Conv", "Conv", "Add"]),
        # A shift before a convolution without padding is bias.
        ("e = Exp(x) a = Add(e, shift) y = Conv(a, v, b)", ["Exp", "Conv"]),
        ("e = Exp(x) m = Mul(e, mixed) a = Add(m, shift) y = Conv(a, v)", ["Exp", "Conv"]),
        ("e = Exp(x) a = Sub(e, half) y = Conv(a, v)", ["Exp", "Conv"]),
    ],
)
def test_absorbed(body: str, left: list[str]) -> None:
    size = 4 if "y = Conv(a" not in body else 6
    result = (1, 3, 4, 4)
    assert operators(absorbed(body, size, result)) == left


@pytest.mark.parametrize(
    "body",
    [
        # Somebody else reads what would change.
        "c = CONV(x, w) m = Mul(c, positive) y = Add(c, m)",
        "c = CONV(x, w) r = Relu(c) m = Mul(r, positive) y = Add(r, m)",
        "c = CONV(x, w) r = Relu(c) m = Mul(r, mixed) y = Exp(m)",
        "e = Exp(x) m = Mul(e, mixed) c = CONV(m, v) y = Add(c, m)",
        # Not homogeneous, not linear, not constant, not a scale of channels.
        "c = CONV(x, w) t = Tanh(c) m = Mul(t, positive) y = Exp(m)",
        "e = Exp(x) m = Mul(e, mixed) r = Relu(m) y = CONV(r, v)",
        "e = Exp(x) m = Mul(e, mixed) y = Conv <pads = [1, 1, 1, 1], group = 3> (m, deep)",
        "e = Exp(x) m = Mul(e, x) y = CONV(m, v)",
        "e = Exp(x) m = Mul(e, columns) y = CONV(m, v)",
        "e = Exp(x) p = Pad(e, pads, half) m = Mul(p, mixed) q = Pad(m, pads, half) c = Conv(q, v) y = Conv(c, v)",
        # A shift before zero padding; on the way of a scale with a zero, or too wide a range.
        "e = Exp(x) a = Add(e, shift) y = CONV(a, v)",
        "e = Exp(x) m = Mul(e, zero) a = Add(m, shift) y = CONV(a, v)",
        "e = Exp(x) m = Mul(e, huge) a = Add(m, shift) y = CONV(a, v)",
        # The graph's own output.
        "c = CONV(x, w) y = Mul(c, positive)",
        "c = CONV(x, w) r = Relu(c) y = Mul(r, positive)",
    ],
)
def test_left_as_it_is(body: str) -> None:
    graph = absorbed(body, columns=np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4))
    before = graph_of(
        body.replace("CONV", f"Conv {PADDED}"),
        {**CONSTANTS, "columns": np.ones((1, 1, 1, 4))},
        (1, 3, 4, 4),
        (1, 3, 4, 4),
    )
    assert operators(graph) == operators(before)


def test_a_skip_takes_a_scale_once_for_both_of_its_readers() -> None:
    graph = absorbed(
        """c = CONV(x, w) r = LeakyRelu(c) n = BATCH_NORM(r, gamma, beta, mean, variance)
        d = CONV(n, v) e = Relu(d) k = Concat <axis = 1> (e, n) u = Resize <mode = "nearest"> (k, , scales)
        y = CONV(u, w6)""",
        result=(1, 2, 8, 8),
    )
    assert operators(graph) == ["Conv", "LeakyRelu", "Add", "Conv", "Relu", "Concat", "Resize", "Conv"]


def test_signs_reach_every_reader_through_concatenation_and_upsampling() -> None:
    graph = absorbed(
        """c = CONV(x, w) r = Relu(c) n = BATCH_NORM(r, negative, beta, mean, variance)
        d = CONV(n, v) e = Relu(d) k = Concat <axis = 1> (e, n) s = Add(k, shift6)
        u = Resize <mode = "nearest"> (s, , scales) y = CONV(u, w6)""",
        result=(1, 2, 8, 8),
        shift6=random(1, 6, 1, 1),
    )
    assert operators(graph) == ["Conv", "Relu", "Add", "Conv", "Relu", "Concat", "Add", "Resize", "Conv"]


def test_a_tensor_that_meets_itself_again() -> None:
    """Both halves of the concatenation carry the scale, and so does the shift behind it."""
    graph = absorbed(
        """e = Exp(x) m = Mul(e, mixed) i = AveragePool <kernel_shape = [1, 1]> (m)
        k = Concat <axis = 1> (m, i) s = Add(k, shift6) y = CONV(s, w6)""",
        result=(1, 2, 4, 4),
        shift6=random(1, 6, 1, 1),
    )
    assert "Mul" not in operators(graph)
    graph = absorbed("e = Exp(x) m = Mul(e, mixed) k = Concat <axis = 1> (m, m) y = CONV(k, w6)", result=(1, 2, 4, 4))
    assert "Mul" not in operators(graph)


def test_convolutions_that_share_weights_are_told_apart() -> None:
    graph = absorbed("c = CONV(x, w) m = Mul(c, mixed) r = Relu(m) y = CONV(r, w)")
    assert operators(graph) == ["Conv", "Relu", "Conv"]


def test_a_layout_change_lets_only_a_scale_of_everything_pass() -> None:
    body = "e = Exp(x) m = Mul(e, {}) t = Transpose <perm = [0, 2, 1, 3]> (m) y = CONV(t, v)"
    constants = {"cube": random(3, 3, 3, 3)}
    assert "Mul" not in operators(absorbed(body.format("half"), 3, **constants))
    assert "Mul" in operators(absorbed(body.format("mixed"), 3, **constants))


def test_types_and_attributes_stay() -> None:
    constants = {name: value.astype(np.float32) for name, value in CONSTANTS.items()}
    body = """c = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w, b)
        r = LeakyRelu <alpha = 0.2> (c) m = Mul(r, positive) y = Exp(m)"""
    graph = graph_of(body, constants, (1, 3, 4, 4), (1, 3, 2, 2), "float")
    absorb(graph)
    assert {value.dtype for value in graph.constants.values()} == {np.dtype(np.float32)}
    conv, leaky, _ = graph.nodes
    assert attributes(conv) == {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    assert attributes(leaky) == {"alpha": np.float32(0.2)}


@given(
    scale=st.lists(st.floats(-4, 4), min_size=3, max_size=3),
    shift=st.lists(st.floats(-4, 4), min_size=3, max_size=3),
    activation=st.sampled_from(["Relu", "LeakyRelu", "Tanh", "Identity"]),
    padding=st.sampled_from(["", PADDED]),
)
@settings(max_examples=80, deadline=None, derandomize=True)
def test_any_scale_and_shift(scale: list[float], shift: list[float], activation: str, padding: str) -> None:
    absorbed(
        f"c = CONV(x, w, b) r = {activation}(c) m = Mul(r, scale) a = Add(m, offset) y = Conv {padding} (a, v, b)",
        4,
        (1, 3, 4, 4) if padding else (1, 3, 2, 2),
        scale=channels(*scale),
        offset=channels(*shift),
    )
