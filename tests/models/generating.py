"""Hugging Face's cached generation at batch 1, step by step, with one of its bugs fixed."""

from __future__ import annotations

import math
from typing import Any

import torch


def generate(
    model: Any, prompt: torch.Tensor, steps: int, *, mended: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """The most likely tokens `[steps]` after a prompt `[length]`, and the logits `[steps, vocab]`.

    With `mended`, the buckets of a padded prompt have the same numbers as those of later tokens.
    """
    tokens, logits = [], []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        output = model(prompt[None], use_cache=True)
        if mended:
            mend(model.config, output.past_buckets_states, len(prompt))
        for step in range(steps):
            logits.append(output.logits[0, -1])
            tokens.append(logits[-1].argmax())
            if step + 1 < steps:
                output = model(
                    tokens[-1].reshape(1, 1),
                    past_buckets_states=output.past_buckets_states,
                    use_cache=True,
                )
    return torch.stack(tokens), torch.stack(logits)


def mend(config: Any, cache: Any, length: int) -> None:
    """Number the rounds as if there were no bucket for padding.

    Hugging Face adds `round * (num_buckets + 1)` to the buckets of a padded prompt, but
    `round * num_buckets` to those of later tokens, unless a cached bucket shows the padding.
    """
    kinds = {"lsh": config.lsh_attn_chunk_length, "local": config.local_attn_chunk_length}
    chunks = [kinds[kind] for kind in set(config.attn_layers)]
    if length <= min(chunks) or length % math.lcm(*chunks) == 0:
        return  # it was not padded
    for buckets in cache.buckets_cache:
        if buckets.numel():
            buckets -= torch.arange(buckets.shape[2])[:, None]
