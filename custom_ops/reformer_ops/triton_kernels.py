"""All launches of an attention layer, by name; they are compiled ahead of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reformer_ops.chunk_attention.spec import CHUNK_ATTENTION
from reformer_ops.chunk_attention.triton_kernel import chunk_attention
from reformer_ops.lsh_bucket.spec import LSH_BUCKET, bucket_count
from reformer_ops.lsh_bucket.triton_kernel import lsh_bucket
from reformer_ops.sorted_chunk_attention.spec import SORTED_CHUNK_ATTENTION
from reformer_ops.sorted_chunk_attention.triton_combine import combine_rounds
from reformer_ops.sorted_chunk_attention.triton_kernel import attend_rounds
from reformer_ops.sorted_chunk_attention.triton_sort import sort_passes
from reformer_ops.triton.launch import Launch


@dataclass(frozen=True)
class LayerShape:
    """The values that are compiled into a layer's kernels: everything except batch and length."""

    heads: int
    head_dim: int
    chunk_length: int
    num_chunks_before: int = 1
    num_chunks_after: int = 0
    causal: bool = False


@dataclass(frozen=True)
class Hashing:
    """Additional values of LSH layers."""

    num_hashes: int
    factors: tuple[int, ...]


def local_layer(shape: LayerShape, *, dtype: str, target: int) -> dict[str, Launch]:
    """The launch of a local layer.

    Raises:
        OpError: the operator is not defined for the shape.
    """
    CHUNK_ATTENTION.check_attributes(
        chunk_length=shape.chunk_length,
        num_chunks_before=shape.num_chunks_before,
        num_chunks_after=shape.num_chunks_after,
        causal=shape.causal,
    )
    launch = chunk_attention(
        dtype=dtype,
        heads=shape.heads,
        head_dim=shape.head_dim,
        chunk_length=shape.chunk_length,
        num_chunks_before=shape.num_chunks_before,
        num_chunks_after=shape.num_chunks_after,
        causal=shape.causal,
        target=target,
    )
    return {"chunk_attention": launch}


def lsh_layer(shape: LayerShape, hashing: Hashing, *, dtype: str, target: int) -> dict[str, Launch]:
    """The launches of an LSH layer, in order; each reads outputs of earlier launches.

    lsh_bucket -> sort_pass_0 (-> sort_pass_1 ...) -> attend_rounds -> combine_rounds. With one
    round there is no combine_rounds: `attend_rounds` gives the output. Each pass of the sort is one
    launch.

    Raises:
        OpError: the operators are not defined for the shape.
    """
    num_buckets = bucket_count(hashing.factors)
    LSH_BUCKET.check_attributes(factors=hashing.factors)
    SORTED_CHUNK_ATTENTION.check_attributes(
        num_buckets=num_buckets,
        chunk_length=shape.chunk_length,
        num_chunks_before=shape.num_chunks_before,
        num_chunks_after=shape.num_chunks_after,
        causal=shape.causal,
    )
    rounds: dict[str, Any] = {"heads": shape.heads, "num_hashes": hashing.num_hashes}
    rows: dict[str, Any] = {**rounds, "dtype": dtype, "head_dim": shape.head_dim}
    launches = {"lsh_bucket": lsh_bucket(**rows, factors=hashing.factors, target=target)}
    for number, step in enumerate(sort_passes(**rounds, num_buckets=num_buckets)):
        launches[f"sort_pass_{number}"] = step.place_alone
    launches["attend_rounds"] = attend_rounds(
        **rows,
        chunk_length=shape.chunk_length,
        num_chunks_before=shape.num_chunks_before,
        num_chunks_after=shape.num_chunks_after,
        causal=shape.causal,
        target=target,
    )
    if hashing.num_hashes > 1:
        launches["combine_rounds"] = combine_rounds(**rows, chunk_length=shape.chunk_length)
    return launches
