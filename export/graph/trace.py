"""A Keras generator: loaded and checked, run as the reference, and traced to a plain ONNX graph.

The only module outside train/ that loads TensorFlow.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pix2pix_edge.runtime.engines.base import INPUT_NAME, OUTPUT_NAME, Images, TensorSpec
from pix2pix_edge.runtime.engines.host import HostEngine
from pix2pix_edge.runtime.errors import InputError, require

if TYPE_CHECKING:
    from pix2pix_edge.export.graph.graph import Graph

# The newest that tf2onnx writes, and older than what TensorRT 10.0 reads.
OPSET = 18
ENDINGS = (".keras", ".h5")
TRAIN = "python -m train --data DIR --out RUN"


def load_generator(path: str | Path) -> Any:
    """Load a Keras image-to-image model, float [N, S, S, 3] -> the same, for inference on the CPU.

    Raises InputError when there is no such file, it is no Keras model, or the model has other inputs or outputs.
    """
    path = Path(path)
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(f"{path} {state}; give the generator.keras of a training run, or make one: {TRAIN}")
    if path.suffix not in ENDINGS:
        raise InputError(f"{path} is not a Keras model: its name must end in {' or '.join(ENDINGS)}")
    if path.suffix == ".keras" and not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not a whole .keras file (not a zip archive, or cut short); save the model again")
    keras = _keras()
    try:
        model = keras.models.load_model(path, compile=False)
    except Exception as error:  # whatever a damaged archive or an unknown layer makes Keras raise
        raise InputError(
            f"Keras cannot load {path} ({_reason(error)}); only whole models of Keras' own layers can be exported"
        ) from error
    _check_generator(path, model)
    return model


def _check_generator(path: Path, model: Any) -> None:
    def described(tensors: list[Any]) -> str:
        return ", ".join(f"{t.dtype}{['N' if d is None else d for d in t.shape]}" for t in tensors).replace("'", "")

    inputs, outputs = list(getattr(model, "inputs", None) or []), list(getattr(model, "outputs", None) or [])
    found = f"{path} is not a generator: it takes {described(inputs) or '?'} and gives {described(outputs) or '?'}"
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(f"{found}, not one image each; give the generator.keras of a training run")
    shape = tuple(inputs[0].shape)
    if len(shape) == 4 and shape[3] == 3 and None in shape[1:3]:
        raise InputError(f"{found}: its size is open; rebuild it with keras.Input((256, 256, 3)) and the same weights")
    square = len(shape) == 4 and shape[1] == shape[2] and shape[3] == 3
    if not square or tuple(outputs[0].shape[1:]) != shape[1:] or "float" not in str(inputs[0].dtype):
        raise InputError(f"{found}; it must take and give float32[N, S, S, 3], images in [-1, 1]")


def open_reference(path: str | Path) -> KerasEngine:
    """Open a .keras file as an Engine that computes with TensorFlow. Raises InputError as load_generator()."""
    return KerasEngine(Path(path))


class KerasEngine(HostEngine):
    """A Keras generator behind the exported graph's contract: uint8 [N, S, S, 3] RGB in and out, any N when called."""

    kind, precision = "keras", "fp32"

    def __init__(self, path: Path) -> None:
        super().__init__(slots=1)
        model = load_generator(path)
        tf = require("tensorflow", "export", "running a Keras model")
        shape = (1, *model.inputs[0].shape[1:])
        self.input, self.output = TensorSpec(INPUT_NAME, shape, "uint8"), TensorSpec(OUTPUT_NAME, shape, "uint8")
        self._about = {
            "engine": "Keras",
            "version": f"{_keras().__version__}, TensorFlow {tf.__version__}",
            "file": path.name,
            "precision": "fp32",
            "device": "CPU",
        }
        signature = [tf.TensorSpec((None, *shape[1:]), tf.uint8)]
        self._translate = tf.function(lambda image: _translated(model, image), input_signature=signature)

    def describe(self) -> dict[str, str]:
        return dict(self._about)

    def __call__(self, images: Images) -> Images:
        return self._run(images)

    def _run(self, images: Images) -> Images:
        return np.asarray(self._translate(images))


