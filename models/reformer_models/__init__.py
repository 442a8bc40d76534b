"""The Reformer, written to be exported: configuration, checkpoints and the PyTorch model.

Importing this package, `reformer_models.config` or `reformer_models.errors` costs nothing: torch,
safetensors and huggingface_hub are imported by the modules that need them.
"""
