"""The counter against counts by hand, and what `inspect` prints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pix2pix_edge.export.graph.fold import fold_upsampling
from pix2pix_edge.export.graph.graph import Graph
from pix2pix_edge.export.graph.polyphase import stand_in
from pix2pix_edge.export.inspect import LayerCost, count
from pix2pix_edge.runtime.sidecar import Rewrite, Sidecar, write_sidecar
from tests.commands import export
from tests.export.arithmetic import Array, graph_of
from tests.export.small_network import CONVOLUTIONS, write_small_network

WIDTHS = (64, 128, 256, 512, 512, 512, 512)
"""Of the 64-filter generator's encoder, at 128, 64, … 2; the decoder's are 512, 512, 512, 256, 128, 64 and 3."""


def generator(widths: tuple[int, ...] = WIDTHS, *, deconvolution: bool = False) -> Graph:
    """A U-Net on 256×256, with weights that take no memory; `deconvolution`: 4×4 of stride 2 upwards."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 256, 256))
    made = helper.make_tensor_value_info("made", TensorProto.FLOAT, (1, 3, 256, 256))
    body = helper.make_graph([], "generator", [image], [made])
    graph = Graph(helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8))

    def add(op: str, inputs: list[str], name: str, output: str | None = None, **attributes: object) -> str:
        graph.nodes.append(graph.node(op, inputs, name, output, **attributes))
        return graph.nodes[-1].output[0]

    def weight(name: str, *shape: int) -> str:
        return graph.constant(f"{name}:weight", stand_in(shape, np.dtype(np.float32)))

    x, channels, skips = "image", 3, []
    for level, width in enumerate(widths):
        down = weight(f"down{level}", width, channels, 4, 4)
        x = add("Conv", [x, down], f"down{level}", strides=[2, 2], pads=[1, 1, 1, 1])
        skips.append(x)
        channels = width
    skips.pop()
    scales = graph.constant("scales", np.array([1, 1, 2, 2], np.float32))
    for level, width in enumerate((*widths[-2::-1], 3)):
        last = "made" if width == 3 else None
        if deconvolution:
            up = weight(f"up{level}", channels, width, 4, 4)
            x = add("ConvTranspose", [x, up], f"up{level}", last, strides=[2, 2], pads=[1, 1, 1, 1])
        else:
            x = add("Resize", [x, "", scales], f"upsample{level}", mode="nearest")
            x = add("Conv", [x, weight(f"up{level}", width, channels, 4, 4)], f"up{level}", last, pads=[1, 1, 2, 2])
        if skips:
            x = add("Concat", [x, skips.pop()], f"skip{level}", axis=1)
            channels = 2 * width
    return graph


def multiply_adds(graph: Graph) -> int:
    return sum(cost.multiply_adds for cost in count(graph))


ENCODER = 16 * (128**2 * 3 * 64 + 64**2 * 64 * 128 + 32**2 * 128 * 256 + 16**2 * 256 * 512 + (64 + 16 + 4) * 512**2)
# Products of input and output channels, and size of the small map.
DECODER = [
    (512 * 512, 2),
    (1024 * 512, 4),
    (1024 * 512, 8),
    (1024 * 256, 16),
    (512 * 128, 32),
    (256 * 64, 64),
    (128 * 3, 128),
]


@pytest.mark.parametrize(
    ("form", "taps", "billions"),
    [("none", 64, 18.05), ("phases", 25, 8.28), ("dense", 36, 11.04)],
)
def test_the_generator_in_each_form(form: str, taps: int, billions: float) -> None:
    graph = generator()
    if form != "none":
        fold_upsampling(graph, form)
    graph.sort()
    assert multiply_adds(graph) == ENCODER + sum(taps * size**2 * products for products, size in DECODER)
    assert round(multiply_adds(graph) / 1e9, 2) == billions


def test_the_generator_in_the_box_form() -> None:
    graph = generator()
    before = sum(cost.weight_bytes for cost in count(graph))
    rewrites = fold_upsampling(graph, "auto")
    graph.sort()
    widths = (512, 512, 512, 256, 128, 64, 3)
    sums = sum(9 * (2 * size) ** 2 * width for (_, size), width in zip(DECODER, widths, strict=True))
    expected = ENCODER + sum(16 * (size + 1) ** 2 * products for products, size in DECODER) + sums
    assert multiply_adds(graph) == expected
    assert round(expected / 1e9, 2) == 6.52
    assert {rewrite.form for rewrite in rewrites} == {"box"}
    assert sum(cost.weight_bytes for cost in count(graph)) == before + 4 * 9 * sum(widths)


def test_strided_deconvolutions_are_not_counted_per_result() -> None:
    """The generator of the original paper, one level deeper."""
    graph = generator((*WIDTHS, 512), deconvolution=True)
    encoder = ENCODER + 16 * 512**2
    decoder = 16 * (512**2 + 2**2 * 1024 * 512 + sum(size**2 * products for products, size in DECODER[1:]))
    assert multiply_adds(graph) == encoder + decoder
    assert round(multiply_adds(graph) / 1e9, 2) == 6.05


