"""The Reformer, written to be exported: configuration, checkpoints and the PyTorch model.

Importing this package, `reformer_models.config` or `reformer_models.errors` is fast: only the
modules that need torch, safetensors or huggingface_hub import them.
"""
