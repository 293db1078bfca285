"""A model of Keras 2 or 3: loaded without running code of its file, traced, and run as its owner does."""

from __future__ import annotations

import contextlib
import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from pix2pix_edge.export.graph.trace import UNKNOWN, reason, tensorflow, trace, upsampling_as_resize
from pix2pix_edge.export.translator.archive import NORMS, RANDOM_LAYERS, Archive, foreign_classes, read_archive
from pix2pix_edge.export.translator.contract import Floats, Options
from pix2pix_edge.export.translator.settings import HALVES, in_single, policy_name, rewritten, run_file
from pix2pix_edge.export.translator.translator import OTHER_STATISTICS, OWN_STATISTICS, Norm, Translator, few
from pix2pix_edge.runtime.errors import InputError, require

if TYPE_CHECKING:
    from pix2pix_edge.export.graph.graph import Graph

OWN = (
    "give the Python file that holds it with --custom FILE.py, which runs that file, or convert a SavedModel folder"
    " (model.export(FOLDER))"
)


class KerasTranslator(Translator):
    """A whole Keras model, functional, Sequential or subclassed.

    Batch norm computes as the file's Keras computes it in predict(): Keras 2 by the picture's own statistics where the
    layer was called with training=True, Keras 3 always by moving ones. options.batch_statistics asks for the picture's
    own in every layer. Layers of noise and dropout are off.
    """

    def __init__(self, path: Path, options: Options) -> None:
        super().__init__(path)
        self.options, self.archive = options, read_archive(path)
        self.keras = _keras(self.archive)
        self.model = self._as_wanted(self._load())
        inputs, outputs = self._tensors()
        self.is_uint8 = _dtype(inputs[0]) == "uint8"
        if not self.is_uint8 and "float" not in _dtype(inputs[0]):
            raise InputError(f"{path} takes {_dtype(inputs[0])}, which is no picture; it must take float or uint8")
        self.check_shapes(tuple(inputs[0].shape[1:]), tuple(outputs[0].shape[1:]))
        self.batch_statistics = options.batch_statistics
        kinds = {layer.kind for layer in self.archive.layers}
        if options.batch_statistics and not kinds & {*NORMS} and not foreign_classes(self.archive):
            raise InputError(f"{path} has no batch norm (BatchNormalization) for --batch-statistics; leave that out")
        self._note_training_mode()
        tf = tensorflow()
        self.framework = f"Keras {self.keras.__version__}, TensorFlow {tf.__version__}"
        self._function = self._compiled()

    def run(self, values: Floats) -> Floats:
        return np.asarray(self._function(values))

    def graph(self) -> Graph:
        return self.trace()

    def trace(self, *, as_keras_upsamples: bool = False) -> Graph:
        """Trace to a graph, [1, H, W, C] in and out; as_keras_upsamples: leave upsampling as Keras computes it."""
        shape, dtype = (1, *self.takes), "uint8" if self.is_uint8 else "float32"
        layer = self.keras.layers.UpSampling2D
        resized = contextlib.nullcontext() if as_keras_upsamples else upsampling_as_resize(layer)
        with resized, _quiet(self.keras), self._own_statistics():
            if self.archive.is_keras_2:
                return trace(lambda image: self._call(image, training=False), shape, dtype, [], self.path)
            variables = [variable for variable in self.model.variables if len(variable.shape) > 1]

            def call(image: Any, *values: Any) -> Any:
                with self.keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                    return self._call(image, training=False)

            weights = [(v.path.rpartition("/")[0] or v.path, v.value) for v in variables]
            return trace(call, shape, dtype, weights, self.path)

    def tools(self) -> dict[str, str]:
        import tf2onnx

        tf = tensorflow()
        return {module.__name__: module.__version__ for module in (self.keras, tf, tf2onnx)}

    def first_norm(self, graph: Graph, values: Floats) -> Norm | None:
        found: list[Norm] = []

        def seen(layer: Any, inputs: Any) -> None:
            if not found:
                given = np.asarray(inputs)
                kept = (np.asarray(v) for v in (layer.moving_mean, layer.moving_variance))
                found.append(Norm(given.reshape(-1, given.shape[-1]), *kept))

        with _quiet(self.keras), self._norms(lambda training: False, seen):
            self._call(values, training=False)
        return found[0] if found else None

    def other_modes(self) -> list[tuple[str, Translator]]:
        found: list[tuple[str, Translator]] = []
        if self.archive.in_training_mode(NORMS) or self.batch_statistics:
            changed = {"batch_statistics": not self.own_statistics, "moving_statistics": self.own_statistics}
            found.append((OTHER_STATISTICS, self._with(changed)))
        if self.archive.is_keras_2 and self.archive.in_training_mode(RANDOM_LAYERS):
            found.append(("dropout and noise as predict() draws them", self._with({"noisy": True})))
        return found

    def _with(self, changed: dict[str, Any]) -> KerasTranslator:
        other = KerasTranslator.__new__(KerasTranslator)
        other.__dict__ = {**self.__dict__, "notes": [], **changed}
        other._function = other._compiled()
        return other

    def _compiled(self) -> Any:
        tf = tensorflow()
        kind = tf.uint8 if self.is_uint8 else tf.float32
        return tf.function(self._as_its_owner, input_signature=[tf.TensorSpec((1, *self.takes), kind)])

    moving_statistics = noisy = False

    @property
    def own_statistics(self) -> bool:
        """Whether batch norm computes by the picture's own statistics, in some layer at least."""
        return self.batch_statistics or (self.archive.is_keras_2 and bool(self.archive.in_training_mode(NORMS)))

    def _load(self) -> Any:
        own = run_file(self.options.custom) if self.options.custom is not None else {}
        foreign = foreign_classes(self.archive)
        if foreign and self.options.custom is None:
            layer = foreign[0]
            raise InputError(
                f"the layer {layer.name} of {self.path} is of the class {layer.registered or layer.kind}, which is"
                f" not Keras' own; {OWN}"
            )
        settings: dict[str, Any] = {"compile": False}
        if self.path.suffix == ".keras":
            settings["safe_mode"] = True
        elif not self.archive.is_keras_2:
            settings["custom_objects"] = _operations(self.keras, self.archive)
        names = {name for layer in self.archive.layers for name in (layer.kind, layer.registered)}
        mine = {name: own[name.rpartition(">")[2]] for name in names if name.rpartition(">")[2] in own}
        settings["custom_objects"] = settings.get("custom_objects", {}) | mine
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self.keras.models.load_model(self.path, **settings)
        except Exception as error:  # whatever a damaged archive or an unknown layer makes Keras raise
            resaved = "; save it as .keras" if self.path.suffix != ".keras" else ""
            advice = f"; {OWN}" if UNKNOWN.fullmatch(reason(error)) else resaved
            raise InputError(
                f"Keras {self.keras.__version__} cannot load {self.path}, which Keras {self.archive.version or '2'}"
                f" wrote ({reason(error)}){advice}"
            ) from error

    def _as_wanted(self, model: Any) -> Any:
        """Return the model in FP32 with free batch and the size asked for, rebuilt from its settings if it must be."""
        inputs = list(getattr(model, "inputs", None) or [])
        fixed = len(inputs) == 1 and len(inputs[0].shape) == 4 and inputs[0].shape[0] not in (None, 1)
        halves = any(policy_name(layer.config.get("dtype")) in HALVES for layer in self.archive.layers)
        shape = tuple(inputs[0].shape[1:3]) if inputs and len(inputs[0].shape) == 4 else ()
        size = self.options.size if self.options.size not in (None, shape) else None
        if not (fixed or halves or size):
            return model
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                config = rewritten(model.get_config(), shape, size, halves)
                rebuilt = type(model).from_config(config)
                rebuilt.set_weights([in_single(weight) for weight in model.get_weights()])
        except Exception as error:
            what = f"the size {size[1]}x{size[0]}" if size else "FP32 and a free batch"
            raise InputError(f"{self.path} cannot be rebuilt for {what} ({reason(error)})") from error
        if halves:
            self.notes.append("its layers compute in another precision than FP32; the files are true FP32 and FP16")
        return rebuilt

    def _tensors(self) -> tuple[list[Any], list[Any]]:
        """Return the model's symbolic inputs and outputs; a subclassed model's are made by calling it."""
        inputs, outputs = (list(getattr(self.model, name, None) or []) for name in ("inputs", "outputs"))
        if not inputs:
            raise InputError(
                f"{self.path} is a subclass of keras.Model, whose input cannot be told; save it as a SavedModel folder"
                " (model.export(FOLDER)) and convert that"
            )
        for tensors, what in ((inputs, "takes"), (outputs, "gives")):
            if len(tensors) > 1:
                names = ", ".join(f"{tensor.name} {[*tensor.shape[1:]]}" for tensor in tensors)
                raise InputError(
                    f"{self.path} {what} {len(tensors)} tensors ({names}), not one image; build a keras.Model of the"
                    " one that is the picture, and save that"
                )
        return inputs, outputs

    def _call(self, image: Any, training: bool) -> Any:
        """Call the model with one tensor, however it names its input, and return its one result in FP32."""
        tf = tensorflow()
        structure = getattr(self.model, "_inputs_struct", None)
        given = {next(iter(structure)): image} if isinstance(structure, dict) else image
        result = tf.nest.flatten(self.model(given, training=training))[0]
        return result if self.is_uint8 and result.dtype == tf.uint8 else tf.cast(result, tf.float32)

    def _as_its_owner(self, image: Any) -> Any:
        """Compute as its owner's Keras does: batch norm is Keras' own code here, only noise is off."""
        with contextlib.nullcontext() if self.noisy else _quiet(self.keras):
            if self.moving_statistics:
                with self._norms(lambda layer: False):
                    return self._call(image, training=False)
            if self.archive.is_keras_2 or not self.batch_statistics:
                return self._call(image, training=self.batch_statistics)
            with self.keras.StatelessScope():  # moving statistics would be updated
                return self._call(image, training=True)

    @contextlib.contextmanager
    def _norms(self, own: Any, seen: Any = lambda layer, inputs: None) -> Iterator[None]:
        """Let batch norm use the picture's statistics where own(training) says so, else moving ones."""
        kind = self.keras.layers.BatchNormalization
        usual = kind.call

        def call(layer: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            seen(layer, inputs)
            if own(training) and layer.trainable:
                return _by_own_statistics(layer, inputs)
            return usual(layer, inputs, training=False)

        with mock.patch.object(kind, "call", call):
            yield

    def _own_statistics(self) -> Any:
        """While tracing: the converter turns training-mode batch norm into moving statistics without a word."""
        return self._norms(lambda training: self.batch_statistics or training is True or training == 1)

    def _note_training_mode(self) -> None:
        norms, noise = self.archive.in_training_mode(NORMS), self.archive.in_training_mode(RANDOM_LAYERS)
        if self.own_statistics and any(layer.config.get("renorm") for layer in self.archive.layers):
            raise InputError(f"{self.path} renormalises (renorm=True) in training mode; call it with training=False")
        if noise and self.archive.is_keras_2:
            self.notes.append(
                f"{few(noise)} {'is' if len(noise) == 1 else 'are'} called with training=True: Keras draws them anew"
                " for every picture; the files leave them out"
            )
        if norms and not self.archive.is_keras_2 and not self.batch_statistics:
            self.notes.append(
                f"{few(norms)} {'is' if len(norms) == 1 else 'are'} called with training=True, which Keras 3 minds in"
                " model(x) but not in predict(): the files use moving statistics, as predict() does; for each picture's"
                " own, give --batch-statistics"
            )
        elif norms or self.batch_statistics:
            which = few(norms) if norms else "batch norm"
            self.notes.append(f"{which}: {OWN_STATISTICS}")


def _keras(archive: Archive) -> Any:
    tensorflow()
    if not archive.is_keras_2:
        return require("keras", "export", "loading a Keras model")
    if importlib.util.find_spec("tf_keras") is None:
        raise InputError(
            f"{archive.path} was written by Keras {archive.version or '2'}, which only Keras 2 reads as it was meant;"
            " install it beside Keras 3 with: pip install 'pix2pix-edge[keras2]'"
        )
    return require("tf_keras", "keras2", "loading a file of Keras 2")


def _operations(keras: Any, archive: Archive) -> dict[str, Any]:
    """Return Keras 3's classes of operations (ops.pad, …) that a .h5 file names, whose reader knows layers alone."""
    found = {}
    for layer in archive.layers:
        for module in ("numpy", "nn", "image", "math", "core"):
            kind = getattr(importlib.import_module(f"keras.src.ops.{module}"), layer.kind, None)
            if isinstance(kind, type) and not hasattr(keras.layers, layer.kind):
                found[layer.kind] = kind
    return found


@contextlib.contextmanager
def _quiet(keras: Any) -> Iterator[None]:
    """Turn off what draws random numbers, whatever it is called with."""
    with contextlib.ExitStack() as stack:
        for name in RANDOM_LAYERS:
            stack.enter_context(mock.patch.object(getattr(keras.layers, name), "call", lambda self, x, *_, **__: x))
        yield


def _by_own_statistics(layer: Any, x: Any) -> Any:
    """Batch norm by the statistics of each picture: what it computes in training, at batch 1."""
    tf = tensorflow()
    x = tf.convert_to_tensor(x)
    mean = tf.reduce_mean(x, [1, 2], keepdims=True)
    variance = tf.reduce_mean(tf.square(x - mean), [1, 2], keepdims=True)
    y = (x - mean) * tf.math.rsqrt(variance + layer.epsilon)
    if layer.scale:
        y = y * tf.convert_to_tensor(layer.gamma)
    return y + tf.convert_to_tensor(layer.beta) if layer.center else y


def _dtype(tensor: Any) -> str:
    dtype = tensor.dtype
    return str(getattr(dtype, "name", dtype))
