"""A prompt and steps with a cache, compared with Hugging Face's cache at batch 1."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch

from reformer_models.layers.decoding import ORDER_BLOCK, DecodeStep, Prefill, cache_tensors
from reformer_models.layers.heads import TextGeneration
from reformer_models.loading import LoadedModel

from .generating import generate as generate_theirs
from .reformers import SMALL, ours, theirs, token_ids

STEPS = 9
CONFIGS: dict[str, dict[str, Any]] = {
    "small": {},
    "one-round": {"num_hashes": 1, "num_buckets": 8},
    "none-before": {"lsh_num_chunks_before": 0, "local_num_chunks_before": 0},
    "two-before": {"lsh_num_chunks_before": 2},
    "one-chunk-length": {"local_attn_chunk_length": 6},
    "long-local": {"local_attn_chunk_length": 12},
    "odd-lengths": {"local_attn_chunk_length": 5},
    "lsh": {"attn_layers": ["lsh"] * 3, "num_hashes": 3},
    "local": {"attn_layers": ["local"] * 2},
    "learned-positions": {"axial_pos_embds": False, "tie_word_embeddings": False},
    "gelu": {"hidden_act": "gelu_new", "num_attention_heads": 3},
}
LENGTHS = (1, 2, 4, 5, 6, 7, 8, 11, 12, 13, 17, 18, 19, 23, 24, 25, 36, 37, 50)


@cache
def models(name: str) -> tuple[Any, LoadedModel]:
    """Hugging Face's model and ours, for a config in `CONFIGS`."""
    model = theirs("text-generation", **{**SMALL, **CONFIGS[name]})
    return model, ours(model, task="text-generation")


