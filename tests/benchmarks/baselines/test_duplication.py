"""The sequences of the task are correct, and a model learns the task if it can."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from benchmarks.baselines.choices import CHOICES, FULL, LONGFORMER, Choice
from benchmarks.baselines.duplication import LENGTH, SYMBOLS, Training, draw, learn, skeleton

HALF = LENGTH // 2


def test_a_causal_sequence_is_a_word_twice() -> None:
    ids, labels = draw(5, torch.Generator().manual_seed(0), causal=True)
    assert ids.shape == labels.shape == (5, LENGTH)
    assert (ids[:, :HALF] == ids[:, HALF:]).all()
    assert (ids[:, 0] == 0).all()
    assert set(ids[:, 1:HALF].unique().tolist()) <= set(range(1, SYMBOLS + 1))
    assert (labels[:, HALF:-1] == ids[:, HALF + 1 :]).all(), "each symbol is asked for before it"
    assert (labels[:, :HALF] == -100).all()
    assert (labels[:, -1] == -100).all()


def test_the_second_word_is_nowhere_where_it_is_to_be_filled_in() -> None:
    ids, labels = draw(5, torch.Generator().manual_seed(0), causal=False)
    assert (ids[:, HALF + 1 :] == SYMBOLS + 1).all()
    assert (labels[:, HALF + 1 :] == ids[:, 1:HALF]).all()
    assert (labels[:, : HALF + 1] == -100).all()


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.name)
def test_all_train(choice: Choice) -> None:
    """Two steps of every choice: finite, reported; the global generator does not change."""
    state = torch.get_rng_state()
    training = Training(2, batch=2, warm_up=1, every=1)
    learned = learn(
        choice, "it", training, threads=1, causal=choice.causal, skeleton=skeleton(rounds=2)
    )
    assert [step for step, _ in learned.accuracy] == [1, 2]
    assert all(0 <= share < 0.5 for _, share in learned.accuracy)
    assert learned.steps_to_learn is None
    assert learned.task == ("causal" if choice.causal else "fill in")
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_seed_learns_the_same() -> None:
    training = Training(2, batch=2, warm_up=1, every=1)
    runs = [
        learn(FULL, "it", training, threads=1, causal=False, skeleton=skeleton()) for _ in range(2)
    ]
    assert runs[0].accuracy == runs[1].accuracy
    other = dataclasses.replace(training, seed=1)
    run = learn(FULL, "it", other, threads=1, causal=False, skeleton=skeleton())
    assert run.accuracy != runs[0].accuracy


@pytest.mark.slow
def test_who_sees_the_first_word_learns_and_who_does_not_cannot() -> None:
    seen, unseen = (
        learn(choice, "it", Training(steps), threads=1, causal=True, skeleton=skeleton())
        for choice, steps in ((FULL, 250), (LONGFORMER, 100))
    )
    assert seen.accuracy[-1][1] > 0.99
    assert seen.steps_to_learn is not None
    assert unseen.accuracy[-1][1] < 0.1
