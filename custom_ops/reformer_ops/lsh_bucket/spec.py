"""Declaration of `LshBucket`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from reformer_ops.core.errors import OpError
from reformer_ops.core.spec import Attribute, Operand, OpSpec

LSH_BUCKET = OpSpec(
    name="LshBucket",
    torch_name="lsh_bucket",
    version=1,
    inputs=(
        Operand("query", ("batch", "length", "heads", "head_dim"), "float"),
        Operand("rotations", ("heads", "head_dim", "num_hashes", "half_factors"), "float32"),
        Operand("mask", ("batch", "length"), "bool"),
    ),
    attributes=(Attribute("factors", "ints", minimum=2, even=True),),
    outputs=(Operand("buckets", ("batch", "heads", "num_hashes", "length"), "int32"),),
)


def bucket_count(factors: Sequence[int]) -> int:
    """The number of buckets without the one for padding; the padding bucket has this number.

    Raises:
        OpError: factors are missing or invalid, or the bucket numbers do not fit into int32.
    """
    LSH_BUCKET.check_attributes(factors=factors)
    count = math.prod(factors)
    if count >= 2**31:
        raise OpError(f"lsh_bucket takes factors whose product is below 2**31; got {list(factors)}")
    return count
