"""Trains a byte-level Reformer on a text and measures how well it compresses unseen text.

    python examples/train_bytes.py --out my-byte-model                      # the King James Bible
    python examples/train_bytes.py --out my-byte-model --data my-book.txt

Ctrl-C or SIGTERM saves and stops. The same command then resumes exactly where the run stopped, or
from the last save after a crash: weights, optimizers, generators and the position in the schedule
are all in OUT/state.pt. At the end, OUT is a checkpoint in Hugging Face's layout, with a model
card.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import platform
import shlex
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import click
import numpy as np
import torch
from bits_per_byte import bits_per_byte
from byte_corpus import DESCRIPTION, HELD_OUT_BYTES, CorpusError, read_text, split, xz_bits_per_byte
from model_card import Facts, model_card, summary
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from reformer_export.artifact.staging import atomic_file
from reformer_export.errors import ReformerError, UsageError
from reformer_models.config import ReformerConfig
from reformer_models.layers.attention import redraw_rotations
from reformer_models.layers.embeddings import AxialPositionEmbeddings
from reformer_models.layers.heads import ReformerForTask
from reformer_models.training.creating import create_model
from reformer_models.training.losses import language_model_loss
from reformer_models.training.saving import save_checkpoint

VOCABULARY = 256
"""A token id is a byte, as in `reformer-export run --tokenizer bytes`."""

CONFIG = ReformerConfig(
    attn_layers=("local", "lsh", "local", "lsh"),
    hidden_size=160,
    num_attention_heads=2,
    attention_head_size=64,
    feed_forward_size=512,
    hidden_act="gelu",
    local_attn_chunk_length=16,
    lsh_attn_chunk_length=64,
    num_hashes=1,
    hash_seed=0,
    axial_pos_shape=(16, 64),
    axial_pos_embds_dim=(32, 128),
    axial_norm_std=0.1,
    initializer_range=0.05,
    max_position_embeddings=1024,
    # The model sees the text only a few times, and the text is too large to be memorized.
    hidden_dropout_prob=0.0,
    local_attention_probs_dropout_prob=0.0,
    vocab_size=VOCABULARY,
    is_decoder=True,
)

EXCERPT_BYTES = 32768
"""Bytes of the held-out text that are stored with the model, to compare runtimes."""

console = Console(stderr=True)


@dataclass(frozen=True)
class Recipe:
    """The settings of a run; it can be resumed only with the same settings."""

    steps: int
    batch: int
    learning_rate: float
    seed: int
    bf16: bool
    held_out: int

    def rate(self, step: int) -> float:
        """The learning rate of a step: it rises linearly, then falls along half a cosine."""
        up = (step + 1) / max(1.0, 0.05 * self.steps)
        down = 0.02 + 0.98 * (1 + math.cos(math.pi * step / self.steps)) / 2
        return self.learning_rate * min(1.0, up) * down


class Training:
    """A run. Everything that a step changes is saved.

    Attributes:
        losses: the loss of every step so far, in nats per byte.
        held_out: the number of steps and the bits per byte, for each evaluation.
        seconds: total time of all steps, in all processes of the run.
    """

    def __init__(self, config: ReformerConfig, recipe: Recipe, text: bytes) -> None:
        if config.vocab_size != VOCABULARY:
            raise UsageError(f"a byte-level model has vocab_size 256, found {config.vocab_size}")
        self.recipe = recipe
        self.text_sha256 = hashlib.sha256(text).hexdigest()
        train, self.held_out_text = split(text, recipe.held_out)
        self.text = torch.frombuffer(bytearray(train), dtype=torch.uint8)
        self.model = create_model(config, seed=recipe.seed)
        spread_positions(self.model)
        self.window = self.model.config.max_length
        if len(train) < self.window:
            raise CorpusError(
                f"{len(train):,} bytes are left to train on, and the model takes {self.window:,} "
                "at once: give a longer text, or a smaller model"
            )
        self.optimizers = optimizers(self.model)
        self.sampler = torch.Generator().manual_seed(recipe.seed)
        torch.manual_seed(recipe.seed)  # for dropout, and for rotations if they are redrawn
        self.losses: list[float] = []
        self.held_out: list[tuple[int, float]] = []
        self.seconds = 0.0
        # Settings that must not change during a run, by name.
        self.settings = {
            **dataclasses.asdict(recipe), "model": config.to_hf(), "text": self.text_sha256,
            "threads": torch.get_num_threads(),
        }  # fmt: skip

    def step(self) -> None:
        """One step, on pieces of the text from random positions."""
        begin = time.perf_counter()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.recipe.rate(len(self.losses))
        places = len(self.text) - self.window + 1
        starts = torch.randint(places, (self.recipe.batch, 1), generator=self.sampler)
        ids = self.text[starts + torch.arange(self.window)].long()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bf16):
            loss = language_model_loss(self.model, ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.losses.append(loss.item())
        self.seconds += time.perf_counter() - begin

    def evaluate(self, text: bytes) -> float:
        """Bits per byte of a text, in fp32."""

        def logits(ids: np.ndarray) -> np.ndarray:
            result: np.ndarray = self.model(torch.from_numpy(ids))["logits"].numpy()
            return result

        self.model.eval()
        with torch.inference_mode():
            value = bits_per_byte(text, logits, self.window)
        self.model.train()
        return value

    def save(self, path: Path) -> None:
        """Write the state; the old file stays until the new one is complete."""
        state = {
            "settings": json.dumps(self.settings),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "generators": [self.sampler.get_state(), torch.get_rng_state()],
            "losses": self.losses,
            "held_out": self.held_out,
            "seconds": self.seconds,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            torch.save(state, file)

    def resume(self, path: Path) -> None:
        """Continue from a saved state.

        Raises:
            UsageError: the file is from another run, or is not a saved run.
        """
        try:
            state = torch.load(path, weights_only=True)
            before = json.loads(state["settings"])
        except Exception as error:  # torch raises many types for damaged files
            raise UsageError(f"{path} is no saved run: choose another --out") from error
        for name, value in json.loads(json.dumps(self.settings)).items():
            if before.get(name) != value:
                raise UsageError(
                    f"the run in {path.parent} was begun with {name} {before.get(name)}, not "
                    f"{value}: use the same value, or another --out for a new run"
                )
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.sampler.set_state(state["generators"][0])
        torch.set_rng_state(state["generators"][1])
        self.losses, self.held_out = state["losses"], state["held_out"]
        self.seconds = state["seconds"]

    def facts(self, name: str, source: str, license: str) -> Facts:
        """The data of the run, for its card and for --json."""
        excerpt = self.held_out_text[:EXCERPT_BYTES]
        return Facts(
            name=name,
            source=source,
            license=license,
            text_sha256=self.text_sha256,
            trained_bytes=len(self.text),
            held_out_bytes=len(self.held_out_text),
            window=self.window,
            parameters=sum(p.numel() for p in self.model.parameters() if p.requires_grad),
            steps=len(self.losses),
            batch=self.recipe.batch,
            seconds=self.seconds,
            threads=torch.get_num_threads(),
            machine=f"an {platform.machine()} machine with {os.cpu_count()} cores",
            command=shlex.join(["python", *sys.argv]),
            losses=self.losses,
            held_out=self.held_out,
            xz=xz_bits_per_byte(self.held_out_text),
            xz_primed=xz_bits_per_byte(self.held_out_text, self.text.numpy().tobytes()),
            excerpt_bytes=len(excerpt),
            excerpt=self.evaluate(excerpt),
        )


def spread_positions(model: ReformerForTask) -> None:
    """Set the position embeddings to the Fourier basis of each axis, up to their width.

    Then attention to the byte n positions back is the same rotation at every position. A small
    model would have to learn this first. Afterwards the embeddings are trained like all other
    weights.
    """
    for module in model.modules():
        if not isinstance(module, AxialPositionEmbeddings):
            continue
        for count, weight in zip(module.shape, module.weights, strict=True):
            rows = weight.detach().view(count, -1)
            waves = torch.arange(1, min(count, rows.shape[1]) // 2 + 1)
            angles = 2 * math.pi / count * torch.arange(count)[:, None] * waves
            basis = torch.cat([angles.cos(), angles.sin()], dim=1)
            rows[:, : basis.shape[1]] = math.sqrt(2) * model.config.axial_norm_std * basis


def optimizers(model: ReformerForTask) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for all other weights; both at the same rate."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    inner = [p for name, p in named if ".encoder." in name and p.dim() == 2]
    outer = [p for name, p in named if not (".encoder." in name and p.dim() == 2)]
    return [
        torch.optim.Muon(inner, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, betas=(0.9, 0.98), weight_decay=0.0),
    ]


class Stop:
    """Records SIGINT and SIGTERM, so that the loop ends after its step; a repeated signal kills."""

    def __init__(self) -> None:
        self.signal = 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL)


def train(training: Training, state: Path, save_every: int, evaluate_every: int) -> int:
    """Train to the end or until a signal, and save; returns the signal, or 0."""
    stop = Stop()
    recipe = training.recipe
    columns = (
        TextColumn("step {task.completed} of {task.total}"),
        BarColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(
            "train", completed=len(training.losses), total=recipe.steps, status=""
        )
        while len(training.losses) < recipe.steps and not stop.signal:
            training.step()
            done = len(training.losses)
            loss = float(np.mean(training.losses[-100:]))
            rate = done * recipe.batch * training.window / training.seconds
            status = f"loss {loss:.4f}, {loss / math.log(2):.3f} bits/byte, {rate:,.0f} bytes/s"
            progress.update(bar, completed=done, status=status)
            if done % evaluate_every == 0 or done == recipe.steps:
                value = training.evaluate(training.held_out_text)
                training.held_out.append((done, value))
                progress.print(f"step {done}: {status}; held out {value:.4f} bits/byte")
            if done % save_every == 0:
                training.save(state)
    training.save(state)
    return stop.signal


def read_config(path: Path) -> ReformerConfig:
    """The configuration in a config.json. Raises UsageError if the file has none."""
    try:
        return ReformerConfig.from_hf(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a Reformer's configuration: {error}") from error


def publish(training: Training, facts: Facts, out: Path) -> None:
    """Make `out` a normal checkpoint, with a card and an excerpt of the held-out text."""
    redraw_rotations(training.model, False)  # so that users hash as in the evaluation
    save_checkpoint(training.model, out)
    write(out / "held_out.txt", training.held_out_text[: facts.excerpt_bytes])
    write(out / "README.md", model_card(facts).encode())


def write(path: Path, content: bytes) -> None:
    """Write a file completely or not at all."""
    with atomic_file(path) as file:
        file.write(content)


FILE = click.Path(path_type=Path, dir_okay=False)
POSITIVE = click.IntRange(min=1)


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the run, later of the checkpoint. An existing run is resumed.",
)
@click.option("--data", type=FILE, help="A text of your own. [default: the Bible, fetched]")
@click.option("--config", "config_file", type=FILE, help="A config.json of another model.")
@click.option("--steps", type=POSITIVE, default=2400, show_default=True)
@click.option("--batch", type=POSITIVE, default=2, show_default=True, help="Pieces in a step.")
@click.option("--learning-rate", type=float, default=6e-3, show_default=True, help="The highest.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--bf16/--fp32", default=True, show_default=True, help="Type of matrix products.")
@click.option(
    "--threads",
    type=POSITIVE,
    default=1,
    show_default=True,
    help="The same number gives the same bits.",
)
@click.option(
    "--held-out", type=POSITIVE, default=HELD_OUT_BYTES, show_default=True, metavar="BYTES"
)
@click.option("--save-every", type=POSITIVE, default=100, show_default=True, metavar="STEPS")
@click.option("--evaluate-every", type=POSITIVE, default=600, show_default=True, metavar="STEPS")
@click.option("--json", "results", type=FILE, help="Write every loss and the results there.")
def main(
    out: Path,
    data: Path | None,
    config_file: Path | None,
    steps: int,
    batch: int,
    learning_rate: float,
    seed: int,
    bf16: bool,
    threads: int,
    held_out: int,
    save_every: int,
    evaluate_every: int,
    results: Path | None,
) -> None:
    """Train a byte-level Reformer; the same command resumes a stopped run."""
    torch.set_num_threads(threads)
    state = out / "state.pt"
    try:
        config = CONFIG if config_file is None else read_config(config_file)
        recipe = Recipe(steps, batch, learning_rate, seed, bf16, held_out)
        training = Training(config, recipe, read_text(data))
        if state.exists():
            training.resume(state)
            console.print(f"{out} continues after step {len(training.losses)}", highlight=False)
        stopped = train(training, state, save_every, evaluate_every)
        if stopped:
            console.print(f"stopped and saved in {state}: the same command continues from there")
            sys.exit(128 + stopped)
        about = (DESCRIPTION, "apache-2.0") if data is None else (f"`{data.name}`.", "other")
        facts = training.facts(out.resolve().name, *about)
        publish(training, facts, out)
        if results is not None:
            write(results, json.dumps(dataclasses.asdict(facts), indent=1).encode() + b"\n")
    except (CorpusError, ReformerError, OSError) as error:
        console.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(getattr(error, "exit_code", 1))
    print(summary(facts))


if __name__ == "__main__":
    main()
