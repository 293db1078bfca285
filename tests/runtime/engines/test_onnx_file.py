"""Which .onnx files may be opened, before any engine sees them; and the file that OpenVINO is given."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.base import read_engine
from pix2pix_edge.runtime.engines.onnx_file import only_inputs_quantized, read_onnx
from pix2pix_edge.runtime.engines.protobuf import fields
from pix2pix_edge.runtime.errors import EngineError, ToolkitError
from pix2pix_edge.runtime.sidecar import Precision, Sidecar, Source, TensorSpec, write_sidecar
from tests.conftest import REPOSITORY, write_inverter

BUNDLED = REPOSITORY / "models" / "facades.int8.cpu.onnx"
SHAPE = [1, 8, 8, 3]


def save(
    path: Path,
    nodes: list[onnx.NodeProto] | None = None,
    constants: list[onnx.TensorProto] | None = None,
    *,
    shapes: tuple[list[Any], list[Any]] = (SHAPE, SHAPE),
    domains: tuple[str, ...] = (),
    change: Callable[[onnx.ModelProto], object] = lambda model: None,
) -> Path:
    """Write a graph of our contract that does nothing, or what `nodes` do."""
    ends = [helper.make_tensor_value_info(n, TensorProto.UINT8, s)
            for n, s in zip(("image", "translated"), shapes, strict=True)]  # fmt: skip
    identity = [helper.make_node("Identity", ["image"], ["translated"])]
    graph = helper.make_graph(nodes or identity, "g", ends[:1], ends[1:], constants or [])
    opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    change(model)
    path.write_bytes(model.SerializeToString())
    return path


def node(operator: str, *inputs: str, **attributes: Any) -> list[onnx.NodeProto]:
    return [helper.make_node(operator, inputs, ["translated"], **attributes)]


def external(location: str, **more: str) -> onnx.TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.UINT8, dims=[1], data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, "offset": "0", "length": "1", **more}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def number(value: Any, name: str, dtype: Any = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def loop() -> list[onnx.NodeProto]:
    values = {"i": (TensorProto.INT64, []), "c": (TensorProto.BOOL, []), "x": (TensorProto.UINT8, SHAPE)}
    info = {name: helper.make_tensor_value_info(name, *kind) for name, kind in values.items()}
    out = [helper.make_tensor_value_info(f"{n}2", *values[n]) for n in ("c", "x")]
    body = [helper.make_node("Identity", [n], [f"{n}2"]) for n in ("c", "x")]
    return node("Loop", "n", "c", "image", body=helper.make_graph(body, "b", list(info.values()), out))


def lie(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].dims[0] = 1000


def external_inside(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute[0].t.CopyFrom(external("/etc/passwd"))


CASES: list[tuple[str, dict[str, Any]]] = [
    ("'w' lies in another file", {"nodes": node("Max", "image", "w"), "constants": [external("/etc/passwd")]}),
    ("'w' lies in another file", {"nodes": node("Max", "image", "w"), "constants": [external("../../etc/passwd")]}),
    ("'w' lies in another file", {"nodes": node("Max", "image", "w"), "constants": [external("link")]}),
    ("'w' lies in another file", {"constants": [external("pipe")]}),
    ("'w' lies in another file", {"nodes": node("Constant", value=number(1, "v")), "change": external_inside}),
    ("operators of 'evil.domain'", {"nodes": node("Evil", "image", domain="evil.domain"), "domains": ("evil.domain",)}),
    ("a program \\('Loop'", {"nodes": loop(), "constants": [number(1 << 62, "n"), number(True, "c", bool)]}),
    ("functions or training", {"change": lambda model: model.functions.add(name="f", domain="")}),
    ("functions or training", {"change": lambda model: model.training_info.add()}),
    ("sparse weights", {"change": lambda model: model.graph.sparse_initializer.add()}),
    ("'image' has the absurd shape", {"shapes": ([1, 100_000, 100_000, 3],) * 2}),
    ("'image' has the absurd shape", {"shapes": ([1, 1 << 31, 1 << 31, 3],) * 2}),
    ("says 1000 values and holds 1", {"constants": [number([7], "w")], "change": lie}),
    (r"takes image uint8\[1, 8, 8, 2\] .*of 1, 3 or 4 channels", {"shapes": ([1, 8, 8, 2], SHAPE)}),
    (r"gives translated uint8\[\?, \?, \?, 3\], not", {"shapes": (SHAPE, ["a", "b", "c", 3])}),
    ("a picture must keep its size", {"shapes": (SHAPE, [1, 4, 4, 3])}),
]  # fmt: skip


@pytest.mark.parametrize(("said", "content"), CASES, ids=[said for said, _ in CASES])
def test_what_may_not_be_opened_is_one_sentence_before_an_engine_sees_it(
    tmp_path: Path, said: str, content: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    path = save(tmp_path / "odd.onnx", **content)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)  # a session would be a missing package
    with pytest.raises(EngineError, match=rf"odd\.onnx .*{said}.*python -m export convert") as caught:
        open_engine(path, backend="onnxruntime")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_no_reader_of_graphs_follows_a_file_out_of_itself(tmp_path: Path) -> None:
    """The onnx package, TensorRT's parser and an inference server would."""
    from pix2pix_edge.export.graph.graph import Graph
    from pix2pix_edge.export.triton import write_repository

    path = save(tmp_path / "odd.onnx", node("Max", "image", "w"), [external("../../etc/passwd")])
    ends = (TensorSpec(name, (1, 8, 8, 3), "uint8") for name in ("image", "translated"))
    write_sidecar(path, Sidecar("onnx", "", Source(), Precision(), *ends))
    for read in (lambda: Graph.load(path), lambda: write_repository(path, tmp_path / "models")):
        with pytest.raises(ToolkitError, match="'w' lies in another file"):
            read()
    assert not (tmp_path / "models").exists()


