"""The model card of a byte model: the model, its training data and its quality."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Facts:
    """The data for a card."""

    name: str
    source: str
    """One or two sentences of Markdown about the text and its licence."""
    license: str
    """The hub's name of the weights' licence."""
    text_sha256: str
    trained_bytes: int
    held_out_bytes: int
    window: int
    parameters: int
    steps: int
    batch: int
    seconds: float
    threads: int
    machine: str
    command: str
    losses: list[float]
    held_out: list[tuple[int, float]]
    """(Steps, bits per byte of the held-out text after them)."""
    xz: float
    xz_primed: float
    excerpt_bytes: int
    excerpt: float
    """Bits per byte of the first `excerpt_bytes` bytes of the held-out text alone."""

    @property
    def bits_per_byte(self) -> float:
        """The final value for the held-out text."""
        return self.held_out[-1][1]


def summary(facts: Facts) -> str:
    """The result in one line."""
    return (
        f"held-out bits per byte: {facts.bits_per_byte:.4f}; xz -9e of the same "
        f"{facts.held_out_bytes:,} bytes: {facts.xz:.4f}, and {facts.xz_primed:.4f} with the "
        "training text packed before them"
    )


def curve(facts: Facts) -> list[tuple[int, float, float]]:
    """For each evaluation: steps, mean training bits per byte since the previous one, held-out."""
    rows, before = [], 0
    for step, value in facts.held_out:
        rows.append((step, float(np.mean(facts.losses[before:step])) / math.log(2), value))
        before = step
    return rows


def model_card(facts: Facts) -> str:
    """The content of README.md, with the header for the hub."""
    rows = "\n".join(
        f"| {step:,} | {train:.3f} | {held:.4f} |" for step, train, held in curve(facts)
    )
    return f"""\
---
language: en
license: {facts.license}
library_name: transformers
pipeline_tag: text-generation
tags:
- reformer
- byte-level
---

# {facts.name}

A causal Reformer over bytes (token id = byte) with {facts.parameters:,} parameters, for up to
{facts.window:,} bytes at once. It is small on purpose: its use is to be exported, run and compared.

## Data

{facts.source}

sha256 of the text: `{facts.text_sha256}`.
Trained on its first {facts.trained_bytes:,} bytes; the last {facts.held_out_bytes:,} are held out.

## Result

| bits per byte of the held-out text | |
|---|---|
| this model | {facts.bits_per_byte:.4f} |
| `xz -9e` | {facts.xz:.4f} |
| `xz -9e`, the training text packed before it | {facts.xz_primed:.4f} |

The text is read in windows of {facts.window:,} bytes, in fp32. Each starts half a window after the
previous one. The second half of a window counts; the first window counts completely, and the
first byte costs 8 bits. `held_out.txt` is the first {facts.excerpt_bytes:,} bytes of the
held-out text; of these alone it is {facts.excerpt:.4f}.

## Training

    {facts.command}

{facts.steps:,} steps of {facts.batch} × {facts.window:,} bytes in {facts.seconds / 60:.0f} minutes,
{facts.threads} thread(s) of {facts.machine}. "Training" is the mean since the previous row.

| steps | training | held-out |
|---|---|---|
{rows}
"""
