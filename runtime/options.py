"""The words that command lines and functions share; apart from everything heavy, so that --help answers at once."""

BACKENDS = ("auto", "onnxruntime", "openvino")
"""What runs an .onnx file."""

FIT_MODES = ("stretch", "crop", "pad")
"""How a frame meets the engine's square: see runtime.frame.fit."""

VIEW_MODES = ("output", "side-by-side")
"""What a sink shows: see runtime.frame.view."""

POLICIES = ("auto", "every_frame", "freshest")
"""What to do when frames come faster than they go: see runtime.policy; auto is freshest for live sources only."""