def test_a_field_hidden_behind_the_upper_bits_of_its_key_is_refused() -> None:
    """ONNX Runtime reads a key's lower 32 bits, and so would have followed what is external here."""
    with pytest.raises(ValueError, match="damaged"):
        list(fields(memoryview(bytes([13 << 3 | 2 | 0x80, 0x80, 0x80, 0x80, 0x10, 0]))))


def test_a_file_whose_result_is_not_what_it_declares_fails_in_one_sentence(tmp_path: Path) -> None:
    nodes, size = node("Reshape", "image", "s"), number([1, 4, 16, 3], "s")
    with pytest.raises(EngineError), open_engine(save(tmp_path / "a.onnx", nodes, [size])) as engine:
        engine(np.zeros(SHAPE, np.uint8))


def test_every_way_to_store_numbers_is_counted(tmp_path: Path) -> None:
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "int8": TensorProto.INT8,
             "float64": TensorProto.DOUBLE, "uint64": TensorProto.UINT64, "float16": TensorProto.FLOAT16}  # fmt: skip
    tensors = [helper.make_tensor(name, kind, [2, 3], [1, 2, 300 if "8" not in name else 9, 0, 5, 6])
               for name, kind in kinds.items()]  # fmt: skip
    tensors += [number(np.zeros((4, 5)), f"raw {name}", name) for name in kinds]
    found = read_onnx(save(tmp_path / "a.onnx", constants=tensors))
    assert found.operators == {"Identity"} and not found.quantized
    for tensor in tensors:
        tensor.dims[0] += 1
        with pytest.raises(EngineError, match="values and holds"):
            read_onnx(save(tmp_path / "b.onnx", constants=[tensor]))


def test_the_graphs_of_this_project_are_read_as_the_onnx_package_reads_them() -> None:
    model = onnx.load(BUNDLED)
    found = read_onnx(BUNDLED)
    assert found.operators == {node.op_type for node in model.graph.node} and found.quantized
    for spec, value in zip((*found.inputs, *found.outputs), (*model.graph.input, *model.graph.output), strict=True):
        dims = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        assert (spec.name, spec.shape, spec.dtype) == (value.name, dims, "uint8")


def test_openvino_is_given_the_file_without_the_roundings_after_convolutions(tmp_path: Path) -> None:
    sketch = BUNDLED.with_name("sketch.int8.cpu.onnx")  # every layer that can be is INT8
    before, after = onnx.load(sketch), onnx.load_from_string(only_inputs_quantized(sketch))
    onnx.checker.check_model(after, full_check=True)
    counts = [Counter(node.op_type for node in model.graph.node) for model in (before, after)]
    convolutions = sum(node.name.endswith("/weight") for node in before.graph.node)
    gone = Counter(QuantizeLinear=convolutions, DequantizeLinear=convolutions)
    assert convolutions > 10 and counts[0] - counts[1] == gone and not counts[1] - counts[0]
    made_by = {node.output[0]: node for node in after.graph.node}
    consumers = [node for node in after.graph.node for name in node.input if name in made_by
                 and made_by[name].op_type == "DequantizeLinear" and made_by[name].input[0] != "image"]  # fmt: skip
    assert {node.op_type for node in consumers} == {"Conv"}
    assert [t.SerializeToString() for t in before.graph.initializer] == [
        t.SerializeToString() for t in after.graph.initializer
    ]
    (tmp_path / "after.onnx").write_bytes(after.SerializeToString())
    image = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), np.uint8)
    with open_engine(sketch, backend="onnxruntime") as one, open_engine(tmp_path / "after.onnx") as other:
        assert 0 < np.abs(one(image).astype(int) - other(image)).mean() < 8, "roundings less, the same network"


@settings(max_examples=200)
@given(st.data())
def test_a_damaged_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    write_inverter(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))])
    try:
        read_engine(path)
    except EngineError as error:
        assert "\n" not in str(error) and len(str(error)) < 600


@settings(max_examples=200)
@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(content)
    with pytest.raises(EngineError):
        read_onnx(path)
        open_engine(path, backend="onnxruntime")
