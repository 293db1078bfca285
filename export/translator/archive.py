"""What a Keras file says of itself, read before anything is built: its version, its layers, and whether it brings code.

A .keras file is a zip archive with config.json in it, a .h5 file keeps the same in an attribute. Keras 2 and 3 write
both.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pix2pix_edge.runtime.errors import InputError, require

ENDINGS = (".keras", ".h5", ".hdf5")
MOST_CONFIG = 64 << 20
"""Bytes; the largest networks' are a hundredth of that."""
RANDOM_LAYERS = ("Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "AlphaDropout")
NORMS = ("BatchNormalization", "SyncBatchNormalization")
# Modules whose classes Keras may look up: its own, under each name that they had.
OWN_MODULES = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras", "builtins")
# Parts of TensorFlow that read, write or run something else; a Keras 2 file may name any function.
DOORS = (
    "io",
    "py_function",
    "numpy_function",
    "raw_ops",
    "data",
    "saved_model",
    "train",
    "summary",
    "compat",
    "load_op",
)
DOOR_OPERATORS = re.compile(
    r"File|PyFunc|Dataset|Reader|Record|ImmutableConst|LoadLibrary|LoadAndRemap|Summary|Debug|Table|Remote|Abort"
    r"|FixedUnigram|GenerateVocab"
)
"""Operators of TensorFlow that read or write files, run other code or end the process."""

SAVING = re.compile(r"ShardedFilename|(?:Save|Restore)(?:V2|Slices?)?|MergeV2Checkpoints")
"""Operators that save and restore variables: a SavedModel holds some, which no picture may call."""


@dataclass(frozen=True)
class Layer:
    """One layer of a file: its name, class, settings, and what it is called with ("training": True, …)."""

    name: str
    kind: str
    module: str
    registered: str
    config: dict[str, Any]
    called_with: dict[str, Any]


@dataclass(frozen=True)
class Archive:
    """A whole model's file. version: of the Keras that wrote it, "2.4.0", "" where it does not tell."""

    path: Path
    version: str
    layers: tuple[Layer, ...]

    @property
    def is_keras_2(self) -> bool:
        return not self.version.startswith("3")

    def in_training_mode(self, kinds: tuple[str, ...]) -> list[str]:
        """Return the layers of these classes that are called with training=True, by themselves or in their block."""
        return [
            layer.name for layer in self.layers if layer.kind in kinds and layer.called_with.get("training") is True
        ]


def read_archive(path: Path) -> Archive:
    """Read what a .keras or .h5 file says, without building it or running anything of it.

    Raises InputError when it is not whole, holds weights alone, or brings code: a Lambda layer, a function by value,
    one of TensorFlow's doors to files, or weights in another file.
    """
    if path.suffix == ".keras":
        version, config = _zip(path)
    else:
        version, config = _h5(path)
    archive = Archive(path, version, tuple(_layers(config, {})))
    for layer in archive.layers:
        if layer.kind in ("Lambda", "__lambda__"):
            raise InputError(
                f"{path} brings Python code in its layer {layer.name} (Lambda), which is not run; save the model as a"
                " SavedModel folder (model.export(FOLDER)) and convert that, or use a layer of Keras in its place"
            )
        function = str(layer.config.get("function", "")).removeprefix("compat.v1.").removeprefix("compat.v2.")
        if layer.kind == "TFOpLambda" and function.partition(".")[0] in DOORS:
            raise InputError(f"{path} calls tf.{function} in its layer {layer.name}, which is not computing a picture")
        node = layer.config.get("node_def", "")  # of a bare operator, as TensorFlow 2.0 to 2.3 wrote it: read, or bytes
        operator = str(node.get("op") if isinstance(node, dict) else node)
        if DOOR_OPERATORS.search(operator) or SAVING.search(operator) or "Print" in operator:
            raise InputError(
                f"{path} calls the operator {operator[:40]!r} in its layer {layer.name}, which is not computing a"
                " picture"
            )
    return archive


def foreign_classes(archive: Archive) -> list[Layer]:
    """Return the layers whose classes are not Keras' own."""
    return [
        layer
        for layer in archive.layers
        if (layer.module and not layer.module.startswith(OWN_MODULES)) or ">" in layer.registered
    ]


def _zip(path: Path) -> tuple[str, Any]:
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} is not a whole .keras file (not a zip archive, or cut short); save the model again")
    try:
        with zipfile.ZipFile(path) as archive:
            found = []
            for name in ("metadata.json", "config.json"):
                if archive.getinfo(name).file_size > MOST_CONFIG:
                    raise InputError(
                        f"{path} has {name} of {archive.getinfo(name).file_size} bytes; no network needs that"
                    )
                found.append(json.loads(archive.read(name)))
            for name in archive.namelist():
                if name.endswith(".h5"):
                    h5py = require("h5py", "export", "reading a .keras model")
                    with archive.open(name) as member, h5py.File(member, "r") as weights:
                        _refuse_weights_elsewhere(path, weights)
    except (KeyError, ValueError, RecursionError, zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path} is not a whole .keras file ({_first(error)}); save the model again") from error
    version = found[0].get("keras_version", "") if isinstance(found[0], dict) else ""
    return str(version), found[1]


