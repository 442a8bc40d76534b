"""`SortedChunkAttention` on CUDA tensors: sort, attend in every round, sum the rounds. And its
gradients."""

from __future__ import annotations

from typing import Any

import torch

from reformer_ops.sorted_chunk_attention import (
    triton_combine,
    triton_gradients,
    triton_kernel,
    triton_sort,
)
from reformer_ops.triton.attention_backward import attention_backward
from reformer_ops.triton.tiles import attention_tile
from reformer_ops.triton.torch import as_bytes, delta_of, on_device_of, target_of, type_of


def sort_by_bucket(buckets: torch.Tensor, *, num_buckets: int, alone: bool = False) -> torch.Tensor:
    """Positions ordered by (bucket, position) along the last axis.

    Args:
        buckets: `[batch, heads, num_hashes, length]` int32 in `0..num_buckets`.
        alone: True for one launch per pass, as in plugins, instead of two.

    Returns:
        The same shape, int32.
    """
    batch, heads, num_hashes, length = buckets.shape
    buckets = buckets.contiguous()
    order = buckets  # the first pass does not read it
    for step in triton_sort.sort_passes(
        heads=heads, num_hashes=num_hashes, num_buckets=num_buckets
    ):
        after = torch.empty_like(buckets)
        tensors = {"buckets": buckets, "order": order, "sorted_order": after}
        order = after
        if alone:
            step.place_alone.run(tensors, batch=batch, length=length)
            continue
        segments = step.count.grid.programs(batch, length)
        tensors["counts"] = buckets.new_empty((segments, 1 << step.bits))
        step.count.run(tensors, batch=batch, length=length)
        step.place.run(tensors, batch=batch, length=length)
    return order


def sorted_chunk_attention(*arguments: Any) -> torch.Tensor:
    """Same as the torch operator, but operands are already checked."""
    output, _ = _attend(*arguments)
    return output


def sorted_chunk_attention_with_lse(
    query_key: torch.Tensor,
    value: torch.Tensor,
    buckets: torch.Tensor,
    mask: torch.Tensor,
    seed: torch.Tensor,
    num_buckets: int,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
    dropout: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, and the logsumexps over all rounds, `[batch, heads, length]` fp32."""
    chunking = (num_buckets, chunk_length, num_chunks_before, num_chunks_after, causal)
    output, lse = _attend(query_key, value, buckets, mask, *chunking, seed=seed, dropout=dropout)
    return output, torch.logsumexp(lse, dim=1).transpose(1, 2).contiguous()


def _attend(
    query_key: torch.Tensor,
    value: torch.Tensor,
    buckets: torch.Tensor,
    mask: torch.Tensor,
    num_buckets: int,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
    *,
    seed: torch.Tensor | None = None,
    dropout: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The output, and the logsumexps of the rounds, `[batch, rounds, length, heads]`."""
    batch, length, heads, head_dim = query_key.shape
    is_short = length <= chunk_length
    num_hashes = 1 if is_short else buckets.shape[2]
    shape: dict[str, Any] = {
        "dtype": type_of(query_key),
        "heads": heads,
        "head_dim": head_dim,
        "num_hashes": num_hashes,
        "chunk_length": chunk_length,
    }
    target = target_of(query_key)
    tile = attention_tile(shape["dtype"], head_dim, chunk_length, target, is_sorted=True)
    attend = triton_kernel.attend_rounds(
        **shape,
        num_chunks_before=num_chunks_before,
        num_chunks_after=num_chunks_after,
        causal=causal,
        target=target,
        described=tile.described,
        dropout=dropout,
    )
    with on_device_of(query_key):
        # The kernel does not read the order of a short sequence.
        order = buckets if is_short else sort_by_bucket(buckets, num_buckets=num_buckets)
        outputs = value.new_empty((batch, num_hashes, length, heads, head_dim))
        lse = value.new_empty((batch, num_hashes, length, heads), dtype=torch.float32)
        tensors = {
            "query_key": query_key.contiguous(),
            "value": value.contiguous(),
            "order": order,
            "mask": as_bytes(mask),
            "seed": seed,
            "outputs": outputs,
            "lse": lse,
        }
        if tile.described:
            tensors["codes"] = torch.empty_like(order)
            tensors["scales"] = torch.empty_like(order, dtype=torch.float32)
            describe = triton_kernel.describe_keys(**shape)
            describe.run(tensors, batch=batch, length=length)
        attend.run(tensors, batch=batch, length=length)
        if num_hashes == 1:
            return outputs[:, 0], lse
        output = torch.empty_like(value, memory_format=torch.contiguous_format)
        tensors["output"] = output
        combine = triton_combine.combine_rounds(**shape)
        combine.run(tensors, batch=batch, length=length)
    return output, lse


def sorted_chunk_attention_backward(
    query_key: torch.Tensor,
    value: torch.Tensor,
    buckets: torch.Tensor,
    mask: torch.Tensor,
    seed: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    gradient: torch.Tensor,
    num_buckets: int,
    chunk_length: int,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
    dropout: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients of query_key and value: sort, two launches for all rounds, one for the sums."""
    batch, length, heads, head_dim = query_key.shape
    is_short = length <= chunk_length
    num_hashes = 1 if is_short else buckets.shape[2]
    shape: dict[str, Any] = {
        "dtype": type_of(query_key),
        "heads": heads,
        "head_dim": head_dim,
        "num_hashes": num_hashes,
        "chunk_length": chunk_length,
    }
    launches = attention_backward(
        **shape,
        num_chunks_before=num_chunks_before,
        num_chunks_after=num_chunks_after,
        causal=causal,
        dropout=dropout,
        target=target_of(query_key),
    )
    parts = ("query_gradient", "key_gradient", "value_gradient")
    query_key, value = query_key.contiguous(), value.contiguous()
    with on_device_of(query_key):
        order = buckets if is_short else sort_by_bucket(buckets, num_buckets=num_buckets)
        tensors = {
            "query": query_key,
            "key": query_key,
            "value": value,
            "order": order,
            "mask": as_bytes(mask),
            "seed": seed,
            "lse": lse.contiguous(),
            "delta": delta_of(output, gradient),
            "gradient": gradient.contiguous(),
        }
        of_rounds = (batch, num_hashes, length, heads, head_dim)
        for name in parts:
            tensors[name] = value.new_empty(of_rounds, dtype=torch.float32)
        for launch in launches:
            launch.run(tensors, batch=batch, length=length)
        results = {
            "query_key_gradient": torch.empty_like(query_key),
            "value_gradient": torch.empty_like(value),
        }
        combine = triton_gradients.combine_gradients(**shape)
        given = dict(
            zip(("as_query", "as_key", "value_parts"), (tensors[n] for n in parts), strict=True)
        )
        combine.run({"query_key": query_key, **given, **results}, batch=batch, length=length)
    return results["query_key_gradient"], results["value_gradient"]
