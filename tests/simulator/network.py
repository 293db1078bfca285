"""The simulated network and its ONNX parser.

The network is the ONNX graph itself, one layer a node. Only graphs that the real parser takes may pass, as far as the
rules that matter here go: see `refusal`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from tests.simulator.bindings import Simulated, Tensorrt
from tests.simulator.plan import Tensor

_DTYPES = {1: "FLOAT", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF"}
_LAYERS = {
    "Conv": "CONVOLUTION", "ConvTranspose": "DECONVOLUTION", "DequantizeLinear": "DEQUANTIZE",
    "QuantizeLinear": "QUANTIZE", "Cast": "CAST", "Concat": "CONCATENATION", "Transpose": "SHUFFLE",
    "Reshape": "SHUFFLE", "DepthToSpace": "SHUFFLE", "Resize": "RESIZE", "Tanh": "ACTIVATION", "Relu": "ACTIVATION",
    "LeakyRelu": "ACTIVATION", "Clip": "ACTIVATION", "Pad": "SLICE", "Slice": "SLICE",
}  # fmt: skip


def network_behaviours(trt: Callable[[], Tensorrt]) -> dict[str, type]:
    """Return the behaviours; `trt` gives the module, which is made of them."""

    class INetworkDefinition(Simulated):
        def _start(self, builder: Any, strong: bool) -> None:
            self._builder, self._strong = builder, strong
            self._onnx, self._graph = b"", None
            self._inputs: list[Any] = []
            self._outputs: list[Any] = []

        @property
        def num_inputs(self) -> int:
            return len(self._inputs)

        @property
        def num_outputs(self) -> int:
            return len(self._outputs)

        @property
        def num_layers(self) -> int:
            return len(self._graph.node) if self._graph else 0

        def get_input(self, index: int) -> Any:
            return self._inputs[index]

        def get_output(self, index: int) -> Any:
            return self._outputs[index]

        def get_layer(self, index: int) -> Any:
            return trt().new("ILayer", self._graph.node[index], self)

    class ILayer(Simulated):
        values = (("metadata", ""), ("name", ""))

        def _start(self, node: onnx.NodeProto, network: Any) -> None:
            constants = {t.name for t in network._graph.initializer}  # weights are no inputs, as in TensorRT
            self._values["name"] = node.name
            self._node, self._network = node, network
            self._inputs = [name for name in node.input if name and name not in constants]

        @property
        def type(self) -> Any:
            return getattr(trt().LayerType, _LAYERS.get(self._node.op_type, "ELEMENTWISE"))

        @property
        def num_inputs(self) -> int:
            return len(self._inputs)

        @property
        def num_outputs(self) -> int:
            return len(self._node.output)

        def get_input(self, index: int) -> Any:
            return self._tensor(self._inputs[index])

        def get_output(self, index: int) -> Any:
            return self._tensor(self._node.output[index])

        def _tensor(self, name: str) -> Any:
            dtype = dtypes_of(self._network._graph).get(name, "FLOAT")
            return trt().new(
                "ITensor", Tensor(name, dtype, shapes_of(self._network._graph).get(name, [])), self._network
            )

    class ITensor(Simulated):
        def _start(self, tensor: Tensor, network: Any) -> None:
            self._tensor, self._network = tensor, network

        @property
        def name(self) -> str:
            return self._tensor.name

        @property
        def dtype(self) -> Any:
            return getattr(trt().DataType, self._tensor.dtype)

        @property
        def shape(self) -> Any:
            return trt().Dims(list(self._tensor.shape))

    class OnnxParser(Simulated):
        def _start(self, network: Any, logger: Any) -> None:
            self._network, self._logger = network, logger
            self._errors: list[Any] = []

        @property
        def num_errors(self) -> int:
            return len(self._errors)

        def get_error(self, index: int) -> Any:
            return self._errors[index]

        def parse_from_file(self, model: str) -> bool:
            try:
                data = Path(model).read_bytes()
            except OSError:
                self._refuse(f"Failed to open file: {model}", -1, None)
                return False
            return self.parse(data)

        def parse(self, model: Any, path: Any = None) -> bool:
            if not bytes(model):
                return True  # the real parser takes an empty file for an empty network
            try:
                proto = onnx.load_from_string(bytes(model))
                if not proto.graph.output:
                    raise ValueError("no outputs")
                typed = onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
            except Exception as error:
                self._refuse(f"Failed to parse the ONNX model: {str(error).strip().splitlines()[0]}", -1, None)
                return False
            dtypes = dtypes_of(typed.graph)
            for index, node in enumerate(typed.graph.node):
                problem = refusal(node, dtypes)
                if problem:
                    self._refuse(problem, index, node)
                    return False
            self._network._onnx, self._network._graph = bytes(model), typed.graph
            constants, shapes = {t.name for t in typed.graph.initializer}, shapes_of(typed.graph)
            for infos, side in ((typed.graph.input, "_inputs"), (typed.graph.output, "_outputs")):
                tensors = [Tensor(i.name, dtypes[i.name], shapes[i.name]) for i in infos if i.name not in constants]
                setattr(self._network, side, [trt().new("ITensor", t, self._network) for t in tensors])
            return True

        def _refuse(self, text: str, index: int, node: onnx.NodeProto | None) -> None:
            self._errors.append(trt().new("ParserError", text, index, node))
            self._logger.log(trt().ILogger.ERROR, text)

    class ParserError(Simulated):
        def _start(self, text: str, index: int, node: onnx.NodeProto | None) -> None:
            self._text, self._index, self._node = text, index, node

        def desc(self) -> str:
            return self._text

        def node_name(self) -> str:
            return self._node.name if self._node else ""

        def node_operator(self) -> str:
            return self._node.op_type if self._node else ""

    return {name: value for name, value in locals().items() if isinstance(value, type)}


def refusal(node: onnx.NodeProto, dtypes: dict[str, str]) -> str:
    """Return why the parser does not take a node, in its words, or ""."""
    if node.op_type in ("QuantizeLinear", "DequantizeLinear") and len(node.input) > 2:
        zero_point = dtypes.get(node.input[2], "INT8")
        if zero_point == "UINT8":
            return "Assertion failed: zeroPoint type must be INT8: TensorRT only supports symmetric INT8 quantization"
    if node.op_type == "DequantizeLinear" and dtypes.get(node.input[0]) == "INT32":
        return "Assertion failed: DequantizeLinear takes INT8 here, and its input is INT32"
    if node.op_type in ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"):
        return f"No importer registered for op: {node.op_type}. Attempting to import as plugin."
    return ""


def dtypes_of(graph: onnx.GraphProto) -> dict[str, str]:
    """Tensor name -> data type."""
    found = {t.name: _DTYPES.get(t.data_type, "FLOAT") for t in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        found[info.name] = _DTYPES.get(info.type.tensor_type.elem_type, "FLOAT")
    return found


def shapes_of(graph: onnx.GraphProto) -> dict[str, list[int]]:
    """Tensor name -> shape, -1 where it is free."""
    return {
        info.name: [d.dim_value if d.HasField("dim_value") else -1 for d in info.type.tensor_type.shape.dim]
        for info in (*graph.input, *graph.value_info, *graph.output)
    }
