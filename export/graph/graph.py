"""A small editor over an ONNX graph: names, producers, consumers, constants, replace, prune, sort, save.

Every pass in export/ takes a Graph, changes it in place, and leaves it valid (`check()`).
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pix2pix_edge.runtime.engines.onnx_file import read_onnx
from pix2pix_edge.runtime.engines.sizes import check_sizes
from pix2pix_edge.runtime.errors import EngineError, InputError

Array = NDArray[Any]

CONSTANT_FORMS: dict[str, Callable[[onnx.AttributeProto], Array]] = {
    "value": lambda a: numpy_helper.to_array(a.t),
    "value_float": lambda a: np.array(a.f, np.float32),
    "value_floats": lambda a: np.array(a.floats, np.float32),
    "value_int": lambda a: np.array(a.i, np.int64),
    "value_ints": lambda a: np.array(a.ints, np.int64),
}
# Shape inference looks into small constants only (shapes, axes, scales); weights would just be copied around.
SHAPE_ELEMENTS = 64
TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]
"""How a picture is transposed between channels last and channels first."""


class Graph:
    """An ONNX model with constants as numpy arrays and nodes in topological order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Take over `model`: Constant nodes become initialisers, shapes are inferred."""
        self.model = model
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name in CONSTANT_FORMS:
                self.constants[node.output[0]] = CONSTANT_FORMS[node.attribute[0].name](node.attribute[0])
            else:
                self.nodes.append(node)
        self._reserve_names()

    @classmethod
    def load(cls, path: str | Path) -> Graph:
        """Read an .onnx file. Raises InputError when it is missing, truncated or not ONNX."""
        if not Path(path).is_file():
            raise InputError(
                f"there is no file {path}; make one with: python -m export convert GENERATOR.keras --out DIR"
            )
        try:
            read_onnx(Path(path))  # before the onnx package reads what it says lies in other files
            check_sizes(Path(path), known=False)
            model = onnx.load(str(path))
            onnx.checker.check_model(model)
        except EngineError as error:
            raise InputError(str(error)) from error
        except Exception as error:  # protobuf and checker raise many kinds
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"{path} is not a whole ONNX file ({reason}); export it again") from error
        return cls(model)

    def copy(self) -> Graph:
        """Return a graph that can be changed without changing this one; the arrays, never written to, are shared."""
        other = copy.copy(self)
        other.model = onnx.ModelProto()
        other.model.graph.name = self.model.graph.name
        other.model.graph.input.extend(self.model.graph.input)
        other.model.graph.output.extend(self.model.graph.output)
        other.model.opset_import.extend(self.model.opset_import)
        other.model.ir_version = self.model.ir_version
        other.nodes = [copy.deepcopy(node) for node in self.nodes]
        other.constants = dict(self.constants)
        other._taken = set(self._taken)
        return other

    @property
    def input(self) -> onnx.ValueInfoProto:
        value: onnx.ValueInfoProto = self.model.graph.input[0]
        return value

    @property
    def output(self) -> onnx.ValueInfoProto:
        value: onnx.ValueInfoProto = self.model.graph.output[0]
        return value

    @property
    def opset(self) -> int:
        return int(next(o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx")))

    def producers(self) -> dict[str, onnx.NodeProto]:
        """Tensor name -> the node that makes it."""
        return {name: node for node in self.nodes for name in node.output}

    def consumers(self) -> dict[str, list[onnx.NodeProto]]:
        """Tensor name -> the nodes that read it; a graph output counts as no node."""
        found: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                found[name].append(node)
        return found

    def only_reader(self, name: str) -> onnx.NodeProto | None:
        """Return the node that alone reads a tensor, which is not what the graph gives out; else None."""
        readers = self.consumers().get(name, [])
        return readers[0] if len(readers) == 1 and name != self.output.name else None

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor name -> static shape, constants included. Raises InputError for a graph with unknown shapes."""
        found = self.known_shapes()
        for name in (output for node in self.nodes for output in node.output):
            if name and name not in found:
                raise InputError(f"tensor {name} has an unknown dimension; export with a fixed batch and image size")
        return found

    def known_shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor name -> static shape, constants included; a tensor with an unknown dimension is left out.

        Raises InputError where ONNX' inference fails.
        """
        found = {name: value.shape for name, value in self.constants.items()}
        for info in self._inferred():
            dims = info.type.tensor_type.shape.dim
            if info.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
                found[info.name] = tuple(d.dim_value for d in dims)
        return found

    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Tensor name -> element type, constants included."""
        found = {name: value.dtype for name, value in self.constants.items()}
        for info in self._inferred():
            found[info.name] = np.dtype(helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type))
        return found

    def _inferred(self) -> list[onnx.ValueInfoProto]:
        """Return what shape inference says of every tensor that is not a constant."""
        small = {n: v for n, v in self.constants.items() if v.size <= SHAPE_ELEMENTS}
        large = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
            for n, v in self.constants.items()
            if n not in small
        ]
        model = self._assemble(small, [*self.model.graph.input, *large])
        try:
            graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
        except onnx.shape_inference.InferenceError as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"ONNX cannot tell this graph's shapes ({reason} …); convert its model again") from error
        return [info for info in (*graph.input, *graph.value_info, *graph.output) if info.name not in self.constants]

    def name(self, base: str) -> str:
        """Return `base`, or `base` with a number, as yet unused by any node or tensor."""
        name, count = base, 1
        while name in self._taken:
            count += 1
            name = f"{base}_{count}"
        self._taken.add(name)
        return name

    def constant(self, base: str, value: Array) -> str:
        """Add a constant and return its name."""
        name = self.name(base)
        self.constants[name] = value
        return name

    def node(
        self, op: str, inputs: Iterable[str], name: str, output: str | None = None, **attributes: Any
    ) -> onnx.NodeProto:
        """Make a node with one output (not yet placed: give it to `replace` or append it to `nodes`)."""
        name = self.name(name)
        return helper.make_node(op, list(inputs), [output or self.name(f"{name}:out")], name=name, **attributes)

    def replace(self, old: Iterable[onnx.NodeProto], new: Iterable[onnx.NodeProto]) -> None:
        """Put `new` where the last of `old` stood; the last of `new` must write the tensor the last of `old` wrote."""
        gone = [id(node) for node in old]
        position = max(i for i, node in enumerate(self.nodes) if id(node) in gone)
        before = [n for n in self.nodes[:position] if id(n) not in gone]
        after = [n for n in self.nodes[position + 1 :] if id(n) not in gone]
        self.nodes = [*before, *new, *after]

    def rename(self, old: str, new: str) -> None:
        """Make every reader of tensor `old` read `new`."""
        for node in self.nodes:
            for i, name in enumerate(node.input):
                if name == old:
                    node.input[i] = new

    def drop(self, node: onnx.NodeProto, source: str) -> None:
        """Take a node out, and let the readers of its first output read tensor `source`."""
        self.rename(node.output[0], source)
        self.nodes = [other for other in self.nodes if other is not node]

    def relabel(self, nodes: Mapping[str, str], tensors: Mapping[str, str]) -> None:
        """Give nodes and tensors new names (old -> new, the rest keep theirs); names must stay distinct."""
        for node in self.nodes:
            node.name = nodes.get(node.name, node.name)
            node.input[:] = [tensors.get(name, name) for name in node.input]
            node.output[:] = [tensors.get(name, name) for name in node.output]
        self.constants = {tensors.get(name, name): value for name, value in self.constants.items()}
        self._reserve_names()

    def _reserve_names(self) -> None:
        inputs_outputs = (*self.model.graph.input, *self.model.graph.output)
        self._taken = {name for node in self.nodes for name in (*node.output, node.name)}
        self._taken |= self.constants.keys() | {value.name for value in inputs_outputs}

    def sort(self) -> None:
        """Put nodes in topological order (stable), and drop nodes and constants that nothing reads."""
        wanted = {o.name for o in self.model.graph.output}
        kept: list[onnx.NodeProto] = []
        producers = self.producers()
        state: dict[int, bool] = {}

        def visit(node: onnx.NodeProto) -> None:
            stack: list[tuple[onnx.NodeProto, bool]] = [(node, False)]
            while stack:
                current, expanded = stack.pop()
                if expanded:
                    kept.append(current)
                elif id(current) not in state:
                    state[id(current)] = True
                    stack.append((current, True))
                    stack.extend((producers[n], False) for n in reversed(current.input) if n in producers)

        for name in wanted:
            if name in producers:
                visit(producers[name])
        self.nodes = kept
        used = {name for node in kept for name in node.input}
        self.constants = {name: value for name, value in self.constants.items() if name in used}

    def to_model(self) -> onnx.ModelProto:
        """Return a new ModelProto: same opset and inputs and outputs, constants as initialisers, no value_info."""
        return self._assemble(self.constants, list(self.model.graph.input))

    def _assemble(self, constants: Mapping[str, Array], inputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            self.model.graph.name,
            inputs,
            list(self.model.graph.output),
            [numpy_helper.from_array(np.ascontiguousarray(v) if v.ndim else v, n) for n, v in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=list(self.model.opset_import), producer_name="pix2pix-edge")
        model.ir_version = self.model.ir_version
        return model

    def check(self) -> None:
        """Raise onnx.checker.ValidationError unless the graph is valid ONNX."""
        onnx.checker.check_model(self.to_model(), full_check=True)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes as Python values."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
