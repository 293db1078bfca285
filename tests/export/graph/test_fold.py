"""The rewrite as a whole: what it recognises, what it leaves alone and says so, and that nothing else changes."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pix2pix_edge.export.graph import polyphase
from pix2pix_edge.export.graph.fold import FORMS, fold
from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.runtime.sidecar import Rewrite
from tests.export.accepts import accepted, needs_tool
from tests.export.arithmetic import Array, graph_of, operators, random, run

NEAREST = 'mode = "nearest", coordinate_transformation_mode = "asymmetric", nearest_mode = "floor"'
SCALES = np.array([1, 1, 2, 2], np.float32)
SAME = {"w": random(3, 2, 4, 4), "b": random(3), "scales": SCALES}


def assert_unchanged(graph: Graph, form: str = "box") -> list[Rewrite]:
    """Fold a copy of the graph, and compare what both compute."""
    x = random(*(d.dim_value for d in graph.input.type.tensor_type.shape.dim), seed=1)
    expected = run(copy.deepcopy(graph), x)
    rewrites = fold(graph, form)
    np.testing.assert_allclose(run(graph, x), expected, rtol=0, atol=1e-12)
    return rewrites


def decoder_level(resize: str = f"Resize <{NEAREST}> (x, , scales)", **constants: Array) -> Graph:
    body = f"u = {resize} c = Conv <pads = [1, 1, 2, 2]> (u, w, b) y = Relu(c)"
    return graph_of(body, {**SAME, **constants}, (1, 2, 5, 4), (1, 3, 10, 8))


@pytest.mark.parametrize("form", polyphase.FORMS)
def test_every_form_replaces_the_upsampling(form: str) -> None:
    graph = decoder_level()
    (rewrite,) = assert_unchanged(graph, form)
    assert "Resize" not in operators(graph)
    assert rewrite.layer == "c" and rewrite.rewrite == "upsampling" and rewrite.form != "none"
    before, after = rewrite.multiply_adds
    assert before == 16 * 2 * 3 * 80 and after < before


def test_bytes_and_multiply_adds_of_each_form_are_those_of_the_graph() -> None:
    from pix2pix_edge.export.inspect import count

    for form in polyphase.FORMS:
        graph = decoder_level()
        (rewrite,) = fold(graph, form)
        costs = [cost for cost in count(graph) if cost.multiply_adds]
        assert sum(cost.multiply_adds for cost in costs) == rewrite.multiply_adds[1], form
        assert sum(cost.weight_bytes for cost in costs) == rewrite.weight_bytes[1], form
        assert rewrite.weight_bytes[0] == 8 * (3 * 2 * 16 + 3)


def test_none_changes_nothing() -> None:
    graph = decoder_level()
    nodes = copy.deepcopy(graph.nodes)
    assert fold(graph, "none") == []
    assert graph.nodes == nodes


@pytest.mark.parametrize(
    "resize",
    [
        'Resize <mode = "nearest"> (x, , scales)',  # half_pixel and round_prefer_floor are the defaults
        f"Resize <{NEAREST}> (x, , , sizes)",
        'Resize <coordinate_transformation_mode = "half_pixel_symmetric"> (x, , scales)',
        'Resize <coordinate_transformation_mode = "pytorch_half_pixel"> (x, , scales)',
        'Resize <coordinate_transformation_mode = "half_pixel", nearest_mode = "round_prefer_ceil"> (x, , scales)',
    ],
)
def test_spellings_of_nearest_upsampling(resize: str) -> None:
    graph = decoder_level(resize, sizes=np.array([1, 2, 10, 8]))
    assert [rewrite.form for rewrite in assert_unchanged(graph)] != ["none"]
    assert "Resize" not in operators(graph)


def test_the_spelling_of_keras_2_is_nearest_upsampling_too() -> None:
    """ONNX's reference does not know it: what comes out must be what the usual spelling gives."""
    folded = []
    for kind in ("asymmetric", "tf_half_pixel_for_nn"):
        graph = decoder_level(
            f'Resize <coordinate_transformation_mode = "{kind}", nearest_mode = "floor"> (x, , scales)'
        )
        fold(graph, "box")
        folded.append(graph.to_model().SerializeToString(deterministic=True))
    assert folded[0] == folded[1]


def test_padding_in_a_node_of_its_own() -> None:
    body = f"u = Resize <{NEAREST}> (x, , scales) p = Pad(u, pads) y = Conv <pads = [1, 0, 0, 0]> (p, w)"
    pads = np.array([0, 0, 0, 1, 0, 0, 2, 2], np.int64)
    graph = graph_of(body, {**SAME, "pads": pads}, (1, 2, 4, 4), (1, 3, 8, 8))
    assert [rewrite.layer for rewrite in assert_unchanged(graph)] == ["y"]
    assert not {"Pad", "Resize"} & set(operators(graph))


