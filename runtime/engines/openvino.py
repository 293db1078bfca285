"""The OpenVINO engine: an exported graph on the CPU, faster than ONNX Runtime where it is installed."""

from __future__ import annotations

import functools
import importlib
import io
from pathlib import Path
from typing import Any

from pix2pix_edge.runtime.engines.base import Images, precision_of, printed_precision, read_engine
from pix2pix_edge.runtime.engines.host import HostEngine
from pix2pix_edge.runtime.engines.onnx_file import only_inputs_quantized
from pix2pix_edge.runtime.errors import EngineError, require


@functools.cache
def core() -> Any:
    """Return the process's one openvino.Core, which is never freed.

    Loading its CPU plugin gives the loading thread an alternate signal stack, and freeing it in another thread takes
    that memory away: the next Ctrl-C is then a segmentation fault. Raises MissingPackageError without OpenVINO.
    """
    return require("openvino", "openvino", "the openvino backend").Core()


def has_bf16() -> bool:
    """Whether OpenVINO computes in bfloat16 on this CPU: AVX512-BF16, AMX, or ARM's own."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoEngine(HostEngine):
    """An .onnx file compiled by OpenVINO for the lowest latency on the CPU."""

    kind = "openvino"

    def __init__(self, path: str | Path, slots: int = 2, threads: int | None = None, *, bf16: bool = False) -> None:
        """threads: None for OpenVINO's choice. bf16: what is not INT8 is computed in bfloat16.

        Raises EngineError when the file cannot be opened or the CPU has no bfloat16, MissingPackageError without
        OpenVINO.
        """
        path = Path(path)
        file = read_engine(path)
        ov = require("openvino", "openvino", "the openvino backend")
        if bf16 and not has_bf16():
            raise EngineError(f"the CPU has no BF16 arithmetic to run {path} in; leave --precision bf16 out")
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            # the ONNX reader by name: read_model() lets every reader try a damaged file, and some write to stderr
            reader = importlib.import_module("openvino.frontend").FrontEndManager().load_by_framework("onnx")
            source = io.BytesIO(only_inputs_quantized(path)) if file.quantized else str(path)
            compiled = core().compile_model(reader.convert(reader.load(source)), "CPU", settings)
        except Exception as error:  # openvino raises bare RuntimeError, with a traceback of its own in the text
            raise EngineError(
                f"{path} cannot be opened by OpenVINO ({' '.join(str(error).split())[:200]}); try"
                " --backend onnxruntime, or export it again with: python -m export convert GENERATOR.keras --out DIR"
            ) from error
        super().__init__(slots)
        self.input, self.output = file.inputs[0], file.outputs[0]
        self._request = compiled.create_infer_request()
        stored = precision_of(path, file)
        self.precision = "bf16" if bf16 and not file.quantized else stored
        self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        self._about = {
            "engine": "OpenVINO",
            "version": str(ov.__version__).partition("-")[0],
            "file": path.name,
            "precision": printed_precision(self.precision) + (" (the rest bf16)" if bf16 and file.quantized else ""),
            "device": str(core().get_property("CPU", "FULL_DEVICE_NAME")).strip(),
            "threads": str(self.threads),
        }

    def describe(self) -> dict[str, str]:
        return dict(self._about)

    def _run(self, images: Images) -> Images:
        try:
            # share_inputs: read in place; the result is a copy, because the request writes over its own
            translated: Images = self._request.infer({0: images}, share_inputs=True, share_outputs=False)[0]
        except Exception as error:
            raise EngineError(f"OpenVINO failed while translating: {' '.join(str(error).split())[:200]}") from error
        return translated

    def _close(self) -> None:
        del self._request
