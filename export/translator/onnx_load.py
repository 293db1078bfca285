"""An ONNX file read whole, and brought to what this project works on: FP32, and batch norm in one mode."""

from __future__ import annotations

import copy
import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pix2pix_edge.runtime.engines.onnx_file import read_onnx
from pix2pix_edge.runtime.errors import EngineError, InputError

if TYPE_CHECKING:
    import onnx

OLDEST, NEWEST = 9, 22
WORKING = 18
"""The opset that the passes over a graph know; older files are brought to it."""
DOMAINS = ("", "ai.onnx")
FLOAT = 1
OTHER_WIDTHS = (10, 11, 16)
"""FP16, FP64 and BF16."""


def load_onnx(path: Path, onnx: Any) -> onnx.ModelProto:
    """Read a file and the weights beside it, if it keeps them apart. Raises InputError."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:
        raise InputError(f"{path} is not a whole ONNX file ({first_line(error)}); export it again") from error
    external = importlib.import_module("onnx.external_data_helper")
    places = {
        entry.value
        for tensor in external._get_all_tensors(model)
        if external.uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    for place in sorted(places):
        beside = path.parent / place
        if Path(place).name != place or beside.is_symlink() or not beside.is_file():
            raise InputError(
                f"{path} keeps its weights in {place!r}, which is no file beside it; export it again as one file"
                " (torch.onnx.export(…, external_data=False))"
            )
    try:
        if not places and not model.functions:
            read_onnx(path)
        if places:
            external.load_external_data_for_model(model, str(path.parent))
        if model.functions:
            model = importlib.import_module("onnx.inliner").inline_local_functions(model)
        for value in model.graph.output:
            value.type.tensor_type.shape.SetInParent()  # which may be left out, but not for the checker
        onnx.checker.check_model(model)
    except EngineError as error:
        raise InputError(
            f"{path} cannot be read ({error.__cause__}); export it again from its own framework"
        ) from error
    except Exception as error:
        if gone := re.search(r"registered for (\w+) is deprecated", str(error)):
            raise InputError(
                f"{path} computes {gone[1]} as no opset has it any more; export it again with opset_version={NEWEST}"
            ) from error
        if foreign := re.search(r"No Op registered for (\w+)", str(error)):
            raise InputError(
                f"{path} computes {foreign[1]}, which is not ONNX' own: its exporter left in what it could not write;"
                " convert the file that it was made from, or replace the layer"
            ) from error
        raise InputError(f"{path} is not a whole ONNX file ({first_line(error)}); export it again") from error
    if not OLDEST <= opset_of(model) <= NEWEST:
        raise InputError(
            f"{path} is of opset {opset_of(model)}; {OLDEST} to {NEWEST} can be read: export it again with"
            f" opset_version={WORKING}"
        )
    return model  # type: ignore[no-any-return]  # the module is handed in


def to_single(model: onnx.ModelProto) -> bool:
    """Let a graph in FP16, BF16 or FP64 compute in FP32: constants, casts, and its ends. Return whether it was one."""
    from onnx import numpy_helper

    nodes = model.graph.node
    tensors = [*model.graph.initializer, *(a.t for node in nodes for a in node.attribute if a.HasField("t"))]
    found = False
    for tensor in (tensor for tensor in tensors if tensor.data_type in OTHER_WIDTHS):
        value = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        found = True
    for attribute in (a for node in nodes for a in node.attribute if a.name in ("to", "dtype") and a.i in OTHER_WIDTHS):
        attribute.i, found = FLOAT, True
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type in OTHER_WIDTHS:
            value.type.tensor_type.elem_type, found = FLOAT, True
    return found


def norms_in_training(model: onnx.ModelProto) -> list[str]:
    """Return the batch norms that compute by the picture's own statistics, by the names of their weights."""
    return [
        node.input[1].rpartition(".")[0] or node.name or node.input[1]
        for node in model.graph.node
        if node.op_type == "BatchNormalization" and any(a.name == "training_mode" and a.i for a in node.attribute)
    ]


def dropout_in_training(model: onnx.ModelProto) -> list[str]:
    """Return the dropouts that are in training mode, by name."""
    from onnx import numpy_helper

    given = {tensor.name: tensor for tensor in model.graph.initializer}
    given |= {n.output[0]: a.t for n in model.graph.node if n.op_type == "Constant" for a in n.attribute}
    return [
        node.name or node.output[0]
        for node in model.graph.node
        if node.op_type == "Dropout"
        and node.input[2:3]
        and node.input[2] in given
        and numpy_helper.to_array(given[node.input[2]]).any()
    ]


def with_norms(model: onnx.ModelProto, *, own: bool) -> onnx.ModelProto:
    """Return a copy of a model of opset 14 or newer whose batch norms compute by the picture's own statistics, or by
    moving ones."""
    from onnx import helper

    model = copy.deepcopy(model)
    for node in (node for node in model.graph.node if node.op_type == "BatchNormalization"):
        kept = [a for a in node.attribute if a.name != "training_mode"]
        del node.attribute[:], node.output[1:]
        node.attribute.extend([*kept, helper.make_attribute("training_mode", int(own))])
        if own:
            node.output.extend(f"{node.output[0]}:{kept_too}" for kept_too in ("mean", "variance"))
    return model


def at_working_opset(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model at WORKING or newer. Raises InputError where an operator cannot be brought there."""
    converter = importlib.import_module("onnx.version_converter")
    if opset_of(model) >= WORKING:
        return model
    if trained := [n for n in model.graph.node if n.op_type == "BatchNormalization" and len(n.output) > 3]:
        raise InputError(
            f"{path} computes batch norm in training mode ({trained[0].input[1]}), as opset {opset_of(model)} cannot"
            f" say it; export it again with opset_version={WORKING}, or after model.eval()"
        )
    try:
        return converter.convert_version(model, WORKING)  # type: ignore[no-any-return]
    except Exception as error:
        raise InputError(
            f"{path} (opset {opset_of(model)}) cannot become opset {WORKING} ({first_line(error)}); export it again"
            f" with opset_version={WORKING}"
        ) from error


def opset_of(model: onnx.ModelProto) -> int:
    return max((entry.version for entry in model.opset_import if entry.domain in DOMAINS), default=0)


def first_line(error: Exception) -> str:
    text = " ".join(str(error).split()).rpartition(" : ")[2] or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200].rpartition(' ')[0]} …"
