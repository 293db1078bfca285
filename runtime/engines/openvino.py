"""The OpenVINO engine: an exported graph on the CPU, faster than ONNX Runtime where it is installed."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
from pathlib import Path
from typing import Any

from pix2pix_edge.runtime.engines import compiled
from pix2pix_edge.runtime.engines.base import Images, check_contract, precision_of, printed_precision
from pix2pix_edge.runtime.engines.host import HostEngine
from pix2pix_edge.runtime.engines.onnx_file import only_inputs_quantized, read_onnx
from pix2pix_edge.runtime.engines.sizes import check_sizes
from pix2pix_edge.runtime.errors import EngineError, require
from pix2pix_edge.runtime.sidecar import sidecar_path


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
        file = read_onnx(path)
        check_contract(path, file.inputs, file.outputs)
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
            network = _compiled(path, only_inputs_quantized(path) if file.quantized else None, settings)
        except EngineError:
            raise
        except Exception as error:  # openvino raises bare RuntimeError, with a traceback of its own in the text
            raise EngineError(
                f"{path} cannot be opened by OpenVINO ({' '.join(str(error).split())[:200]}); try"
                " --backend onnxruntime, or export it again with: python -m export convert GENERATOR.keras --out DIR"
            ) from error
        super().__init__(slots)
        self.input, self.output = file.inputs[0], file.outputs[0]
        self._request = network.create_infer_request()
        stored = precision_of(path, file)
        self.precision = "bf16" if bf16 and not file.quantized else stored
        self.threads = int(network.get_property("INFERENCE_NUM_THREADS"))
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


def _compiled(path: Path, edited: bytes | None, settings: dict[str, Any]) -> Any:
    """Return a network for the CPU, by what is kept of its last start where it is small and was exported.

    edited: what OpenVINO is to read in place of the file. Raises EngineError for a graph that would fill the memory:
    one of which something is kept was looked at before.
    """
    small = path.stat().st_size <= compiled.LARGEST and sidecar_path(path).is_file()
    content = edited or (path.read_bytes() if small else None)
    able = sorted(core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
    by = (str(importlib.import_module("openvino").__version__), *able, *map(str, settings.items()))
    place = compiled.place(content, by) if small and content else None
    if place and (blob := compiled.kept(place)):
        with contextlib.suppress(RuntimeError):  # as if nothing had been kept
            return core().import_model(io.BytesIO(blob), "CPU", settings)
    check_sizes(path)
    # the ONNX reader by name: read_model() lets every reader try a damaged file, and some write to stderr
    reader = importlib.import_module("openvino.frontend").FrontEndManager().load_by_framework("onnx")
    source = io.BytesIO(content) if content else str(path)
    network = core().compile_model(reader.convert(reader.load(source)), "CPU", settings)
    if place:
        stream = io.BytesIO()  # what export_model() returns is bytes in some versions, a stream in others
        network.export_model(stream)
        compiled.keep(place, stream.getvalue())
    return network
