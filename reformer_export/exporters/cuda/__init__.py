"""Compiled kernels for NVIDIA GPUs: in model.cuda, or in a folder of their own."""