def _h5(path: Path) -> tuple[str, Any]:
    h5py = require("h5py", "export", "reading a .h5 model")
    try:
        with h5py.File(path, "r") as file:
            _refuse_weights_elsewhere(path, file)
            version, config = file.attrs.get("keras_version", ""), file.attrs.get("model_config")
            names = set(file)
    except OSError as error:
        raise InputError(f"{path} is not a whole .h5 file ({_first(error)}); save the model again") from error
    if config is None:
        what = "weights alone" if names & {"layers", "vars"} or version else "no model"
        raise InputError(
            f"{path} holds {what}, without the network; build the model, load_weights() this file, and save it whole:"
            " model.save('generator.keras')"
        )
    text = config.decode() if isinstance(config, bytes) else str(config)
    try:
        return version.decode() if isinstance(version, bytes) else str(version), json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a whole .h5 file ({_first(error)}); save the model again") from error


def _refuse_weights_elsewhere(path: Path, file: Any) -> None:
    """Raise InputError where an HDF5 file leads to another one, whose bytes would become weights."""
    h5py = require("h5py", "export", "reading a model")

    def refuse(name: str, found: Any) -> None:
        links = [found.get(key, getlink=True) for key in found] if isinstance(found, h5py.Group) else []
        stored = isinstance(found, h5py.Dataset) and (found.external or found.is_virtual)
        if stored or any(isinstance(link, h5py.ExternalLink) for link in links):
            raise InputError(f"{path} keeps weights in another file ({name}), which is not opened; save it as one file")

    refuse("/", file)
    file.visititems(refuse)


def _layers(value: Any, inherited: dict[str, Any]) -> Iterator[Layer]:
    """Yield every object with a class in a config, however deep; blocks hand what they are called with to theirs."""
    if isinstance(value, list):
        for entry in value:
            yield from _layers(entry, inherited)
    elif isinstance(value, dict):
        called_with = inherited
        if isinstance(kind := value.get("class_name"), str):
            config = value.get("config") if isinstance(value.get("config"), dict) else {}
            assert isinstance(config, dict)
            called_with = {**inherited, **_called_with(value.get("inbound_nodes"))}
            name = str(value.get("name") or config.get("name") or kind)
            module, registered = value.get("module"), value.get("registered_name")
            yield Layer(name, kind, str(module or ""), str(registered or ""), config, called_with)
        for key, entry in value.items():
            if key != "inbound_nodes":
                yield from _layers(entry, called_with)


def _called_with(nodes: Any) -> dict[str, Any]:
    """Return the keyword arguments of a layer's calls; Keras 2 nests them in lists, Keras 3 names them."""
    found: dict[str, Any] = {}
    if isinstance(nodes, dict):
        found |= nodes["kwargs"] if isinstance(nodes.get("kwargs"), dict) else {}
        found |= {key: value for key, value in nodes.items() if key == "training"}
    elif isinstance(nodes, list):
        for node in nodes:
            found |= _called_with(node)
    return found


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120].rstrip(". ")
