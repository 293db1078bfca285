"""Clips that cannot bite go away; all others stay."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from pix2pix_edge.export.graph.clip import drop_idle_clips
from tests.export.arithmetic import graph_of, operators, random, run

CONSTANTS = {
    "one": np.array(1.0),
    "half": np.array(0.5),
    "gain": np.array(127.5).reshape(1, 1, 1, 1),
    "top": np.array(255.0),
    "bottom": np.array(0.0),
    "low": np.array(1.0),
    "less": np.array(254.9),
    "per_row": np.array([255.0, 0.0]).reshape(1, 1, 2, 1),
}
TANH = "t = Tanh(x) a = Add(t, one) m = Mul(gain, a)"


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (f"{TANH} h = Min(m, top) c = Max(h, bottom) y = Round(c)", []),
        (f"{TANH} c = Clip(m, bottom, top) y = Round(c)", []),
        (f"{TANH} c = Clip(m, , top) y = Round(c)", []),
        (f"{TANH} p = Transpose <perm = [0, 1, 3, 2]> (m) c = Clip(p, bottom) y = Round(c)", []),
        ("s = Sigmoid(x) m = Mul(s, top) c = Clip(m, bottom, top) y = Round(c)", []),
        ("t = Tanh(x) h = Mul(t, half) a = Sub(half, h) c = Clip(a, bottom, one) y = Round(c)", []),
        ("c = Clip(x, bottom, top) y = Round(c)", ["Clip"]),
        (f"{TANH} c = Min(m, less) y = Round(c)", ["Min"]),
        (f"{TANH} c = Max(m, low) y = Round(c)", ["Max"]),
        (f"{TANH} c = Clip(m, low, top) y = Round(c)", ["Clip"]),
        (f"{TANH} e = Exp(m) c = Clip(e, bottom, top) y = Round(c)", ["Clip"]),
        (f"{TANH} c = Min(m, per_row) y = Round(c)", ["Min"]),
        (f"{TANH} r = Relu(x) c = Min(m, r) y = Round(c)", ["Min"]),
        (f"{TANH} z = ReduceMax(x) c = Clip(m, , z) y = Round(c)", ["Clip"]),
        ("t = Tanh(x) y = Clip(t, bottom, one)", ["Clip"]),
    ],
)
def test_clips(body: str, kept: list[str]) -> None:
    graph = graph_of(body, CONSTANTS, (1, 3, 2, 2), (1, 3, 2, 2))
    x = 9 * random(1, 3, 2, 2)
    expected = run(copy.deepcopy(graph), x)
    clips = [node.name for node in graph.nodes if node.op_type in ("Min", "Max", "Clip")]
    rewrites = drop_idle_clips(graph)
    assert [op for op in operators(graph) if op in ("Min", "Max", "Clip")] == kept
    assert [rewrite.layer for rewrite in rewrites] == ([] if kept else clips)
    np.testing.assert_array_equal(run(graph, x), expected)
