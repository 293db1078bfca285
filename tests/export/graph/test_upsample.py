"""Nearest upsampling in every spelling becomes one Resize; everything else is left alone or refused by name."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from numpy.typing import NDArray

from pix2pix_edge.export.graph.graph import Graph, attributes
from pix2pix_edge.export.graph.upsample import to_resize
from pix2pix_edge.runtime.errors import InputError

Shape = tuple[int, ...]


def graph_of(body: str, source: Shape, result: Shape) -> Graph:
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    test (float{list(source)} x) => (float{list(result)} y) {{ {body} }}"""
    model = onnx.parser.parse_model(text)
    for number, node in enumerate(model.graph.node):
        node.name = f"layer/{node.op_type.lower()}{number}"
    return Graph(model)


def run(graph: Graph, x: NDArray[np.float32]) -> NDArray[np.float32]:
    import onnxruntime as ort

    ort.set_default_logger_severity(4)  # deprecated spellings are meant here
    session = ort.InferenceSession(graph.to_model().SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def random(shape: Shape) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def operators(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


def resized(graph: Graph) -> list[list[float]]:
    """The scales of every Resize, each checked to be in the form that TensorRT accepts."""
    scales = []
    for node in graph.nodes:
        if node.op_type == "Resize":
            assert attributes(node) == {
                "mode": b"nearest", "coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor",
            }  # fmt: skip
            assert len(node.input) == 3 and not node.input[1]
            scales.append(graph.constants[node.input[2]].tolist())
    return scales


NHWC_TILES = """
    a1 = Constant <value_ints = [2]>()  t1 = Constant <value_ints = [1, 1, 2, 1, 1]>()
    s1 = Constant <value_ints = [1, 6, 4, 5]>()
    a2 = Constant <value_ints = [3]>()  t2 = Constant <value_ints = [1, 1, 1, 3, 1]>()
    s2 = Constant <value_ints = [1, 6, 12, 5]>()
    u = Unsqueeze(x, a1)  v = Tile(u, t1)  w = Reshape(v, s1)
    p = Unsqueeze(w, a2)  q = Tile(p, t2)  y = Reshape(q, s2)
"""
NCHW_EXPAND = """
    s1 = Constant <value_ints = [1, 5, 3, 1, 4, 1]>()  e = Constant <value_ints = [1, 5, 3, 2, 4, 2]>()
    s2 = Constant <value_ints = [0, 5, 6, 8]>()
    a = Reshape(x, s1)  b = Expand(a, e)  y = Reshape(b, s2)
"""
CONCAT_WIDTH = """
    axes = Constant <value_ints = [-1]>()  shape = Constant <value_ints = [1, 5, 3, 8]>()
    a = Unsqueeze(x, axes)  b = Concat <axis = -1> (a, a)  y = Reshape(b, shape)
"""
GATHER = """
    rows = Constant <value_ints = [0, 0, 1, 1, 2, 2]>()  columns = Constant <value_ints = [0, 0, 1, 1, 2, 2, 3, 3]>()
    a = Gather <axis = 2> (x, rows)  y = Gather <axis = 3> (a, columns)
"""
ROUNDED = """
    scales = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]>()
    y = Resize <mode = "nearest", coordinate_transformation_mode = "half_pixel", nearest_mode = "round_prefer_floor">
        (x, , scales)
"""
SIZES = """
    sizes = Constant <value_ints = [1, 5, 6, 8]>()
    y = Resize <mode = "nearest", coordinate_transformation_mode = "tf_half_pixel_for_nn", nearest_mode = "floor">
        (x, , , sizes)
"""


@pytest.mark.parametrize(
    ("body", "source", "result", "factors", "transposes"),
    [
        (NHWC_TILES, (1, 3, 4, 5), (1, 6, 12, 5), [2, 3], 2),
        (NCHW_EXPAND, (1, 5, 3, 4), (1, 5, 6, 8), [2, 2], 0),
        (CONCAT_WIDTH, (1, 5, 3, 4), (1, 5, 3, 8), [1, 2], 0),
        (GATHER, (1, 5, 3, 4), (1, 5, 6, 8), [2, 2], 0),
        (ROUNDED, (1, 5, 3, 4), (1, 5, 6, 8), [2, 2], 0),
        (SIZES, (1, 5, 3, 4), (1, 5, 6, 8), [2, 2], 0),
    ],
    ids=["nhwc tiles", "expand", "concat", "gather", "half pixel", "sizes"],
)
def test_every_spelling(body: str, source: Shape, result: Shape, factors: list[int], transposes: int) -> None:
    graph = graph_of(body, source, result)
    x = random(source)
    expected = run(graph, x)
    assert to_resize(graph) == ["layer/upsample"]
    graph.check()
    assert resized(graph) == [[1, 1, *factors]]
    assert sorted(operators(graph)) == ["Resize", *["Transpose"] * transposes]
    assert np.array_equal(run(graph, x), expected)


def test_transposes_around_a_chain_vanish() -> None:
    body = NHWC_TILES.replace("Unsqueeze(x", "Unsqueeze(nhwc").replace("y = Reshape", "z = Reshape")
    body = "r = Relu(x) nhwc = Transpose <perm = [0, 2, 3, 1]> (r) " + body
    # what follows in NHWC: a bias per channel, an activation, a concatenation with a skip that is NHWC too, padding
    body += """
        bias = Constant <value_floats = [1.0, 2.0, 3.0, 4.0, 5.0]>()
        skip = Transpose <perm = [0, 2, 3, 1]> (large)
        pads = Constant <value_ints = [0, 1, 2, 0, 0, 0, 1, 0]>()
        b = Add(z, bias)  c = LeakyRelu <alpha = 0.2> (b)  d = Concat <axis = 3> (c, skip)  e = Pad(d, pads)
        y = Transpose <perm = [0, 3, 1, 2]> (e)
    """
    large = 'scales = Constant <value_floats = [1.0, 1.0, 2.0, 3.0]>() large = Resize <mode = "linear"> (r, , scales)'
    graph = graph_of(body.replace("skip =", f"{large} skip ="), (1, 5, 3, 4), (1, 10, 7, 15))
    x = random((1, 5, 3, 4))
    expected = run(graph, x)
    to_resize(graph)
    graph.check()
    assert sorted(operators(graph)) == ["Add", "Concat", "LeakyRelu", "Pad", "Relu", "Resize", "Resize"]
    assert np.array_equal(run(graph, x), expected)


def test_two_in_a_row_become_one() -> None:
    again = NCHW_EXPAND.replace("5, 3, 1, 4, 1", "5, 6, 1, 8, 1").replace("5, 3, 2, 4, 2", "5, 6, 2, 8, 2")
    again = again.replace("5, 6, 8]", "5, 12, 16]").replace("(x, s1", "(m, s3").replace("s1 =", "s3 =")
    again = again.replace("s2", "s4").replace("e =", "e2 =").replace("a =", "a2 =").replace("(a, e)", "(a2, e2)")
    again = again.replace("b =", "b2 =").replace("(b,", "(b2,")
    graph = graph_of(NCHW_EXPAND.replace("y =", "m =") + again, (1, 5, 3, 4), (1, 5, 12, 16))
    x = random((1, 5, 3, 4))
    expected = run(graph, x)
    to_resize(graph)
    assert resized(graph) == [[1, 1, 4, 4]]
    assert np.array_equal(run(graph, x), expected)


def test_other_readers_of_a_chain_keep_what_they_read() -> None:
    body = NCHW_EXPAND + " z = Relu(a)  w = ReduceSum <keepdims = 0> (z)  y2 = Add(y, w) "
    graph = graph_of(
        body.replace("y =", "m =").replace("(y, w)", "(m, w)").replace("y2", "y"), (1, 5, 3, 4), (1, 5, 6, 8)
    )
    x = random((1, 5, 3, 4))
    expected = run(graph, x)
    to_resize(graph)
    assert resized(graph) == [[1, 1, 2, 2]]
    assert np.array_equal(run(graph, x), expected)


def test_one_pixel_and_one_channel() -> None:
    graph = graph_of(
        """t = Constant <value_ints = [1, 2, 2, 1]>()  p = Transpose <perm = [0, 2, 3, 1]> (x)
        a = Tile(p, t)  y = Transpose <perm = [0, 3, 1, 2]> (a)""",
        (1, 7, 1, 1),
        (1, 7, 2, 2),
    )
    x = random((1, 7, 1, 1))
    to_resize(graph)
    assert operators(graph) == ["Resize"]
    assert np.array_equal(run(graph, x), np.broadcast_to(x, (1, 7, 2, 2)))


def test_a_tile_that_repeats_nothing_goes_away() -> None:
    graph = graph_of(
        "t = Constant <value_ints = [1, 1, 1, 1]>() a = Tile(x, t) y = Relu(a)", (1, 2, 3, 3), (1, 2, 3, 3)
    )
    assert to_resize(graph) == []
    assert operators(graph) == ["Relu"]


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ("t = Constant <value_ints = [1, 1, 2, 2]>() y = Tile(x, t)", (1, 5, 6, 8)),  # the whole map, again and again
        ("t = Constant <value_ints = [1, 2, 1, 1]>() y = Tile(x, t)", (1, 10, 3, 4)),  # the channels
        ("s = Constant <value_ints = [2, 5, 3, 4]>() y = Expand(x, s)", (2, 5, 3, 4)),  # the batch
        ("t = Shape(x) y = Tile(x, t)", (1, 25, 9, 16)),  # not even constant
    ],
    ids=["map", "channels", "batch", "computed"],
)
def test_repeating_otherwise_is_refused_by_name(body: str, result: Shape) -> None:
    graph = graph_of(body, (1, 5, 3, 4), result)
    with pytest.raises(InputError, match=r"layer/(tile|expand)1.*UpSampling2D"):
        to_resize(graph)


@pytest.mark.parametrize(
    ("body", "result"),
    [
        ('s = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]>() y = Resize <mode = "linear"> (x, , s)', (1, 5, 6, 8)),
        ("s = Constant <value_floats = [1.0, 1.0, 1.5, 1.5]>() y = Resize (x, , s)", (1, 5, 4, 6)),
        (
            "s = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]>()"
            ' y = Resize <coordinate_transformation_mode = "asymmetric", nearest_mode = "ceil"> (x, , s)',
            (1, 5, 6, 8),
        ),
        ("i = Constant <value_ints = [1, 0, 1, 2, 1]>() y = Gather <axis = 2> (x, i)", (1, 5, 5, 4)),
        ("y = Concat <axis = 1> (x, x)", (1, 10, 3, 4)),
    ],
    ids=["linear", "one and a half", "shifted", "reflection", "doubled channels"],
)
def test_what_is_not_nearest_upsampling_stays(body: str, result: Shape) -> None:
    graph = graph_of(body, (1, 5, 3, 4), result)
    before = graph.to_model().SerializeToString()
    assert to_resize(graph) == []
    assert graph.to_model().SerializeToString() == before
