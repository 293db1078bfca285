"""The ONNX Runtime engine: an exported graph on the CPU, on any machine."""

from __future__ import annotations

import os
from pathlib import Path

from pix2pix_edge.runtime.engines.base import (
    INPUT_NAME,
    OUTPUT_NAME,
    Images,
    precision_of,
    printed_precision,
    read_engine,
)
from pix2pix_edge.runtime.engines.host import HostEngine
from pix2pix_edge.runtime.engines.sizes import reason_of
from pix2pix_edge.runtime.errors import EngineError, require


class OnnxRuntimeEngine(HostEngine):
    """An .onnx file in an ONNX Runtime session with every graph optimisation."""

    kind = "onnxruntime"

    def __init__(self, path: str | Path, slots: int = 2, threads: int | None = None) -> None:
        """threads: inside an operator; None for one per physical core. Raises EngineError when it cannot be opened."""
        path = Path(path)
        file = read_engine(path)
        ort = require("onnxruntime", "", "running .onnx files")
        ort.set_default_logger_severity(4)  # what matters is raised
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.intra_op_num_threads = threads or physical_cores()
        options.inter_op_num_threads = 1
        # Threads spin between the operators of one run, where waking them would cost more than the work,
        # and sleep between runs, when the cores belong to capture and delivery.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common class
            raise EngineError(
                f"{path} cannot be opened by ONNX Runtime ({reason_of(error)}); export it again with:"
                " python -m export convert GENERATOR.keras --out DIR"
            ) from error
        super().__init__(slots)
        self.input, self.output = file.inputs[0], file.outputs[0]
        self.precision, self.threads = precision_of(path, file), int(options.intra_op_num_threads)
        self._about = {
            "engine": "ONNX Runtime",
            "version": str(ort.__version__),
            "file": path.name,
            "precision": printed_precision(self.precision),
            "device": "CPU",
            "threads": str(self.threads),
        }

    def describe(self) -> dict[str, str]:
        return dict(self._about)

    def _run(self, images: Images) -> Images:
        try:
            translated: Images = self._session.run([OUTPUT_NAME], {INPUT_NAME: images})[0]
        except Exception as error:
            raise EngineError(f"ONNX Runtime failed while translating: {reason_of(error)}") from error
        return translated

    def _close(self) -> None:
        del self._session


def physical_cores() -> int:
    """Return how many physical cores this process may use: a second thread on a core only slows convolutions."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    allowed = os.sched_getaffinity(0)
    siblings = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            siblings.add(topology.read_text())
        except OSError:
            return len(allowed)
    return len(siblings)
