"""The Reformer's operators, each declared once and implemented for every backend.

`lsh_bucket`, `sorted_chunk_attention` and `chunk_attention` each own a folder: the fp64 NumPy
reference that defines the numbers, the torch operator, the ONNX function body, and the cases every
backend is tested on. Importing this package is cheap: torch and onnx are loaded by the modules
that need them (`reformer_ops.torch_ops` registers the torch operators).
"""
