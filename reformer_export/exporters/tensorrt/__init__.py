"""TensorRT engines, built from an artifact."""
