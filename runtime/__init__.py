"""Runtime: engines, frame sources, sinks and the streaming loop. Needs neither TensorFlow nor onnx."""

import os

# From 1.29 on ONNX Runtime's own builds report to their maker, the names of models included, and keep a database in the
# user's home for it. Whoever wants that sets the variable first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
