"""Export: a trained network becomes ONNX, rewritten, in FP32, FP16 and INT8, and a TensorRT plan."""
