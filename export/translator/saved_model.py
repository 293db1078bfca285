"""A SavedModel folder, of any Keras or of TensorFlow itself: the function that it serves, without a line of Python.

Its graph is looked at before it is loaded: what reads or writes files, or runs something else, is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pix2pix_edge.export.graph.trace import reason, tensorflow, trace
from pix2pix_edge.export.translator.archive import DOOR_OPERATORS, SAVING
from pix2pix_edge.export.translator.contract import Floats, Options
from pix2pix_edge.export.translator.translator import OWN_STATISTICS, Translator, few
from pix2pix_edge.runtime.errors import InputError

if TYPE_CHECKING:
    from pix2pix_edge.export.graph.graph import Graph

SERVING = ("serving_default", "serve")
KERAS_FILE = "convert the .keras or .h5 file of the same model, with --batch-statistics"
RANDOM = ("RandomUniform", "RandomStandardNormal", "StatelessRandomUniformV2", "StatelessRandomNormalV2")


class SavedModelTranslator(Translator):
    """The serving function of a SavedModel: float (or uint8) [N, H, W, C] in and out."""

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path)
        if options.batch_statistics:
            raise InputError(f"{path} is a SavedModel, whose batch norm is as it is; {KERAS_FILE}")
        tf = tensorflow()
        nodes = list(_nodes(path))
        self._refuse_doors(node.op for node in nodes if not SAVING.fullmatch(node.op) and _is_door(node))
        try:
            self._loaded = tf.saved_model.load(str(path))
        except Exception as error:  # whatever a damaged folder makes TensorFlow raise
            raise InputError(f"TensorFlow cannot load {path} ({reason(error)}); export the model again") from error
        signatures = self._loaded.signatures
        name = next((name for name in SERVING if name in signatures), None)
        if name is None:
            raise InputError(f"{path} serves no function (serving_default); export the model with model.export(FOLDER)")
        self._serve = signatures[name]
        takes, gives = self._serve.structured_input_signature[1], self._serve.structured_outputs
        for tensors, what in ((takes, "takes"), (gives, "gives")):
            if len(tensors) != 1:
                names = ", ".join(f"{key} {[*tensor.shape[1:]]}" for key, tensor in tensors.items()) or "nothing"
                raise InputError(f"{path} {what} {len(tensors)} tensors ({names}), not one image")
        (self._input, spec), (self._output, result) = next(iter(takes.items())), next(iter(gives.items()))
        if spec.shape.rank != 4 or result.shape.rank != 4:
            raise InputError(f"{path} takes {spec.shape} and gives {result.shape}, which are no pictures [N, H, W, C]")
        if spec.shape[0] not in (None, 1):
            raise InputError(f"{path} takes {spec.shape[0]} pictures at once; export it with a free batch")
        self.is_uint8 = spec.dtype == tf.uint8
        self._dtype = spec.dtype
        shape = tuple(spec.shape[1:])
        if options.size and shape[:2] not in ((None, None), options.size):
            raise InputError(f"{path} works on {shape[1]}x{shape[0]} alone, not on {options.size[1]}x{options.size[0]}")
        if options.size and None in shape:
            shape, open_size = (*options.size, shape[2]), True
        else:
            open_size = False
        kind = tf.uint8 if self.is_uint8 else tf.float32
        self._function = tf.function(self._call)
        if open_size:
            gives_shape = self._function.get_concrete_function(tf.TensorSpec((1, *shape), kind)).output_shapes[1:]
        else:
            gives_shape = result.shape[1:]
        self.check_shapes(shape, tuple(gives_shape))
        self.framework = f"TensorFlow {tf.__version__}"
        served = list(self._served())
        self._refuse_doors(node.op for node in served if SAVING.fullmatch(node.op))
        self._refuse_training_mode(served)
        if norms := _norms_in_training(served):
            self.notes.append(f"{few(norms)}: {OWN_STATISTICS}")
        drawn = next((node for node in served if node.op in RANDOM), None)
        if drawn is not None:
            raise InputError(
                f"{path} draws random numbers ({drawn.name}), so it gives another picture each time; convert the .keras"
                " or .h5 file of the same model, whose dropout and noise are left out"
            )

    def run(self, values: Floats) -> Floats:
        return np.asarray(self._function(tensorflow().constant(values)))

    def graph(self) -> Graph:
        return trace(self._call, (1, *self.takes), "uint8" if self.is_uint8 else "float32", [], self.path)

    def tools(self) -> dict[str, str]:
        import tf2onnx

        return {module.__name__: module.__version__ for module in (tensorflow(), tf2onnx)}

    def _call(self, image: Any) -> Any:
        tf = tensorflow()
        result = self._serve(**{self._input: tf.cast(image, self._dtype)})[self._output]
        return result if self.is_uint8 and result.dtype == tf.uint8 else tf.cast(result, tf.float32)

    def _refuse_doors(self, found: Iterable[str]) -> None:
        if names := ", ".join(sorted(set(found))):
            raise InputError(f"{self.path} computes {names}, which reads files or runs code; no picture needs that")

    def _served(self) -> Iterator[Any]:
        """Yield the nodes of what is served, as it was loaded."""
        tf = tensorflow()
        spec = tf.TensorSpec((1, *self.takes), tf.uint8 if self.is_uint8 else tf.float32)
        return _computed(self._function.get_concrete_function(spec).graph.as_graph_def())

    def _refuse_training_mode(self, served: Iterable[Any]) -> None:
        """Refuse what the converter would turn into moving statistics, if the serving function computes it.

        Asked of the loaded function: in the file, is_training is left out where it has its default, which is True.
        """
        norms = [node for node in served if node.op.startswith("FusedBatchNorm")]
        if names := [node.name for node in norms if node.attr["is_training"].b]:
            raise InputError(
                f"{self.path} computes {len(names)} of its {len(norms)} batch norms by the picture's own statistics"
                f" ({names[0]}); {KERAS_FILE} where they are to be so in all"
            )


def _norms_in_training(served: Sequence[Any]) -> list[str]:
    """Return the layers that take a mean over batch, height and width: Keras 3's batch norm in training mode."""
    tf = tensorflow()
    constants = {node.name: node.attr["value"].tensor for node in served if node.op == "Const"}
    found = {}
    for node in (node for node in served if node.op == "Mean"):
        axes = constants.get(node.input[1].partition(":")[0])
        if axes is not None and tf.make_ndarray(axes).tolist() == [0, 1, 2]:
            found[node.name.split("/")[-3:][0]] = True
    return list(found)


def _is_door(node: Any) -> bool:
    prints = node.op == "PrintV2" and node.attr["output_stream"].s.startswith(b"file:")
    return prints or DOOR_OPERATORS.search(node.op) is not None


def _computed(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a GraphDef, and those of the functions that they call, but not of others in its library."""
    functions = {function.signature.name: function for function in graph.library.function}
    waiting = [graph.node]
    while waiting:
        for node in waiting.pop():
            yield node
            for value in node.attr.values():
                called = [functions.pop(f.name, None) for f in (value.func, *value.list.func)]
                waiting += [function.node_def for function in called if function]


def _nodes(path: Path) -> Iterator[Any]:
    """Yield every node of the folder's graph, its functions' included."""
    tensorflow()
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel()
    try:
        content.ParseFromString((path / "saved_model.pb").read_bytes())
    except Exception as error:
        raise InputError(f"{path} is no whole SavedModel ({reason(error)}); export the model again") from error
    for graph in content.meta_graphs:
        yield from graph.graph_def.node
        for function in graph.graph_def.library.function:
            yield from function.node_def
