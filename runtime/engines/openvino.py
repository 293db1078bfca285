"""The OpenVINO engine: an exported graph on the CPU, faster than ONNX Runtime where it is installed."""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any

from pix2pix_edge.runtime.engines.base import Images, TensorSpec, check_contract, precision_of, printed_precision
from pix2pix_edge.runtime.engines.host import HostEngine
from pix2pix_edge.runtime.errors import EngineError, require

DTYPES = {"u8": "uint8", "f32": "float32", "f16": "float16"}


@functools.cache
def core() -> Any:
    """Return the process's one openvino.Core, which is never freed.

    Loading its CPU plugin gives the loading thread an alternate signal stack, and freeing it in another thread takes
    that memory away: the next Ctrl-C is then a segmentation fault. Raises MissingPackageError without OpenVINO.
    """
    return require("openvino", "openvino", "the openvino backend").Core()


class OpenVinoEngine(HostEngine):
    """An .onnx file compiled by OpenVINO for the lowest latency on the CPU."""

    kind = "openvino"

    def __init__(self, path: str | Path, slots: int = 2, threads: int | None = None, *, bf16: bool = False) -> None:
        """threads: None for OpenVINO's choice. bf16: compute in bfloat16 where the CPU can (the rest stays float32).

        Raises EngineError when the file cannot be opened, MissingPackageError without OpenVINO.
        """
        path = Path(path)
        ov = require("openvino", "openvino", "the openvino backend")
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = threads
        try:
            # the ONNX reader by name: read_model() lets every reader try a damaged file, and some write to stderr
            reader = importlib.import_module("openvino.frontend").FrontEndManager().load_by_framework("onnx")
            compiled = core().compile_model(reader.convert(reader.load(str(path))), "CPU", settings)
        except Exception as error:  # openvino raises bare RuntimeError, with a traceback of its own in the text
            raise EngineError(
                f"{path} cannot be opened by OpenVINO ({' '.join(str(error).split())[:200]}); try"
                " --backend onnxruntime, or export it again with: python -m export convert GENERATOR.keras --out DIR"
            ) from error
        inputs, outputs = _specs(compiled.inputs), _specs(compiled.outputs)
        check_contract(path, inputs, outputs)
        super().__init__(slots)
        self.input, self.output = inputs[0], outputs[0]
        self._request = compiled.create_infer_request()
        self.precision, self.threads = precision_of(path), int(compiled.get_property("INFERENCE_NUM_THREADS"))
        self._about = {
            "engine": "OpenVINO",
            "version": str(ov.__version__).partition("-")[0],
            "file": path.name,
            "precision": printed_precision(self.precision) + (" (bf16)" if bf16 else ""),
            "device": str(core().get_property("CPU", "FULL_DEVICE_NAME")).strip(),
            "threads": str(self.threads),
        }

    def describe(self) -> dict[str, str]:
        return dict(self._about)

    def _run(self, images: Images) -> Images:
        try:
            # share_inputs: read in place; the result is a copy, because the request writes over its own
            return self._request.infer({0: images}, share_inputs=True, share_outputs=False)[0]
        except Exception as error:
            raise EngineError(f"OpenVINO failed while translating: {' '.join(str(error).split())[:200]}") from error

    def _close(self) -> None:
        del self._request


def _specs(ports: list[Any]) -> list[TensorSpec]:
    """Describe a compiled model's inputs or outputs; a dimension without a number becomes -1."""
    specs = []
    for port in ports:
        shape = tuple(d.get_length() if d.is_static else -1 for d in port.get_partial_shape())
        dtype = port.get_element_type().get_type_name()
        specs.append(TensorSpec(port.get_any_name(), shape, DTYPES.get(dtype, dtype)))
    return specs