def generate_ours(
    model: TextGeneration, prompt: torch.Tensor, steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """As `generating.generate`, with our model."""
    prefill, step = Prefill(model), DecodeStep(model)
    length, tensors = len(prompt), cache_tensors(model.config)
    with torch.no_grad():
        outputs = prefill(prompt[None])
        past = []
        for tensor in tensors:
            value = outputs[tensor.present]
            room = tensor.zeros(1, length + steps - 1, value.dtype)
            if "capacity" in tensor.axes:  # unused numbers must have no effect
                room += 77
            room[tuple(slice(size) for size in value.shape)] = value
            past.append(room)
        logits = [outputs["logits"][0, 0]]
        for position in range(length, length + steps - 1):
            lengths = torch.tensor([position]), torch.tensor([length])
            outputs = step(logits[-1].argmax().reshape(1, 1), *lengths, *past)
            past = [outputs[tensor.present] for tensor in tensors]
            logits.append(outputs["logits"][0, 0])
    found = torch.stack(logits)
    return found.argmax(-1), found


def calls() -> Iterator[Any]:
    """Every length of every config; `make test` runs one in ten."""
    for place, name in enumerate(CONFIGS):
        for count, length in enumerate(LENGTHS):
            marks = [pytest.mark.slow] if (count + place) % 10 else []
            yield pytest.param(name, length, marks=marks)


@pytest.mark.parametrize(("name", "length"), list(calls()))
def test_every_step_gives_hugging_faces_logits(name: str, length: int) -> None:
    model, loaded = models(name)
    prompt = token_ids(1, length, SMALL["vocab_size"], seed=length)[0]
    wanted_tokens, wanted = generate_theirs(model, prompt, STEPS)
    tokens, logits = generate_ours(loaded.model, prompt, STEPS)
    error = (logits - wanted).abs().amax(-1) / wanted.abs().max()
    assert error.max() < 2e-5, error
    assert torch.equal(tokens, wanted_tokens)


def test_a_padded_prompt_shifts_hugging_faces_buckets() -> None:
    """A bug of Hugging Face: after a padded prompt, it numbers the rounds in another way."""
    model = theirs("text-generation", **{**SMALL, "num_buckets": 8})
    prompt = token_ids(1, 17, SMALL["vocab_size"], seed=17)[0]
    _, faulty = generate_theirs(model, prompt, 6, mended=False)
    _, logits = generate_ours(ours(model, task="text-generation").model, prompt, 6)
    assert (logits - faulty).abs().max() > 0.01


def test_a_batch_sees_its_first_row_in_hugging_face() -> None:
    """A bug of Hugging Face: every row of a batch attends to the cached states of row 0."""
    model, loaded = models("lsh")
    prompts = token_ids(2, 12, SMALL["vocab_size"])  # not padded, and more than a chunk
    chosen = torch.tensor([[3], [7]])
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        cache = model(prompts, use_cache=True).past_buckets_states
        faulty = model(chosen, past_buckets_states=cache, use_cache=True).logits[:, -1]
        for row in (0, 1):
            alone = model(prompts[row : row + 1], use_cache=True).past_buckets_states
            step = model(chosen[row : row + 1], past_buckets_states=alone, use_cache=True)
            difference = (step.logits[0, -1] - faulty[row]).abs().max()
            assert (difference < 1e-5) == (row == 0)
            ours_alone = one_step(loaded.model, prompts[row : row + 1], chosen[row : row + 1])
            together = one_step(loaded.model, prompts, chosen)[row]
            assert (ours_alone[0] - step.logits[0, -1]).abs().max() < 1e-5
            assert (together - step.logits[0, -1]).abs().max() < 1e-5


def one_step(model: TextGeneration, prompts: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """The logits `[batch, vocab]` after prompts `[batch, length]` and one more token."""
    outputs, past = Prefill(model)(prompts), []
    for tensor in cache_tensors(model.config):
        value = outputs[tensor.present]
        room = tensor.zeros(len(prompts), prompts.shape[1] + 1, value.dtype)
        room[tuple(slice(size) for size in value.shape)] = value
        past.append(room)
    lengths = torch.full((len(prompts),), prompts.shape[1])
    return DecodeStep(model)(chosen, lengths, lengths, *past)["logits"][:, 0]


def test_a_far_local_reach_loses_tokens_in_hugging_face() -> None:
    """A bug of Hugging Face: with two chunks before and fewer in the cache, it drops tokens."""
    config = {**SMALL, "attn_layers": ["local"]}
    far = theirs("text-generation", **config, local_num_chunks_before=2)
    prompt = token_ids(1, 6, SMALL["vocab_size"])[0]
    _, faulty = generate_theirs(far, prompt, 3)
    _, logits = generate_ours(ours(far, task="text-generation").model, prompt, 3)
    # The same weights with a reach of one chunk see both chunks completely.
    near = ours(theirs("text-generation", **config), task="text-generation").model
    with torch.no_grad():
        whole = near(torch.cat([prompt, logits.argmax(-1)[:2]])[None])["logits"][0, -1]
    assert (logits[2] - whole).abs().max() < 1e-5
    assert (faulty[2] - whole).abs().max() > 1e-3


def test_without_num_buckets_a_short_prompt_generates() -> None:
    """Hugging Face raises a TypeError here."""
    model = theirs("text-generation", **{**SMALL, "num_buckets": None})
    loaded = ours(model, task="text-generation")
    prompt = token_ids(1, 3, SMALL["vocab_size"])[0]
    with pytest.raises(TypeError):
        generate_theirs(model, prompt, STEPS)
    tokens, _ = generate_ours(loaded.model, prompt, STEPS)
    assert len(tokens) == STEPS


def test_a_cache_is_declared_by_layer() -> None:
    _, loaded = models("small")
    tensors = cache_tensors(loaded.config)
    assert [tensor.past for tensor in tensors[:7]] == [
        *("past_key.0", "past_value.0"),
        *("past_key.1", "past_value.1", "past_buckets.1", "past_order.1", "past_starts.1"),
    ]
    assert tensors[0].axes == ("batch", 8, 2, 6)  # two chunks of 4
    assert tensors[2].axes == ("batch", "capacity", 2, 6)
    assert tensors[4].axes == ("batch", 2, 2, "capacity")
    assert tensors[5].axes == ("batch", 2, 2, "blocks", ORDER_BLOCK)
    assert tensors[6].axes == ("batch", 2, 2, "blocks")
    assert [tensor.integers for tensor in tensors[2:7]] == [False, False, True, True, True]
    assert tensors[5].zeros(1, ORDER_BLOCK + 1, torch.float32).shape[3] == 2
