"""How a peer's file runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pix2pix_edge.benchmarks.measure.worker import Session, Target
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.base import INPUT_NAME, OUTPUT_NAME, Engine, Images
from pix2pix_edge.runtime.engines.host import HostEngine
from pix2pix_edge.runtime.errors import require
from pix2pix_edge.runtime.sidecar import TensorSpec


@dataclass(frozen=True)
class Peer:
    """One row: its name, the file that can be counted, what opens that in a process of its own, whether it is ours."""

    name: str
    path: Path
    open: Callable[[], Engine]
    ours: bool = False


def onnx_peer(name: str, path: Path, ours: bool = False, backend: str = "onnxruntime", precision: str = "fp32") -> Peer:
    """Return the row of an .onnx file in an engine of the runtime; backend and precision as open_engine takes them."""
    return Peer(name, path, partial(open_engine, path, backend=backend, precision=precision), ours)


class PeerSession(Session):
    """A Session whose engine is a peer's."""

    def __init__(self, peer: Peer) -> None:
        super().__init__(Target(peer.path))
        self._peer = peer

    def make_engine(self) -> Engine:
        return self._peer.open()


class KerasPredict(HostEngine):
    """A generator by model.predict, as its user would call it: uint8 [1, S, S, 3] -> the same."""

    kind, precision = "keras", "fp32"

    def __init__(self, path: Path) -> None:
        from pix2pix_edge.export.translator import open_keras

        super().__init__(slots=1)
        self._model = open_keras(path).model
        shape = (1, *(int(n) for n in self._model.inputs[0].shape[1:]))
        self.input, self.output = TensorSpec(INPUT_NAME, shape, "uint8"), TensorSpec(OUTPUT_NAME, shape, "uint8")

    def describe(self) -> dict[str, str]:
        import keras

        return {"engine": "Keras", "version": keras.__version__}

    def _run(self, images: Images) -> Images:
        predicted = self._model.predict(images.astype(np.float32) / 127.5 - 1.0, verbose=0)
        translated: Images = np.clip(np.rint((predicted + 1.0) * 127.5), 0, 255).astype(np.uint8)
        return translated


class LiteRt(HostEngine):
    """A .tflite file with XNNPACK on every core."""

    kind = "litert"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        super().__init__(slots=1)
        litert = require("ai_edge_litert.interpreter", "peers", "the LiteRT peer")
        threads = threads or len(os.sched_getaffinity(0))
        self._interpreter = litert.Interpreter(str(path), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._in, self._out = self._interpreter.get_input_details()[0], self._interpreter.get_output_details()[0]
        shape = tuple(int(n) for n in self._in["shape"])
        self.input, self.output = TensorSpec(INPUT_NAME, shape, "uint8"), TensorSpec(OUTPUT_NAME, shape, "uint8")

    def describe(self) -> dict[str, str]:
        from importlib.metadata import version

        return {"engine": "LiteRT", "version": version("ai-edge-litert")}

    def _run(self, images: Images) -> Images:
        self._interpreter.set_tensor(self._in["index"], images)
        self._interpreter.invoke()
        translated: Images = self._interpreter.get_tensor(self._out["index"])
        return translated
