"""What Triton's Python backend loads: the .onnx file beside it, in the engine that this package chooses on that server.

`python -m export triton FILE.onnx --python` copies this file into the repository; it is not imported here.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import triton_python_backend_utils as triton

from pix2pix_edge.runtime.engine import open_engine
from pix2pix_edge.runtime.engines.base import INPUT_NAME, OUTPUT_NAME
from pix2pix_edge.runtime.errors import ToolkitError


class TritonPythonModel:
    """One instance of the model. Raises what open_engine() raises; Triton then says that the model is not ready."""

    def initialize(self, args: dict[str, str]) -> None:
        """args: model_repository (the model's folder), model_version, and model_config as JSON."""
        (file,) = (Path(args["model_repository"]) / args["model_version"]).glob("*.onnx")
        instances = sum(group["count"] for group in json.loads(args["model_config"])["instance_group"])
        # instances compute at once: with all cores for each they would wait for one another
        threads = None if instances == 1 else max(1, (os.cpu_count() or 1) // instances)
        self._engine = open_engine(file, threads=threads)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Return an answer to each request, an error where it fails."""
        answers = []
        for request in requests:
            images = triton.get_input_tensor_by_name(request, INPUT_NAME).as_numpy()
            try:
                tensors, error = [triton.Tensor(OUTPUT_NAME, self._engine(images))], None
            except ToolkitError as failure:
                tensors, error = [], triton.TritonError(str(failure))
            answers.append(triton.InferenceResponse(tensors, error))
        return answers

    def finalize(self) -> None:
        """Free the engine."""
        self._engine.close()
