"""Declaration of `LshBucket`."""

from __future__ import annotations

from reformer_ops.spec import Attribute, Operand, OpSpec

LSH_BUCKET = OpSpec(
    name="LshBucket",
    torch_name="lsh_bucket",
    version=1,
    inputs=(
        Operand("query", ("batch", "length", "heads", "head_dim"), "float"),
        Operand("rotations", ("heads", "head_dim", "num_hashes", "half_factors"), "float32"),
        Operand("mask", ("batch", "length"), "bool"),
    ),
    attributes=(Attribute("factors", "ints"),),
    outputs=(Operand("buckets", ("batch", "heads", "num_hashes", "length"), "int32"),),
)
