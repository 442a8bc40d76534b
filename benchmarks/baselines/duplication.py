"""What each attention learns in the same number of steps, on a small duplication task.

The task is a small version of the one in the Reformer paper (arXiv 2001.04451, section 5). A
sequence is `0 w 0 w`, where `w` is random and consists of the symbols 1 to n. Only the second `w`
counts; to predict it, a model must look back half a sequence. A causal model predicts each symbol
from all symbols before it. For an attention that cannot be causal the second `w` is masked, and the
model fills in all of it at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy, pad

from benchmarks.baselines.choices import Choice, Skeleton
from reformer_export.bench.progress import Progress
from reformer_export.bench.report import seconds_text
from reformer_export.source import create_model

SYMBOLS = 64
LENGTH = 128
_SEPARATOR, _MASK = 0, SYMBOLS + 1
_IGNORED = -100


def skeleton(rounds: int = 1) -> Skeleton:
    """The model that is trained; a query attends to 32 keys in each round of hashing."""
    return Skeleton(
        max_length=LENGTH,
        axial_shape=None,
        keys=32 * rounds,
        rounds=rounds,
        layers=2,
        hidden=128,
        vocab_size=SYMBOLS + 2,
    )


@dataclass(frozen=True)
class Training:
    """The training budget of every attention.

    The optimizer is Adam. Its rate rises over `warm_up` steps and then falls to 0.
    """

    steps: int
    batch: int = 16
    rate: float = 1e-3
    warm_up: int = 50
    every: int = 25
    """Steps between two measurements of accuracy."""
    seed: int = 0


@dataclass(frozen=True)
class Learned:
    """The training of one attention.

    Attributes:
        task: "causal", or "fill in" if the second `w` was masked.
        accuracy: (step, share of the second `w` that is right) on sequences that no training uses.
        seconds: time of the training, without the measurements of accuracy.
    """

    name: str
    task: str
    accuracy: tuple[tuple[int, float], ...]
    seconds: float
    parameters: int

    @property
    def steps_to_learn(self) -> int | None:
        """The step of the first measurement with at least 99 % right; None if there is none."""
        return next((step for step, share in self.accuracy if share >= 0.99), None)

    def row(self) -> Sequence[str]:
        """The row under `HEADER`."""
        reached = self.steps_to_learn
        last, share = self.accuracy[-1]
        return (
            self.name,
            self.task,
            f"{share:.1%}",
            "not within the training" if reached is None else f"{reached}",
            seconds_text(self.seconds / last),
        )

    def to_json(self) -> dict[str, Any]:
        """As an object of results.json."""
        return asdict(self) | {"steps_to_learn": self.steps_to_learn}


HEADER = ("attention", "task", "accuracy", "steps to 99 %", "time of a step")


def learn(
    choice: Choice,
    label: str,
    training: Training,
    *,
    threads: int,
    causal: bool,
    skeleton: Skeleton,
    progress: Progress | None = None,
) -> Learned:
    """Train the skeleton with this attention; all choices have the same data and initial weights.

    Args:
        label: its name in the report.
        threads: the number of threads of torch during the training. Afterwards the old number and
            the state of the global generator are restored.
        causal: True for the causal form of the task; False if the second `w` is filled in.
        skeleton: the model. It draws new hash rotations at every step, as the paper does in
            training.
    """
    say = progress or (lambda message: None)
    task = "text-generation" if causal else "fill-mask"
    with _threads(threads), torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        model: Any = create_model(
            skeleton.config(choice.kind, causal=causal), task, seed=training.seed
        )
        choice.install(model, skeleton)
        model.reformer.encoder.recompute = False  # two layers fit; the gradients are the same
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, lr=training.rate, betas=(0.9, 0.98))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: min((step + 1) / training.warm_up, 1 - step / training.steps),
        )
        fresh = torch.Generator().manual_seed(training.seed)
        held_out = draw(32, torch.Generator().manual_seed(training.seed + 1), causal)
        accuracy: list[tuple[int, float]] = []
        seconds = 0.0
        for step in range(1, training.steps + 1):
            start = time.perf_counter()
            ids, labels = draw(training.batch, fresh, causal)
            logits = model(ids)["logits"].flatten(0, 1)
            loss = cross_entropy(logits, labels.flatten(), ignore_index=_IGNORED)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            seconds += time.perf_counter() - start
            if step % training.every == 0 or step == training.steps:
                accuracy.append((step, _accuracy(model, *held_out)))
                say(f"step {step} of {training.steps}: {accuracy[-1][1]:.1%} right")
    kind = "causal" if causal else "fill in"
    count = sum(p.numel() for p in parameters)
    return Learned(label, kind, tuple(accuracy), seconds, count)


def draw(count: int, generator: torch.Generator, causal: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns sequences and the target of each position, both `[count, LENGTH]` int64."""
    word = torch.randint(1, SYMBOLS + 1, (count, LENGTH // 2 - 1), generator=generator)
    half = pad(word, (1, 0), value=_SEPARATOR)
    ids = torch.cat([half, half], dim=1)
    labels = ids.clone()
    labels[:, : LENGTH // 2 + 1] = _IGNORED
    if causal:
        return ids, pad(labels[:, 1:], (0, 1), value=_IGNORED)
    ids[:, LENGTH // 2 + 1 :] = _MASK
    return ids, labels


def _accuracy(model: Any, ids: torch.Tensor, labels: torch.Tensor) -> float:
    model.eval()
    with torch.no_grad():
        right = model(ids)["logits"].argmax(dim=-1) == labels
    model.train()
    return right.sum().item() / (labels != _IGNORED).sum().item()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
