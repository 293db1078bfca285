"""The actor: one engine, opened once, that translates picture after picture."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path
from typing import Any

from pix2pix_edge.runtime.batch import places
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import fit


class Translator:
    """Called with a row {source, output}; returns it with sha256, ms and error, and never raises for a picture."""

    def __init__(self, engine: str, backend: str, threads: int | None, mode: str) -> None:
        """threads: this actor's CPUs, said to the engine, because ONNX Runtime does not heed OMP_NUM_THREADS.

        Raises InputError when the engine is not on this node, EngineError when it cannot be opened.
        """
        import cv2

        if not Path(engine).is_file():
            raise InputError(f"{engine} is not on the node {socket.gethostname()}; copy it there, to the same path")
        cv2.setNumThreads(1)
        self._engine = open_engine(engine, backend=backend, threads=threads)
        self._mode = mode

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        source, output = row["source"], row["output"]
        result = {"source": source, "output": output, "sha256": "", "ms": None, "error": ""}
        try:
            # there already: an earlier run was killed before it could note it, or a node died
            if (content := places.get(output)) is None:
                shape = self._engine.input.shape[1:]
                ticket = self._engine.submit(fit(places.read(source, shape[2]), shape, self._mode)[None])
                translated = ticket.result()[0]
                result["ms"] = ticket.compute_ns / 1e6
                places.write(output, translated)
                content = places.get(output) or b""
            result["sha256"] = hashlib.sha256(content).hexdigest()
        except InputError as error:
            result["error"] = " ".join(str(error).split())
        return result
