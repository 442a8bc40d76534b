"""A small version of the Reformer paper's duplication task (arXiv 2001.04451, sec. 5, Table 2).

A sequence is 0 w 0 w, where w is a string of random symbols. A model that can look back by half a
sequence can predict the second w. A model of one layer is trained with full attention, or with LSH
attention of some number of rounds of hashing. Then it is evaluated with other kinds of attention;
this is possible because the number of rounds does not change the parameters.

    python examples/duplication.py            # four trainings, a table with the paper's numbers
    python examples/duplication.py --quick    # two short trainings
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from reformer_models.config import ReformerConfig
from reformer_models.layers.heads import ReformerForTask
from reformer_models.training.creating import create_model
from reformer_models.training.losses import IGNORED, language_model_loss

FULL = "full"
PAPER = {  # accuracy in percent: trained with -> evaluated with
    "full": {"full": 100, "8": 94.8, "4": 92.5, "2": 76.9, "1": 52.5},
    "4": {"full": 0.8, "8": 100, "4": 99.9, "2": 99.4, "1": 91.9},
    "2": {"full": 0.8, "8": 100, "4": 99.9, "2": 98.1, "1": 86.8},
    "1": {"full": 0.8, "8": 99.9, "4": 99.6, "2": 94.8, "1": 77.9},
}


@dataclass(frozen=True)
class Recipe:
    """The task, the model and its training; all kinds of attention use the same."""

    length: int = 256  # of a whole sequence 0 w 0 w
    symbols: int = 127
    hidden_size: int = 128
    chunk_length: int = 16
    steps: int = 600
    batch: int = 16
    learning_rate: float = 3e-3
    warmup: int = 50
    seed: int = 0
    test_sequences: int = 64
    test_rotations: int = 8  # an accuracy is the mean over this number of draws

    def config(self, attention: str, hash_seed: int | None = None) -> ReformerConfig:
        """A model with "full" attention or with LSH attention of 1, 2, ... rounds ("1", "2", ...).

        Full attention is LSH attention with the whole sequence as its only chunk, so it shares
        queries and keys, too.
        """
        full = attention == FULL
        return ReformerConfig(
            attn_layers=("lsh",),
            num_hashes=1 if full else int(attention),
            lsh_attn_chunk_length=self.length if full else self.chunk_length,
            lsh_num_chunks_before=0 if full else 1,
            hash_seed=hash_seed,  # None: new rotations at every training step
            vocab_size=self.symbols + 1,
            max_position_embeddings=self.length,
            axial_pos_embds=False,
            hidden_size=self.hidden_size,
            feed_forward_size=self.hidden_size,
            num_attention_heads=4,
            attention_head_size=self.hidden_size // 4,
            hidden_dropout_prob=0.0,
            is_decoder=True,
        )


FULL_SIZE = Recipe()
QUICK = Recipe(length=64, hidden_size=64, chunk_length=8, steps=250)


def duplicated(recipe: Recipe, count: int, generator: torch.Generator) -> torch.Tensor:
    """Sequences 0 w 0 w: `[count, length]` int64."""
    shape = (count, recipe.length // 2)
    half = torch.randint(1, recipe.symbols + 1, shape, generator=generator)
    half[:, 0] = 0
    return half.repeat(1, 2)


def train(recipe: Recipe, model: ReformerForTask) -> Iterator[float]:
    """Train a model in place; yields the loss of every step."""
    torch.manual_seed(recipe.seed)  # the rotations are drawn from the global generator
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / recipe.warmup) * (1 - step / recipe.steps)
    )
    for _ in range(recipe.steps):
        ids = duplicated(recipe, recipe.batch, generator)
        labels = ids.clone()
        labels[:, : recipe.length // 2 + 1] = IGNORED  # only the second w can be predicted
        loss = language_model_loss(model, ids, labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        yield loss.item()


@torch.no_grad()
def accuracy(recipe: Recipe, trained: ReformerForTask, attention: str) -> float:
    """The share of the second w that the model predicts with this attention, in percent."""
    generator = torch.Generator().manual_seed(recipe.seed + 1)
    ids = duplicated(recipe, recipe.test_sequences, generator)
    start = recipe.length // 2 + 1
    right = []
    for hash_seed in range(1 if attention == FULL else recipe.test_rotations):
        model = create_model(recipe.config(attention, hash_seed)).eval()
        model.load_state_dict(trained.state_dict())
        for some in ids.split(recipe.batch):
            found = model(some)["logits"][:, start - 1 : -1].argmax(-1)
            right.append((found == some[:, start:]).float().mean().item())
    return 100 * sum(right) / len(right)


def name(attention: str) -> str:
    return FULL if attention == FULL else f"LSH-{attention}"


def table(accuracies: dict[str, dict[str, float]]) -> Table:
    """The measured accuracies, with the paper's number in brackets if there is one."""
    evaluated = list(next(iter(accuracies.values())))
    shown = Table(title="accuracy on the second w in %, the paper's in brackets")
    shown.add_column("trained \\ evaluated")
    for attention in evaluated:
        shown.add_column(name(attention), justify="right")
    for trained, row in accuracies.items():
        paper = PAPER.get(trained, {})
        cells = [f"{row[one]:.1f} ({paper.get(one, '–')})" for one in evaluated]
        shown.add_row(name(trained), *cells)
    return shown


