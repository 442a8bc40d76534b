"""Chooses the next token from its logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reformer_export.errors import UsageError

Logits = NDArray[np.floating]


@dataclass(frozen=True)
class Sampling:
    """The settings for choosing the next token, applied in this order, as Hugging Face's `generate`
    does.

    Attributes:
        repetition_penalty: divides the positive scores of tokens that the sequence contains, and
            multiplies the negative ones (CTRL, arXiv 1909.05858).
        temperature: divides the scores; 0 chooses the highest score.
        top_k: keep the k highest scores; 0 keeps all.
        top_p: keep the smallest set of the most probable tokens whose probabilities sum to at least
            this (arXiv 1904.09751).
        seed: the seed of the random numbers. The same seed gives the same tokens.

    Without temperature, top_k and top_p the highest score is chosen ("greedy"). Among equal scores,
    the token with the lower id ranks first.
    """

    repetition_penalty: float = 1.0
    temperature: float | None = None
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        wrong = [
            text
            for text, right in (
                (f"--temperature {self.temperature}: give 0 or more", self._temperature_is_right),
                (f"--top-k {self.top_k}: give 0 (all) or more", self.top_k >= 0),
                (f"--top-p {self.top_p}: give more than 0 and at most 1", 0 < self.top_p <= 1),
                (
                    f"--repetition-penalty {self.repetition_penalty}: give more than 0",
                    0 < self.repetition_penalty < np.inf,
                ),
                (f"--seed {self.seed}: give 0 or more", self.seed >= 0),
            )
            if not right
        ]
        if wrong:
            raise UsageError(wrong[0])

    @property
    def _temperature_is_right(self) -> bool:
        return self.temperature is None or 0 <= self.temperature < np.inf

    @property
    def greedy(self) -> bool:
        """True if the choice uses no random numbers."""
        if self.temperature is None:
            return self.top_k == 0 and self.top_p == 1.0
        return self.temperature == 0

    def generators(self, batch: int) -> list[np.random.Generator]:
        """A random generator for each row; its numbers do not depend on the other rows."""
        return [np.random.default_rng([self.seed, row]) for row in range(batch)]

    def choose(
        self, logits: Logits, tokens: Sequence[int], random: np.random.Generator | None
    ) -> int:
        """The next token of one sequence.

        Args:
            logits: `[vocab_size]`.
            tokens: the sequence so far, including the prompt.
            random: the row's random generator; if None, the highest score is chosen.
        """
        scores = self.scores(logits, tokens)
        if self.greedy or random is None:
            return int(scores.argmax())
        weights = np.exp(scores - scores.max())
        cumulated = np.cumsum(weights)
        return int(np.searchsorted(cumulated, random.random() * cumulated[-1], side="right"))

    def scores(self, logits: Logits, tokens: Sequence[int]) -> NDArray[np.float64]:
        """The scores after all settings, `[vocab_size]`; -inf for tokens that are not kept."""
        scores = logits.astype(np.float64)
        if self.repetition_penalty != 1.0:
            used = np.unique(np.asarray(tokens, np.intp))
            of_used = scores[used]
            penalised = of_used / self.repetition_penalty
            scores[used] = np.where(of_used < 0, of_used * self.repetition_penalty, penalised)
        if self.greedy:
            return scores
        if self.temperature is not None:
            scores = scores / self.temperature
        if 0 < self.top_k < len(scores):
            # As in Hugging Face: scores equal to the k-th highest are also kept.
            least = np.partition(scores, -self.top_k)[-self.top_k]
            scores = np.where(scores < least, -np.inf, scores)
        if self.top_p < 1.0:
            order = np.argsort(-scores, kind="stable")
            weights = np.exp(scores[order] - scores[order[0]])
            before = np.cumsum(weights / weights.sum()) - weights / weights.sum()
            dropped = before >= self.top_p
            dropped[0] = False
            scores[order[dropped]] = -np.inf
        return scores
