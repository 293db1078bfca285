"""Stands in for Triton's onnxruntime backend, which its wheel does not have: runs the repository's model.onnx."""

import json
from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """What Triton's Python backend loads."""

    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.batched = config.get("max_batch_size", 0) > 0
        model = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])

    def execute(self, requests: list) -> list:
        groups = [requests] if self.batched else [[request] for request in requests]
        answers = []
        for group in groups:
            images = [triton.get_input_tensor_by_name(request, "image").as_numpy() for request in group]
            (pictures,) = self.session.run(["translated"], {"image": np.concatenate(images)})
            ends = np.cumsum([len(image) for image in images])[:-1]
            answers += [triton.InferenceResponse([triton.Tensor("translated", p)]) for p in np.split(pictures, ends)]
        return answers
