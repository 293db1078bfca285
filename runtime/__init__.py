"""Runtime: engines, frame sources, sinks and the streaming loop. Needs neither TensorFlow nor onnx."""

import os
import sys

# From 1.29 on ONNX Runtime's own builds report to their maker, the names of models included, and keep a database in the
# user's home for it. Whoever wants that sets the variable first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# OpenVINO reports every import of it, from a thread that stays, with an identity that it keeps in the user's home; it
# does without this package. Whoever wants that imports the package first.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
