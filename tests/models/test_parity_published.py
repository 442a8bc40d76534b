"""Compares the published sizes with Transformers: crime-and-punishment, 4 layers of enwik8."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reformer_models.loading import LoadedModel
from reformer_models.tasks import TASKS

from .parity import Tally
from .reformers import CRIME_AND_PUNISHMENT, ENWIK8_CUT, masks, ours, theirs, token_ids

Pair = tuple[Any, LoadedModel]


def pair(task: str, config: dict[str, Any]) -> Pair:
    causal = task not in ("fill-mask", "question-answering", "text-classification")
    model = theirs(task, **{**config, "is_decoder": causal})
    return model, ours(model, task=task)


def mask_of(kind: str, ids: torch.Tensor) -> torch.Tensor | None:
    kinds = dict(zip(("none", "ones", "ragged", "holes"), masks(*ids.shape), strict=True))
    return kinds[kind]


def compare(tally: Tally, pair: Pair, batch: int, length: int, kind: str) -> None:
    model, loaded = pair
    ids = token_ids(batch, length, loaded.config.vocab_size, seed=length)
    tally.compare(model, loaded, ids, mask_of(kind, ids))


@pytest.fixture(scope="module")
def crime_and_punishment() -> Pair:
    return pair("text-generation", CRIME_AND_PUNISHMENT)


@pytest.fixture(scope="module")
def enwik8() -> Pair:
    return pair("text-generation", ENWIK8_CUT)


@pytest.mark.parametrize("length", [1, 2, 63, 64, 65, 127, 128, 129, 191, 192, 500])
def test_crime_and_punishment(length: int, crime_and_punishment: Pair, tally: Tally) -> None:
    for batch, kind in ((1, "none"), (1, "holes"), (3, "ones"), (3, "ragged")):
        compare(tally, crime_and_punishment, batch, length, kind)


@pytest.mark.parametrize(
    ("length", "kind"), [(4096, "ragged"), (10000, "ones"), (10000, "holes"), (16384, "none")]
)
def test_crime_and_punishment_long(
    length: int, kind: str, crime_and_punishment: Pair, tally: Tally
) -> None:
    compare(tally, crime_and_punishment, 1, length, kind)


@pytest.mark.slow
def test_crime_and_punishment_at_every_length(crime_and_punishment: Pair, tally: Tally) -> None:
    for length in range(1, 193):
        for batch, kind in ((1, "none"), (1, "holes"), (3, "none"), (3, "ragged")):
            compare(tally, crime_and_punishment, batch, length, kind)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "length", "kind"),
    [(3, 4096, "ragged"), (3, 10000, "ragged"), (3, 16384, "ragged"), (1, 65536, "none")],
)
def test_crime_and_punishment_large(
    batch: int, length: int, kind: str, crime_and_punishment: Pair, tally: Tally
) -> None:
    compare(tally, crime_and_punishment, batch, length, kind)


@pytest.mark.parametrize("task", TASKS)
def test_heads_on_crime_and_punishment(task: str, tally: Tally) -> None:
    both = pair(task, CRIME_AND_PUNISHMENT)
    for length in (64, 150):
        compare(tally, both, 1, length, "none")
        compare(tally, both, 3, length, "ragged")


@pytest.mark.parametrize("length", [1, 128, 129, 256, 257])
def test_enwik8(length: int, enwik8: Pair, tally: Tally) -> None:
    compare(tally, enwik8, 1, length, "none")
    compare(tally, enwik8, 1, length, "holes")


@pytest.mark.parametrize(
    "task",
    [
        pytest.param(task, marks=() if task == "question-answering" else pytest.mark.slow)
        for task in TASKS
    ],
)
def test_heads_on_enwik8(task: str, tally: Tally) -> None:
    compare(tally, pair(task, ENWIK8_CUT), 1, 260, "ragged")


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, 769, 96))
def test_enwik8_at_every_length(first: int, enwik8: Pair, tally: Tally) -> None:
    """Lengths of up to three LSH chunks; every seventh length also with batches of 3."""
    for length in range(first, first + 96):
        compare(tally, enwik8, 1, length, "none")
        compare(tally, enwik8, 1, length, "holes")
        if length % 7 == 0:
            compare(tally, enwik8, 3, length, "none")
            compare(tally, enwik8, 3, length, "ragged")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch", "length", "kind"),
    [(1, 4096, "ragged"), (3, 4096, "ragged"), (1, 10000, "holes"), (1, 16384, "none")],
)
def test_enwik8_long(batch: int, length: int, kind: str, enwik8: Pair, tally: Tally) -> None:
    compare(tally, enwik8, batch, length, kind)
