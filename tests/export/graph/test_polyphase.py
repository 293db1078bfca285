"""Each form gives what upsampling and convolution give: any kernel, padding and size, in float64."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import helper

from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.graph.polyphase import FORMS, Axis, Site, emit, stand_in
from tests.export.arithmetic import Array, random, run

ACTIVATIONS = {
    "": lambda y: y,
    "Relu": lambda y: np.maximum(y, 0),
    "Tanh": np.tanh,
}


def upsampled_convolution(x: Array, site: Site) -> Array:
    """The definition: repeat, pad with zeros, slide the kernel."""
    (top, bottom), (left, right) = ((a.before, a.after) for a in (site.rows, site.columns))
    u = np.pad(x.repeat(2, 2).repeat(2, 3), ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(u, site.weight.shape[2:], (2, 3))
    y = np.einsum("nihwkl,oikl->nohw", windows, site.weight)
    return y if site.bias is None else y + site.bias.reshape(1, -1, 1, 1)


def folded(site: Site, form: str) -> Graph:
    """A graph of nothing but the form."""
    shapes = {
        "x": (1, site.weight.shape[1], site.rows.size, site.columns.size),
        "y": (1, site.weight.shape[0], site.rows.output, site.columns.output),
    }
    kind = helper.np_dtype_to_tensor_dtype(site.weight.dtype)
    x, y = (helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items())
    opset = [helper.make_opsetid("", 18)]
    graph = Graph(helper.make_model(helper.make_graph([], "form", [x], [y]), opset_imports=opset, ir_version=8))
    graph.nodes = emit(graph, site, form)
    return graph


def site_of(
    rows: Axis, columns: Axis, channels: tuple[int, int] = (2, 3), activation: str = "", bias: bool = True
) -> Site:
    node = helper.make_node(activation, ["conv:out"], ["y"], name="activation") if activation else None
    weight = random(channels[1], channels[0], rows.kernel, columns.kernel)
    return Site("conv", "x", "y", rows, columns, weight, random(channels[1]) if bias else None, node)


def assert_same(site: Site, form: str) -> Graph:
    x = random(1, site.weight.shape[1], site.rows.size, site.columns.size, seed=1)
    expected = ACTIVATIONS[site.activation.op_type if site.activation else ""](upsampled_convolution(x, site))
    graph = folded(site, form)
    np.testing.assert_allclose(run(graph, x), expected, rtol=0, atol=1e-12)
    return graph


def axes() -> st.SearchStrategy[Axis]:
    """Sizes from 1, kernels 2 to 7, and any padding narrower than the kernel: `same` and `valid` among them."""
    return st.integers(2, 7).flatmap(
        lambda kernel: st.builds(
            Axis, st.integers(1, 6), st.just(kernel), st.integers(0, kernel - 1), st.integers(0, kernel - 1)
        )
    )


@pytest.mark.parametrize("form", FORMS)
@given(
    rows=axes(),
    columns=axes(),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    bias=st.booleans(),
)
@settings(max_examples=60)
def test_any_layer(
    form: str, rows: Axis, columns: Axis, channels: tuple[int, int], activation: str, bias: bool
) -> None:
    assume(rows.output > 0 and columns.output > 0)
    assert_same(site_of(rows, columns, channels, activation, bias), form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel", range(2, 8))
def test_as_keras_pads(kernel: int, padding: str, form: str) -> None:
    around = ((kernel - 1) // 2, kernel // 2) if padding == "same" else (0, 0)
    axis = Axis(5, kernel, *around)
    assert axis.output == (10 if padding == "same" else 11 - kernel)
    assert_same(site_of(axis, axis), form)


@pytest.mark.parametrize(
    ("form", "operators", "taps"),
    [
        ("box", ["Conv", "DepthToSpace", "Conv"], 16),
        ("phases", ["Conv"] * 4 + ["Concat", "DepthToSpace"], 25),
        ("dense", ["Conv", "DepthToSpace"], 36),
    ],
)
def test_taps_of_a_4x4_kernel(form: str, operators: list[str], taps: int) -> None:
    axis = Axis(4, 4, 1, 2)
    graph = assert_same(site_of(axis, axis, (1, 1)), form)
    assert [node.op_type for node in graph.nodes] == operators
    assert sum(v.size for n, v in graph.constants.items() if "weight" in n and "box" not in n) == taps


def test_box_keeps_every_weight() -> None:
    axis = Axis(4, 4, 1, 2)
    site = site_of(axis, axis, (3, 5))
    weight = folded(site, "box").constants["conv:weight"]
    assert np.array_equal(np.sort(weight, None), np.sort(site.weight, None))


def test_odd_kernels_waste_nothing_in_the_dense_form() -> None:
    axis = Axis(4, 3, 1, 1)
    graph = assert_same(site_of(axis, axis, (1, 1)), "dense")
    assert [node.op_type for node in graph.nodes] == ["Conv", "DepthToSpace", "Slice"]
    assert graph.constants["conv:weight"].shape == (4, 1, 2, 2)


@pytest.mark.parametrize("form", ["phases", "dense"])
def test_an_activation_goes_before_the_interleaving(form: str) -> None:
    axis = Axis(4, 4, 1, 2)
    operators = [node.op_type for node in assert_same(site_of(axis, axis, activation="Relu"), form).nodes]
    assert operators[:2] == ["Conv", "Relu"]
    assert operators[-1] == "DepthToSpace"


def test_weights_are_added_in_float64_and_rounded_once() -> None:
    axis = Axis(3, 4, 1, 2)
    weight = np.array([1, 1e-8, 1e-8, 1, 1, 3e-8, 3e-8, 1] * 2, np.float32).reshape(1, 1, 4, 4)
    site = Site("conv", "x", "y", axis, axis, weight)
    kernel = folded(site, "dense").constants["conv:weight"]
    assert kernel.dtype == np.float32
    # The even, even phase adds w[1:3, 1:3] at its middle cell.
    assert kernel[0, 0, 1, 1] == np.float32(weight[0, 0, 1:3, 1:3].astype(np.float64).sum())


@pytest.mark.parametrize("form", FORMS)
def test_a_padding_as_wide_as_the_kernel(form: str) -> None:
    assert_same(site_of(Axis(4, 3, 3, 0), Axis(4, 3, 1, 1)), form)


@pytest.mark.parametrize("form", FORMS)
def test_a_stand_in_gives_the_same_shapes(form: str) -> None:
    rows, columns = Axis(4, 4, 1, 2), Axis(5, 3, 0, 0)
    site = site_of(rows, columns)
    empty = Site("conv", "x", "y", rows, columns, stand_in(site.weight.shape, site.weight.dtype), site.bias)
    found, expected = folded(empty, form), folded(site, form)
    assert {n: v.shape for n, v in found.constants.items()} == {n: v.shape for n, v in expected.constants.items()}
    assert found.nodes == expected.nodes
    onnx.checker.check_model(found.to_model(), full_check=True)
