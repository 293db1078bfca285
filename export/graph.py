"""A small editor over an ONNX graph: names, producers, consumers, constants, replace, prune, sort, save.

Every pass in export/ takes a Graph, changes it in place, and leaves it valid (`check()`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from runtime.errors import InputError

Array = NDArray[Any]


class Graph:
    """An ONNX model with constants as numpy arrays and nodes in topological order."""

    def __init__(self, model: onnx.ModelProto) -> None:
        """Take over `model`: Constant nodes become initialisers, shapes are inferred."""
        self.model = model
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
            else:
                self.nodes.append(node)
        self._taken = {name for node in self.nodes for name in (*node.output, node.name)} | set(self.constants)

    @classmethod
    def load(cls, path: str | Path) -> Graph:
        """Read an .onnx file. Raises InputError when it is missing, truncated or not ONNX."""
        if not Path(path).is_file():
            raise InputError(
                f"there is no file {path}; make one with: python -m export convert GENERATOR.keras --out DIR"
            )
        try:
            model = onnx.load(str(path))
            onnx.checker.check_model(model)
        except Exception as error:  # protobuf and checker raise many kinds
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"{path} is not a whole ONNX file ({reason}); export it again") from error
        return cls(model)

    @property
    def input(self) -> onnx.ValueInfoProto:
        return self.model.graph.input[0]

    @property
    def output(self) -> onnx.ValueInfoProto:
        return self.model.graph.output[0]

    @property
    def opset(self) -> int:
        return next(o.version for o in self.model.opset_import if o.domain in ("", "ai.onnx"))

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

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor name -> static shape, constants included. Raises InputError for a graph with unknown shapes."""
        graph = onnx.shape_inference.infer_shapes(self.to_model(), strict_mode=True, data_prop=True).graph
        found = {name: value.shape for name, value in self.constants.items()}
        for info in (*graph.input, *graph.value_info, *graph.output):
            dims = info.type.tensor_type.shape.dim
            if any(not d.HasField("dim_value") for d in dims):
                raise InputError(
                    f"tensor {info.name} has an unknown dimension; export with a fixed batch and image size"
                )
            found[info.name] = tuple(d.dim_value for d in dims)
        return found

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
        graph = helper.make_graph(
            self.nodes,
            self.model.graph.name,
            list(self.model.graph.input),
            list(self.model.graph.output),
            [numpy_helper.from_array(np.ascontiguousarray(v) if v.ndim else v, n) for n, v in self.constants.items()],
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