class Kinds(click.ParamType):
    """Kinds of attention: "full" and numbers of rounds of hashing, as in full,1,2."""

    name = "kinds"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        words = tuple(value.split(","))
        for word in words:
            if word != FULL and not (word.isdecimal() and int(word) > 0):
                self.fail(f"takes full and numbers of rounds, as in full,1,2; found {word!r}")
        return words


POSITIVE = click.IntRange(min=1)


@click.command()
@click.option("--quick", is_flag=True, help="Shorter sequences; full and 2 only.")
@click.option(
    "--length", type=POSITIVE, help=f"Tokens of a sequence. [default: {FULL_SIZE.length}]"
)
@click.option("--steps", type=POSITIVE, help=f"Steps of a training. [default: {FULL_SIZE.steps}]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of all random numbers.")
@click.option("--train", "trained", type=Kinds(), help="[default: full,4,2,1]")
@click.option("--eval", "evaluated", type=Kinds(), default="full,8,4,2,1", show_default=True)
@click.option(
    "--json", "results", type=click.Path(path_type=Path, dir_okay=False), help="Write results here."
)
def main(
    quick: bool,
    length: int | None,
    steps: int | None,
    seed: int,
    trained: tuple[str, ...] | None,
    evaluated: tuple[str, ...],
    results: Path | None,
) -> None:
    """Train with some kinds of attention, evaluate with others, and show a table."""
    recipe = QUICK if quick else FULL_SIZE
    recipe = replace(recipe, length=length or recipe.length, steps=steps or recipe.steps, seed=seed)
    halves = 2 * recipe.chunk_length
    if recipe.length % halves:
        raise click.UsageError(f"--length must be a multiple of {halves}; found {recipe.length}")
    console = Console()
    accuracies: dict[str, dict[str, float]] = {}
    seconds: dict[str, float] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[loss]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        for attention in trained or ((FULL, "2") if quick else (FULL, "4", "2", "1")):
            bar = progress.add_task(f"training with {name(attention)}", total=recipe.steps, loss="")
            start = time.perf_counter()
            model = create_model(recipe.config(attention), seed=recipe.seed)
            for loss in train(recipe, model):
                progress.update(bar, advance=1, loss=f"loss {loss:.3f}")
            seconds[attention] = time.perf_counter() - start
            accuracies[attention] = {one: accuracy(recipe, model, one) for one in evaluated}
    console.print(table(accuracies))
    for attention, taken in seconds.items():
        console.print(f"{name(attention)}: {recipe.steps} steps in {taken:.0f} s")
    if results is not None:
        document = {"recipe": asdict(recipe), "accuracy": accuracies, "seconds": seconds}
        results.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
