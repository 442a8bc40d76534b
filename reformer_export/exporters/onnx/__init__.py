"""model.onnx."""