@pytest.mark.parametrize("kind", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_automatic_padding(kind: str) -> None:
    body = f'u = Resize <{NEAREST}> (x, , scales) y = Conv <auto_pad = "{kind}"> (u, w)'
    size = 5 if kind == "VALID" else 8
    shapes, x = ((1, 2, 4, 4), (1, 3, size, size)), random(1, 2, 4, 4, seed=1)
    # VALID means no padding, but the evaluator of onnx before 1.23 pads there.
    expected = run(graph_of(body.replace("VALID", "NOTSET"), SAME, *shapes), x)
    graph = graph_of(body, SAME, *shapes)
    fold(graph, "box")
    np.testing.assert_allclose(run(graph, x), expected, rtol=0, atol=1e-12)
    assert "Resize" not in operators(graph)


def test_every_convolution_that_reads_the_upsampled_map() -> None:
    body = f"""u = Resize <{NEAREST}> (x, , scales)
        c1 = Conv <pads = [1, 1, 2, 2]> (u, w)  c2 = Conv <pads = [2, 2, 1, 1]> (u, w, b)  y = Add(c1, c2)"""
    graph = graph_of(body, SAME, (1, 2, 3, 3), (1, 3, 6, 6))
    assert [rewrite.layer for rewrite in assert_unchanged(graph)] == ["c1", "c2"]
    assert "Resize" not in operators(graph)


def test_another_reader_keeps_the_upsampled_map_and_is_reported() -> None:
    body = f"""u = Resize <{NEAREST}> (x, , scales)
        c = Conv <pads = [1, 1, 2, 2]> (u, w2)  y = Add(c, u)"""
    graph = graph_of(body, {**SAME, "w2": random(2, 2, 4, 4)}, (1, 2, 3, 3), (1, 2, 6, 6))
    rewrites = assert_unchanged(graph)
    assert "Resize" in operators(graph)
    assert [rewrite.reason for rewrite in rewrites] == ["", "Add y comes between it and a convolution"]


LEFT_ALONE = {
    "three": ("u = Resize <MODE> (x, , three) y = Conv <pads = [1, 1, 2, 2]> (u, w)", (9, 9), "resizes by 3×3"),
    "one way": ("u = Resize <MODE> (x, , wide) y = Conv <pads = [1, 1, 2, 2]> (u, w)", (3, 6), "resizes by 1×2"),
    "linear": ('u = Resize <mode = "linear"> (x, , scales) y = Conv <pads = [1, 1, 2, 2]> (u, w)', (6, 6), "linear"),
    "corners": (
        'u = Resize <mode = "nearest", coordinate_transformation_mode = "align_corners"> (x, , scales)'
        " y = Conv <pads = [1, 1, 2, 2]> (u, w)",
        (6, 6),
        "its coordinates are align_corners",
    ),
    "ceil": (
        'u = Resize <mode = "nearest", nearest_mode = "ceil"> (x, , scales) y = Conv <pads = [1, 1, 2, 2]> (u, w)',
        (6, 6),
        "half_pixel coordinates with ceil do not repeat",
    ),
    "reflect": (
        'u = Resize <MODE> (x, , scales) p = Pad <mode = "reflect"> (u, pads) y = Conv(p, w)',
        (5, 5),
        "p pads with something else than zeros",
    ),
    "stride": ("u = Resize <MODE> (x, , scales) y = Conv <strides = [2, 2]> (u, w)", (2, 2), r"strides \[2, 2\]"),
    "dilation": ("u = Resize <MODE> (x, , scales) y = Conv <dilations = [1, 2]> (u, v)", (5, 4), r"dilations \[1, 2\]"),
    "group": ("u = Resize <MODE> (x, , scales) y = Conv <group = 2> (u, g)", (5, 5), "group 2"),
    "1x1": ("u = Resize <MODE> (x, , scales) y = Conv (u, one)", (6, 6), "1×1 kernel"),
    "relu": ("u = Resize <MODE> (x, , scales) r = Relu(u) y = Conv (r, w)", (3, 3), "Relu r comes between"),
    "computed": ("u = Resize <MODE> (x, , scales) e = Exp(x) y = Conv (u, e)", (4, 4), "weights of y are not constant"),
    "output": ("y = Resize <MODE> (x, , scales)", (6, 6), "makes the graph's output"),
}


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_what_is_left_alone_is_reported_by_name(case: str) -> None:
    body, size, reason = LEFT_ALONE[case]
    constants = {
        "scales": SCALES,
        "three": np.array([1, 1, 3, 3], np.float32),
        "wide": np.array([1, 1, 1, 2], np.float32),
        "w": random(2, 2, 4, 4),
        "v": random(2, 2, 2, 2),
        "g": random(2, 1, 2, 2),
        "one": random(2, 2, 1, 1),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    }
    source, result = ((2, 2, 3, 3), (2, 2, *size)) if case == "computed" else ((1, 2, 3, 3), (1, 2, *size))
    graph = graph_of(body.replace("MODE", NEAREST), constants, source, result)
    nodes = copy.deepcopy(graph.nodes)
    (rewrite,) = assert_unchanged(graph)
    assert rewrite.form == "none" and rewrite.rewrite == "upsampling"
    assert rewrite.layer == ("y" if case == "output" else "u")
    assert re.search(reason, rewrite.reason), rewrite.reason
    assert [node.op_type for node in graph.nodes] == [node.op_type for node in nodes]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Graph]:
    """A function that gives a network of Keras as a plain graph, upsampling as Resize."""
    from pix2pix_edge.export.translator.reference import plain_graph
    from tests.export.keras_networks import NETWORKS, save

    folder = tmp_path_factory.mktemp("networks")
    graphs: dict[str, Graph] = {}

    def graph(name: str) -> Graph:
        if name not in graphs:
            graphs[name] = plain_graph(save(NETWORKS[name](), folder / f"{name}.keras"), as_keras_upsamples=False)
        return copy.deepcopy(graphs[name])

    return graph


