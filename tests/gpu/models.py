"""Compares whole models in torch on CUDA with the same on the CPU, and Transformers on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch

from reformer_export.runtimes import ProbingRunner

from . import fixtures
from .comparing import example, expect_equal
from .needs import first_missing
from .record import Place, Record

NAMES = ("c&p", "enwik8 cut", "small", "small, both ways", "small, one head of 20")
DTYPES = ("fp32", "fp16", "bf16")
LENGTHS = (1, 63, 64, 65, 500, 1000)
SMALL_LENGTHS = (1, 3, 5, 6, 7, 13, 24, 100)

_REHEARSED = 130
"""The most tokens in a rehearsal: the CPU is slow in half types."""


def cases() -> list[str]:
    """Every model in every type at every length, in a batch of two with padding."""
    return [
        f"{name} {dtype}: {length} tokens"
        for name in NAMES
        for dtype in DTYPES
        for length in (SMALL_LENGTHS if name.startswith("small") else LENGTHS)
    ]


def run(names: Sequence[str], record: Record, place: Place) -> None:
    """Compare in fp32 with the model on the CPU and with Transformers, in half types with fp32."""
    torch.set_grad_enabled(False)
    for case in names:
        model, _, rest = case.rpartition(": ")
        name, _, dtype = model.rpartition(" ")
        with record.case(case) as figures:
            candidate, references, baseline = _runners(name, dtype, place)
            length = int(rest.split()[0])
            if place.rehearsal:
                length = min(length, _REHEARSED)
            inputs = example(candidate.signature, length, 2)
            expect_equal(candidate, references, inputs, dtype, figures, baseline=baseline)


@cache
def _runners(name: str, dtype: str, place: Place) -> tuple[Any, list[ProbingRunner], Any]:
    """The candidate on the GPU, its references on the CPU, and a baseline in half types.

    The baseline has the portable operators in the same type, on the GPU too, because a CPU takes
    minutes for them. The candidate may have twice its error.
    """
    model = fixtures.loaded(name, dtype, place)
    candidate = fixtures.runner(model, dtype, place.device)
    if dtype != "fp32":
        # The reference has the same rounded weights in fp32.
        exact = fixtures.runner(model.in_fp32(), dtype, "cpu")
        baseline = fixtures.runner(model, dtype, place.device, ops="portable")
        return candidate, [exact], baseline
    references: list[ProbingRunner] = [fixtures.runner(model, dtype, "cpu")]
    if first_missing(["transformers"]) is None:
        from reformer_export.runtimes.transformers import TransformersRunner

        references.append(TransformersRunner(model, candidate.signature))
    return candidate, references, None
