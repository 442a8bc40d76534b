"""Attention alone in fp16 beside torch's causal attention: from which length on ours is faster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import torch

from reformer_export.bench.op_cases import Operands

from . import timing
from .operands import LAYERS, first_tokens, random_operands
from .record import Place, Record

TABLE = "Attention alone in fp16, ms"
SIZES = {"2 x 64": "c&p", "8 x 128": "enwik8"}
"""Number and size of heads, and the model in `LAYERS` with such a layer."""
LENGTHS = (2048, 4096, 8192, 16384, 65536)

LSH, LOCAL, FULL = "LSH with its hash", "local", "causal SDPA"
SECONDS = 0.1
"""Seconds for one measurement, of which there are sixty."""


def measure(size: str, length: int, record: Record, place: Place) -> None:
    """Times each attention when called from Python, and the time of the GPU alone."""
    longest = length if place.rehearsal else LENGTHS[-1]
    operands = first_tokens(_operands(size, longest, place), length)
    row = row_name(size, length)
    for what, work in ((LSH, operands.lsh), (LOCAL, operands.local), (FULL, operands.sdpa)):
        ms = timing.on_gpu(work, place.device, seconds=SECONDS)
        record.cell(TABLE, row, **{what: ms})
        if not place.rehearsal:
            replay = timing.replayed(work)
            ms = timing.on_gpu(replay, place.device, seconds=SECONDS)
            record.cell(TABLE, row, **{replayed(what): ms})


def row_name(size: str, length: int) -> str:
    """The name of a row of `TABLE`."""
    return f"{size}, {length:,} tokens"


def replayed(column: str) -> str:
    """The column with the time of the GPU alone."""
    return f"{column}, replayed"


def crossovers(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """For each size, the length from which on LSH attention is faster than full attention."""
    for size in SIZES:
        ratios = {}
        for length in LENGTHS:
            row = rows.get(row_name(size, length), {})
            ours, full = (row.get(replayed(what)) for what in (LSH, FULL))
            if ours and full:
                ratios[length] = full / ours
        if not ratios:
            continue
        last = max(ratios)
        slower = [length for length, ratio in ratios.items() if ratio < 1]
        faster = [length for length in ratios if length > max(slower, default=0)]
        start = f"from {faster[0]:,} tokens on" if faster else "at no length measured"
        yield (
            f"{size}: LSH attention is faster than causal SDPA {start}; "
            f"{ratios[last]:.2g} times as fast at {last:,}"
        )


@cache
def _operands(size: str, length: int, place: Place) -> Operands:
    return random_operands(LAYERS[SIZES[size]], length, torch.float16, place.device)
