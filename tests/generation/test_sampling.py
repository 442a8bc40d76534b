"""The choice of the next token, compared with Hugging Face's logits processors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LogitsProcessorList
from transformers.generation import (
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from reformer_export.generation.sampling import Sampling

SETTINGS = [
    Sampling(temperature=0.7),
    Sampling(temperature=2.0, top_k=5),
    Sampling(top_k=1),
    Sampling(top_p=0.5),
    Sampling(top_p=0.01),
    Sampling(temperature=1.3, top_k=20, top_p=0.9),
    Sampling(repetition_penalty=1.3, temperature=0.9, top_k=7),
    Sampling(repetition_penalty=0.5),
    Sampling(top_k=1000, top_p=1.0),
]


def processors(sampling: Sampling) -> LogitsProcessorList:
    chain = LogitsProcessorList()
    if sampling.repetition_penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.temperature is not None:
        chain.append(TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k:
        chain.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        chain.append(TopPLogitsWarper(sampling.top_p))
    return chain


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_scores_are_hugging_faces(sampling: Sampling, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.standard_normal(60) * 3
    tokens = random.integers(60, size=10).tolist()
    wanted = processors(sampling)(torch.tensor([tokens]), torch.from_numpy(logits[None].copy()))
    found = sampling.scores(logits, tokens)
    np.testing.assert_allclose(found, wanted[0].numpy(), rtol=1e-12)


@given(
    logits=st.lists(st.floats(-30, 30, width=32), min_size=1, max_size=50),
    temperature=st.floats(0.1, 10),
    top_k=st.integers(0, 60),
    top_p=st.floats(0.01, 1),
    seed=st.integers(0, 100),
)
def test_a_sampled_token_is_one_that_was_kept(
    logits: list[float], temperature: float, top_k: int, top_p: float, seed: int
) -> None:
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed)
    scores = np.array(logits, np.float32)
    kept = np.isfinite(sampling.scores(scores, []))
    assert kept[scores.argmax()]
    (random,) = sampling.generators(1)
    for _ in range(5):
        assert kept[sampling.choose(scores, [], random)]


def test_tokens_are_as_frequent_as_they_are_likely() -> None:
    logits = np.log(np.array([0.1, 0.2, 0.3, 0.4]))
    sampling = Sampling(temperature=1.0, seed=1)
    (random,) = sampling.generators(1)
    counts = np.bincount([sampling.choose(logits, [], random) for _ in range(4000)], minlength=4)
    np.testing.assert_allclose(counts / 4000, [0.1, 0.2, 0.3, 0.4], atol=0.03)


def test_equal_scores_take_the_lower_id() -> None:
    assert Sampling().choose(np.array([1.0, 3.0, 3.0]), [], None) == 1
