"""`torch.ops.reformer.chunk_attention_step`: the portable implementation and its registration."""

from __future__ import annotations

import math
from typing import Any

import torch

from reformer_ops.chunk_attention.torch_op import softmax_attend
from reformer_ops.chunk_attention_step.spec import CHUNK_ATTENTION_STEP
from reformer_ops.core.attention_masks import ABSENT
from reformer_ops.core.errors import OpError
from reformer_ops.core.torch_library import call_step, check_operands, register_step, wide

Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _check(*arguments: Any) -> None:
    tensors, (chunk_length, num_chunks_before) = arguments[:6], arguments[6:]
    check_operands(CHUNK_ATTENTION_STEP, *tensors)
    CHUNK_ATTENTION_STEP.check_attributes(
        chunk_length=chunk_length, num_chunks_before=num_chunks_before
    )
    window, needed = tensors[3].shape[1], (num_chunks_before + 1) * chunk_length
    if type(window) is int and window != needed:
        raise OpError(
            f"chunk_attention_step takes a cache of {needed} tokens, {num_chunks_before + 1} "
            f"chunks of {chunk_length}; got {window}"
        )


def _portable(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    past_key: torch.Tensor,
    past_value: torch.Tensor,
    past_length: torch.Tensor,
    chunk_length: int,
    num_chunks_before: int,
) -> Outputs:
    window = past_key.shape[1]
    position = past_length[:, None]
    age = (position - torch.arange(window, device=query.device)) % window
    is_new = (age == 0)[:, :, None, None]
    present_key = torch.where(is_new, key[:, None], past_key)
    present_value = torch.where(is_new, value[:, None], past_value)
    first = ((position // chunk_length - num_chunks_before) * chunk_length).clamp(min=0)
    seen = (age <= position - first)[:, None, None]
    keys = (present_key / math.sqrt(key.shape[-1])).permute(0, 2, 3, 1)
    scores = (query[:, :, None] @ keys).to(wide(query.dtype)).masked_fill(~seen, ABSENT)
    output, _ = softmax_attend(scores, present_value.transpose(1, 2))
    return output[:, :, 0], present_key, present_value


def _fake(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    past_key: torch.Tensor,
    past_value: torch.Tensor,
    *_: Any,
) -> Outputs:
    return torch.empty_like(query), torch.empty_like(past_key), torch.empty_like(past_value)


register_step(CHUNK_ATTENTION_STEP, _check, _portable, _fake)


def chunk_attention_step(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    past_key: torch.Tensor,
    past_value: torch.Tensor,
    past_length: torch.Tensor,
    *,
    chunk_length: int,
    num_chunks_before: int,
    in_place: bool = False,
) -> tuple[torch.Tensor, ...]:
    """One new token attends to its window: `reference.chunk_attention_step`.

    Args:
        query, key, value: `[batch, heads, head_dim]` fp32, fp16 or bf16.
        past_key, past_value: `[batch, (num_chunks_before + 1) * chunk_length, heads, head_dim]`.
        past_length: `[batch]` int32.
        in_place: write into the given cache, and return it. For the native kernels it must be
            contiguous, in fp32 or fp16.

    Returns:
        The output `[batch, heads, head_dim]`, and the cache with the new token in it.

    Raises:
        OpError: shapes, types or attributes do not fit.
    """
    return call_step(
        CHUNK_ATTENTION_STEP,
        query,
        key,
        value,
        past_key,
        past_value,
        past_length,
        chunk_length,
        num_chunks_before,
        in_place=in_place,
    )
