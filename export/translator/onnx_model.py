"""An ONNX file that another tool wrote: PyTorch's exporters, tf2onnx, or a file of this project's contract by hand.

Float or uint8, NCHW or NHWC, any tensor names, free batch or size, opset 9 to 22. Its owner's framework is ONNX
Runtime on the very file; on its graph in FP32 where it is of another precision, of which ONNX Runtime lacks operators.
"""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pix2pix_edge.export.translator.contract import Floats, Options
from pix2pix_edge.export.translator.onnx_load import (
    DOMAINS,
    FLOAT,
    at_working_opset,
    dropout_in_training,
    first_line,
    load_onnx,
    norms_in_training,
    to_single,
    with_norms,
)
from pix2pix_edge.export.translator.translator import (
    CHANNELS,
    DEFAULT_SIZE,
    OTHER_STATISTICS,
    OWN_STATISTICS,
    Translator,
    few,
)
from pix2pix_edge.runtime.engines.sizes import MOST_BYTES, check_sizes, limited_memory
from pix2pix_edge.runtime.errors import EngineError, InputError, require

if TYPE_CHECKING:
    import onnx

    from pix2pix_edge.export.graph.graph import Graph

UINT8, UINT16 = 2, 4


class OnnxTranslator(Translator):
    """A foreign graph with one image in and one of the same size out."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path)
        onnx = require("onnx", "export", "converting an .onnx file")
        self.model = load_onnx(path, onnx)
        self.framework = f"ONNX Runtime {require('onnxruntime', '', 'running .onnx files').__version__}"
        if to_single(self.model):
            self.notes.append("it computes in another precision than FP32; the files are true FP32 and FP16")
        source = self._one("input")
        self._one("output")
        self.is_uint8 = source.type.tensor_type.elem_type == UINT8
        shape = self._shape(source, options)
        self.layout = (_layout(shape), "")
        self._fix(source, shape)
        self._refuse_operators()
        self._choose_norms(options)
        self._session = self._open(self.model)
        gives = [length if isinstance(length, int) else None for length in self._session.get_outputs()[0].shape]
        if None in gives:
            zeros = np.zeros(shape, self._dtype())
            gives = list(self._run(zeros).shape)
        takes = _hwc(shape, self.layout[0])
        if len(gives) != 4:
            self.check_shapes(takes, tuple(gives[1:]))
        lengths = [length or 0 for length in gives]
        self.layout = (self.layout[0], _layout(lengths, self.layout[0]))
        self.check_shapes(takes, _hwc(lengths, self.layout[1]))

    def run(self, values: Floats) -> Floats:
        given = values.transpose(0, 3, 1, 2) if self.layout[0] == "NCHW" else values
        result = self._run(np.ascontiguousarray(given, self._dtype()))
        return result.transpose(0, 2, 3, 1) if self.layout[1] == "NCHW" else result

    def _run(self, given: Floats) -> Floats:
        try:
            with limited_memory(MOST_BYTES):
                result: Floats = self._session.run(None, {self._session.get_inputs()[0].name: given})[0]
        except Exception as error:
            raise InputError(f"ONNX Runtime cannot run {self.path} ({first_line(error)})") from error
        return result

    def graph(self) -> Graph:
        """Return its graph in FP32 at opset 18 or newer, without dropout; training-mode batch norm is instance norm."""
        from pix2pix_edge.export.graph.graph import Graph
        from pix2pix_edge.export.graph.simplify import fold_constants, readable_names

        graph = Graph(copy.deepcopy(at_working_opset(self.path, self.model)))
        _inference(graph)
        height, width, channels = self.gives
        shape = [channels, height, width] if self.layout[1] == "NCHW" else [height, width, channels]
        kind = graph.output.type.tensor_type.elem_type
        graph.output.CopyFrom(
            importlib.import_module("onnx.helper").make_tensor_value_info(graph.output.name, kind, [1, *shape])
        )
        for number, node in enumerate(graph.nodes):  # theirs may be empty, or not distinct
            node.name = f"{number}"
        try:
            with limited_memory(MOST_BYTES):  # what is constant may still be absurdly large
                fold_constants(graph)
        except MemoryError as error:
            raise InputError(f"{self.path} has absurd sizes ({first_line(error)}); export it again") from error
        readable_names(graph, {name: _owner(name) for name in graph.constants})
        return graph

    def tools(self) -> dict[str, str]:
        return {self.model.producer_name: self.model.producer_version} if self.model.producer_name else {}

    def other_modes(self) -> list[tuple[str, Translator]]:
        if not norms_in_training(self.model):
            return []
        other = copy.copy(self)
        other.model = with_norms(self.model, own=False)
        other._session = other._open(other.model)
        return [(OTHER_STATISTICS, other)]

    def _choose_norms(self, options: Options) -> None:
        """Let batch norm compute by the picture's own statistics if that is asked for, and say so wherever it does."""
        if options.batch_statistics:
            if not any(node.op_type == "BatchNormalization" for node in self.model.graph.node):
                raise InputError(
                    f"{self.path} has no batch norm for --batch-statistics; PyTorch folds it into convolutions unless"
                    " told otherwise: torch.onnx.export(…, training=torch.onnx.TrainingMode.PRESERVE)"
                )
            self.model = with_norms(at_working_opset(self.path, self.model), own=True)
        if noisy := dropout_in_training(self.model):
            self.notes.append(f"{few(noisy)}: dropout in training mode, which the files leave out")
        if norms := norms_in_training(self.model):
            self.notes.append(f"{few(norms)}: {OWN_STATISTICS}")

    def _one(self, what: str) -> onnx.ValueInfoProto:
        """Return the graph's one input or output; an input that has a constant value is none."""
        constants = {tensor.name for tensor in self.model.graph.initializer}
        values = [value for value in getattr(self.model.graph, what) if value.name not in constants]
        if len(values) != 1:
            names = ", ".join(f"{value.name} {_listed(value)}" for value in values) or "none"
            raise InputError(
                f"{self.path} has {len(values)} {what}s ({names}), not one image; export the one that is it"
            )
        if what == "input":
            kept = [values[0]]
            del self.model.graph.input[:]
            self.model.graph.input.extend(kept)
        value: onnx.ValueInfoProto = getattr(self.model.graph, what)[0]
        kind = value.type.tensor_type.elem_type
        if kind not in (FLOAT, UINT8) and (what == "input" or kind != UINT16):
            raise InputError(f"{self.path}: its {what} {value.name} is {_listed(value)}, which is no picture")
        return value

    def _shape(self, source: onnx.ValueInfoProto, options: Options) -> list[int]:
        """Return the input's shape with batch 1 and the size asked for."""
        dims = [
            d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None
            for d in source.type.tensor_type.shape.dim
        ]
        if len(dims) != 4:
            raise InputError(
                f"{self.path}: its input {source.name} is {_listed(source)}, which is no picture; export it with"
                " [1, channels, height, width] or [1, height, width, channels]"
            )
        nchw = dims[1] in CHANNELS and not (dims[3] in CHANNELS and dims[2] not in (*CHANNELS, None))
        if not nchw and dims[3] not in CHANNELS:
            advice = (
                "export it with a fixed number of channels"
                if None in (dims[1], dims[3])
                else "wrap it in a network that takes one picture and makes the rest itself, and export that"
            )
            raise InputError(
                f"{self.path}: its input {source.name} is {_listed(source)}, where neither the second nor the last"
                f" length is 1, 3 or 4 channels; {advice}"
            )
        places = (2, 3) if nchw else (1, 2)
        fixed = (dims[places[0]], dims[places[1]])
        if None in fixed and options.size is None:
            raise InputError(
                f"{self.path}: its size is open ({_listed(source)}); choose one, with --size {DEFAULT_SIZE}"
            )
        size = options.size or fixed
        if any(have not in (None, want) for have, want in zip(fixed, size, strict=True)):
            raise InputError(
                f"{self.path} works on {fixed[1]}x{fixed[0]} alone, not on {size[1]}x{size[0]}; export it with"
                " dynamic_axes"
            )
        if dims[0] not in (None, 1):
            raise InputError(f"{self.path} takes {dims[0]} pictures at once; export it with one, or a free batch")
        dims[0], dims[places[0]], dims[places[1]] = 1, size[0], size[1]
        return [int(d or 1) for d in dims]

    def _fix(self, source: onnx.ValueInfoProto, shape: list[int]) -> None:
        for dim, length in zip(source.type.tensor_type.shape.dim, shape, strict=True):
            dim.dim_value = length
        del self.model.graph.value_info[:]
        self.model.graph.output[0].type.tensor_type.ClearField("shape")

    def _refuse_operators(self) -> None:
        from pix2pix_edge.export.graph.simplify import RANDOM

        nodes = self.model.graph.node
        foreign = sorted({f"{n.domain}.{n.op_type}" for n in nodes if n.domain not in DOMAINS})
        if foreign:
            raise InputError(
                f"{self.path} computes {', '.join(foreign)}, which is not ONNX' own; export it without them"
            )
        imported = self.model.opset_import  # tf2onnx, and so Keras' own export, names domains that it does not use
        for entry in [entry for entry in imported if entry.domain not in DOMAINS]:
            imported.remove(entry)
        if drawn := [node for node in nodes if node.op_type in RANDOM]:
            raise InputError(
                f"{self.path} draws random numbers ({drawn[0].op_type} {drawn[0].name or drawn[0].output[0]}), so it"
                " gives another picture each time; export it in inference mode: model.eval()"
            )
        if any(node.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv") for node in nodes):
            raise InputError(f"{self.path} is quantised already; give the float file that it was made from")
        loops = sorted({node.op_type for node in nodes if node.op_type in ("If", "Loop", "Scan")})
        if loops:
            raise InputError(f"{self.path} holds {', '.join(loops)}, whose course is not fixed; export it without")

    def _open(self, model: onnx.ModelProto) -> Any:
        ort = require("onnxruntime", "", "running .onnx files")
        ort.set_default_logger_severity(4)
        content = model.SerializeToString()
        try:
            check_sizes(self.path, content, known=False)
        except EngineError as error:
            raise InputError(f"{self.path} cannot be read ({error.__cause__}); export it again") from error
        try:
            with limited_memory(MOST_BYTES):  # for sizes that only running it tells
                return ort.InferenceSession(content, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InputError(f"ONNX Runtime cannot run {self.path} ({first_line(error)})") from error

    def _dtype(self) -> Any:
        return np.uint8 if self.is_uint8 else np.float32


def _inference(graph: Graph) -> None:
    """Drop dropout, and write batch norm in training mode as what it is at batch 1: instance norm."""
    from pix2pix_edge.export.graph.graph import attributes
    from pix2pix_edge.export.graph.simplify import instances_of_groups

    for node in list(graph.nodes):
        if node.op_type == "Dropout":
            if node.output[0] == graph.output.name:
                node.op_type = "Identity"
                del node.input[1:], node.output[1:], node.attribute[:]
                continue
            graph.drop(node, node.input[0])
        elif node.op_type == "BatchNormalization" and attributes(node).get("training_mode"):
            epsilon = [a for a in node.attribute if a.name == "epsilon"]
            node.op_type = "InstanceNormalization"
            del node.input[3:], node.output[1:], node.attribute[:]
            node.attribute.extend(epsilon)
        elif node.op_type == "GroupNormalization":
            graph.replace([node], instances_of_groups(graph, node))


def _layout(shape: list[int], preferred: str = "NCHW") -> str:
    if shape[1] in CHANNELS and shape[3] in CHANNELS:
        return preferred
    return "NCHW" if shape[1] in CHANNELS or (shape[3] not in CHANNELS and preferred == "NCHW") else "NHWC"


def _hwc(shape: list[int], layout: str) -> tuple[int, ...]:
    return (shape[2], shape[3], shape[1]) if layout == "NCHW" else tuple(shape[1:])


def _owner(constant: str) -> str:
    """Return the layer that a PyTorch parameter belongs to: "model.0.weight" -> "model.0"."""
    parent, dot, _ = constant.rpartition(".")
    return parent if dot else constant


def _listed(value: onnx.ValueInfoProto) -> str:
    import onnx

    tensor = value.type.tensor_type
    dims = ", ".join(str(d.dim_value) if d.HasField("dim_value") else d.dim_param or "?" for d in tensor.shape.dim)
    return f"{onnx.TensorProto.DataType.Name(tensor.elem_type).lower()}[{dims}]"