def trace(path: str | Path, *, as_keras_upsamples: bool = False) -> Graph:
    """Trace a generator to an ONNX graph of the contract, as tf2onnx gives it, nodes named after the Keras layers.

    Nothing in it is rewritten yet. Upsampling is one Resize; as_keras_upsamples leaves it as Keras computes it
    (repeated elements: Unsqueeze, Tile, Reshape), which is what a user gets without this project. Raises InputError as
    load_generator(), and where an operator of the model does not exist in ONNX.
    """
    import onnx

    from pix2pix_edge.export.graph.graph import Graph
    from pix2pix_edge.export.graph.simplify import fold_constants, readable_names

    model = load_generator(path)
    tf, keras = require("tensorflow", "export", "exporting a generator"), _keras()
    tf2onnx = require("tf2onnx", "export", "exporting a generator")
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    # Weights go through the converter as inputs and are put back afterwards: it copies constants again and again,
    # which takes most of a minute for 40 million of them, and gives the same graph.
    weights = [variable for variable in model.variables if len(variable.shape) > 1]

    def traced(image: Any, *values: Any) -> dict[str, Any]:
        with keras.StatelessScope(state_mapping=list(zip(weights, values, strict=True))):
            return {OUTPUT_NAME: _translated(model, image)}

    signature = [tf.TensorSpec((1, *model.inputs[0].shape[1:]), tf.uint8, name=INPUT_NAME)]
    signature += [tf.TensorSpec(w.shape, w.dtype, name=f"weight_{number}") for number, w in enumerate(weights)]
    function = tf.function(traced, input_signature=signature, autograph=False)
    upsampling = contextlib.nullcontext() if as_keras_upsamples else _upsampling_as_resize()
    try:
        with upsampling:
            function.get_concrete_function()
        proto, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    except Exception as error:  # the converter raises many kinds
        raise InputError(f"tf2onnx cannot convert {path} ({_reason(error)}); replace the layer it names") from error
    unknown = sorted({n.op_type for n in proto.graph.node if n.domain or not onnx.defs.has(n.op_type, OPSET)})
    if unknown:
        raise InputError(
            f"{path} computes {', '.join(unknown)}, which tf2onnx cannot express in ONNX; replace the layers that do"
        )
    opset = [entry for entry in proto.opset_import if not entry.domain]
    del proto.opset_import[:], proto.graph.input[1:]
    proto.opset_import.extend(opset)
    proto.graph.name = "generator"
    graph = Graph(proto)
    layers = {}
    for number, weight in enumerate(weights):
        graph.constants[f"weight_{number}"] = np.asarray(weight)
        layers[f"weight_{number}"] = weight.path.rpartition("/")[0] or weight.path
    origins = fold_constants(graph)
    layers |= {name: layers[origin] for name, origin in origins.items() if origin in layers}
    readable_names(graph, layers)
    return graph


def _translated(model: Any, image: Any) -> Any:
    """The contract in TensorFlow: uint8 [N, S, S, 3] -> uint8 [N, S, S, 3]."""
    import tensorflow as tf

    made = tf.cast(model(tf.cast(image, tf.float32) / 127.5 - 1.0, training=False), tf.float32)
    return tf.cast(tf.round(tf.clip_by_value((made + 1.0) * 127.5, 0.0, 255.0)), tf.uint8)


@contextlib.contextmanager
def _upsampling_as_resize() -> Iterator[None]:
    """Let UpSampling2D call TensorFlow's nearest resize, which tf2onnx writes as one Resize (asymmetric, floor)."""
    from unittest import mock

    import tensorflow as tf

    layer = _keras().layers.UpSampling2D
    usual = layer.call

    def call(self: Any, inputs: Any) -> Any:
        if self.interpolation != "nearest" or self.data_format != "channels_last":
            return usual(self, inputs)
        size = [length * times for length, times in zip(inputs.shape[1:3], self.size, strict=True)]
        return tf.raw_ops.ResizeNearestNeighbor(images=inputs, size=size)

    with mock.patch.object(layer, "call", call):
        yield


def _reason(error: Exception) -> str:
    """Return the part of a long message that says what is wrong: the class that is unknown, or the first sentence."""
    message = " ".join(str(error).split()) or type(error).__name__
    unknown = re.search(r"Could not locate \w+ '\w+'", message)
    return unknown.group() if unknown else message.partition(". ")[0][:200]


def _keras() -> Any:
    """Import Keras on TensorFlow, quietly, and off the GPU: memory that TensorFlow takes there is lost to others."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with _silent_libraries():
        tf = require("tensorflow", "export", "loading a Keras model")
    tf.get_logger().setLevel("ERROR")
    with contextlib.suppress(RuntimeError):  # too late once TensorFlow has run something
        tf.config.set_visible_devices([], "GPU")
    return require("keras", "export", "loading a Keras model")


@contextlib.contextmanager
def _silent_libraries() -> Iterator[None]:
    """Drop what native code writes to standard error: TensorFlow greets before its log level is read."""
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
