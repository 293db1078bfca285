"""A worker, which Ray calls an actor: one engine, opened once, that translates block after block of pictures."""

from __future__ import annotations

import hashlib
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pix2pix_edge.runtime.batch import places
from pix2pix_edge.runtime.batch.manifest import Entry, table_of
from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.shared import SharedEngine
from pix2pix_edge.runtime.errors import InputError
from pix2pix_edge.runtime.frame import fit
from pix2pix_edge.runtime.images import encode_image

LANES = 3
"""Pictures under way in a worker: one is read and one written while the engine has the third."""


class Worker:
    """Called with a table of source and output; returns one of Entry's columns, and never raises for a picture."""

    def __init__(self, engine: str, backend: str, threads: int | None, mode: str) -> None:
        """threads: this worker's CPUs, said to the engine, because ONNX Runtime does not heed OMP_NUM_THREADS.

        Raises InputError when the engine is not on this node, EngineError when it cannot be opened.
        """
        import cv2

        if not Path(engine).is_file():
            raise InputError(f"{engine} is not on the node {socket.gethostname()}; copy it there, to the same path")
        cv2.setNumThreads(1)
        self._engine = SharedEngine(open_engine(engine, backend=backend, threads=threads), 1).shares[0]
        self._lanes = ThreadPoolExecutor(LANES)
        self._mode = mode

    def __call__(self, rows: Any) -> Any:
        """rows: pyarrow.Table, as is what is returned."""
        entries = self._lanes.map(self._translate, rows["source"].to_pylist(), rows["output"].to_pylist())
        return table_of(entries)

    def _translate(self, source: str, output: str) -> Entry:
        ms = None
        try:
            # there already: an earlier run was killed before it could note it, or a node died
            if (content := places.get(output)) is None:
                shape = self._engine.input.shape[1:]
                ticket = self._engine.submit(fit(places.read(source, shape[2]), shape, self._mode)[None])
                translated = ticket.result()[0]
                ms = ticket.compute_ns / 1e6
                content = encode_image(".png", translated)
                places.put(output, content)
            return Entry(source, output, hashlib.sha256(content).hexdigest(), ms, "")
        except InputError as error:
            return Entry(source, output, "", ms, " ".join(str(error).split()))
