"""Runtime: engines, frame sources, sinks and the streaming loop. Needs neither TensorFlow nor onnx."""