def test_what_other_networks_keep_is_reported(plain: Callable[[str], Graph]) -> None:
    graph = plain("classic_unet")
    reasons = [r.reason for r in fold(graph, "auto") if r.reason]
    assert len(reasons) == operators(graph).count("Resize") == 1
    assert "comes between it and a convolution" in reasons[0]


def test_a_generator_keeps_nothing_that_can_be_absorbed(plain: Callable[[str], Graph]) -> None:
    graph = plain("unet")
    fold(graph, "auto")
    left = operators(graph)
    assert not {"Div", "Min", "Max", "Clip", "BatchNormalization", "Pad"} & set(left)
    assert left.count("Mul") == 1  # of the output conversion
    # Shifts of batch norm before zero padding, and those of the input and output conversion.
    assert left.count("Add") + left.count("Sub") == 4 + 2


def test_the_same_graph_gives_the_same_bytes(plain: Callable[[str], Graph]) -> None:
    found = set()
    for _ in range(2):
        graph = plain("unet")
        rewrites = fold(graph, "auto")
        found.add((graph.to_model().SerializeToString(deterministic=True), repr(rewrites)))
    assert len(found) == 1


@pytest.mark.slow
@needs_tool
@pytest.mark.parametrize("form", FORMS)
def test_tensorrt_accepts_every_form(plain: Callable[[str], Graph], tmp_path: Path, form: str) -> None:
    graph = plain("unet")
    fold(graph, form)
    onnx.save(graph.to_model(), tmp_path / "a.onnx")
    assert accepted(tmp_path / "a.onnx")[1] == 0


@given(
    size=st.integers(1, 4),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.tuples(st.integers(0, 6), st.integers(0, 6)),
)
@settings(max_examples=150)
def test_taps_that_meet_only_zeros_change_nothing(
    size: int, kernel: int, stride: int, dilation: int, pads: tuple[int, int]
) -> None:
    room = size + sum(pads) - (kernel - 1) * dilation - 1
    assume(room >= 0)
    given_pads = [pads[0], 1, pads[1], 1]
    body = f"y = Conv <strides = [{stride}, 1], dilations = [{dilation}, 1], pads = {given_pads}> (x, w, b)"
    constants = {"w": random(3, 2, kernel, 3), "b": random(3)}
    assert_unchanged(graph_of(body, constants, (1, 2, size, 4), (1, 3, room // stride + 1, 4)), "auto")


def test_the_way_to_a_bottom_of_one_cell_keeps_a_quarter_of_its_kernel() -> None:
    body = "y = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w, b)"
    graph = graph_of(body, {"w": random(3, 2, 4, 4), "b": random(3)}, (1, 2, 2, 2), (1, 3, 1, 1))
    (rewrite,) = assert_unchanged(graph)
    assert (rewrite.rewrite, rewrite.form, rewrite.multiply_adds) == ("idle taps", "2×2", (96, 24))
    assert graph.constants[graph.nodes[0].input[1]].shape == (3, 2, 2, 2)