def test_groups_matrices_and_elementwise_nodes() -> None:
    shapes = {"deep": (6, 1, 3, 3), "grouped": (6, 3, 1, 1), "up": (6, 2, 2, 2), "matrix": (8, 5), "table": (7, 5)}
    constants = {name: np.zeros(shape) for name, shape in shapes.items()} | {"b": np.zeros(7), "shape": [24, 8]}
    graph = graph_of(
        """d = Conv <group = 6, pads = [1, 1, 1, 1]> (x, deep)  g = Conv <group = 2> (d, grouped)
        t = ConvTranspose <group = 3, strides = [2, 2]> (g, up)  r = Reshape(t, shape)  m = MatMul(r, matrix)
        n = Gemm <transB = 1> (m, table, b)  y = Relu(n)""",
        constants,
        (1, 6, 2, 2),
        (24, 7),
    )
    found = {cost.name: cost for cost in count(graph)}
    expected = {"d": 6 * 4 * 9, "g": 6 * 4 * 3, "t": 6 * 4 * 2 * 4, "r": 0, "m": 24 * 8 * 5, "n": 24 * 5 * 7, "y": 0}
    assert {name: cost.multiply_adds for name, cost in found.items()} == expected
    assert found["n"] == LayerCost("n", "Gemm", (24, 7), 24 * 5 * 7, 8 * 42, 8 * 24 * 5, 8 * 24 * 7, "fp64")
    assert found["r"].weight_bytes == 0  # a shape is no weight


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_precision_and_bytes(tmp_path: Path, precision: str) -> None:
    path = write_small_network(tmp_path / "small.onnx", precision)
    graph = Graph.load(path)
    found = {cost.name: cost for cost in count(graph)}
    assert {name: found[name].precision for name in CONVOLUTIONS[precision]} == CONVOLUTIONS[precision]
    assert not {cost.op for cost in found.values()} & {"QuantizeLinear", "DequantizeLinear"}
    weights = graph.constants
    for name, width in CONVOLUTIONS[precision].items():
        size = {"fp32": 4, "fp16": 2, "int8": 1}[width]
        node = next(node for node in graph.nodes if node.name == name)
        shapes = graph.shapes()
        kernel, data = shapes[node.input[1]], shapes[node.input[0]]
        bias = weights[node.input[2]].nbytes
        assert found[name].weight_bytes == size * int(np.prod(kernel)) + bias
        assert found[name].read_bytes == size * int(np.prod(data))


def inspected(capsys: pytest.CaptureFixture[str], path: Path) -> str:
    assert export("inspect", path) == 0
    return capsys.readouterr().out


def saved_level(path: Path, form: str = "", batch: int | str = 1) -> Path:
    constants: dict[str, Array] = {
        "w": np.zeros((3, 64, 4, 4), np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    body = 'u = Resize <mode = "nearest"> (x, , scales) c = Conv <pads = [1, 1, 2, 2]> (u, w) y = Tanh(c)'
    graph = graph_of(body, constants, (1, 64, 50, 50), (1, 3, 100, 100), "float")
    rewrites = fold_upsampling(graph, form) if form else []
    graph.sort()
    model = graph.to_model()
    if isinstance(batch, str):
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = batch
    onnx.save(model, path)
    if rewrites:
        left = Rewrite("odd", "upsampling", "none", reason="it resizes by 3×3")
        scale = Rewrite("m", "scale", "into c")
        write_sidecar(path, Sidecar(rewrites=(scale, *rewrites, left), sensitivity={"c": 1.25}))
    return path


def test_inspect_prints_layers_and_totals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = inspected(capsys, saved_level(tmp_path / "level.onnx")).splitlines()
    assert lines[0].split() == ["layer", "operator", "output", "multiply-adds", "weights", "activations", "precision"]
    assert lines[1].split() == ["c", "Conv", "3×100×100", "30.72", "M", "12.29", "kB", "2.68", "MB", "fp32"]
    assert lines[2].startswith("2 others") and lines[3].startswith("total")
    assert len(lines) == 4


def test_inspect_shows_what_the_rewrites_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = inspected(capsys, saved_level(tmp_path / "level.onnx", "dense"))
    cells = [" ".join(line.split()) for line in out.splitlines()]
    assert "c dense 30.72 M → 17.28 M 12.29 kB → 27.65 kB" in cells
    assert "whole graph 30.72 M → 17.28 M" in cells
    assert "absorbed by their neighbours: 1 nodes (scale)" in out
    assert "left alone: odd: it resizes by 3×3" in out
    assert "1.2 dB" in out or "1.3 dB" in out


def test_inspect_takes_a_free_batch_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = inspected(capsys, saved_level(tmp_path / "fixed.onnx"))
    assert inspected(capsys, saved_level(tmp_path / "free.onnx", batch="N")) == fixed


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.onnx", None, "there is no file"),
        ("cut.onnx", b"\x08\x08\x12", "cannot be opened as an exported graph"),
        ("engine.plan", b"plan", "give the .onnx that it was built from"),
    ],
)
def test_inspect_refuses_on_one_line(
    tmp_path: Path, refused: Callable[[int], str], name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert message in refused(export("inspect", tmp_path / name))
