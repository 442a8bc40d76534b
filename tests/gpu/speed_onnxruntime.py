"""Times of exported models in ONNX Runtime on CUDA, in the table rows of torch's times."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from . import fixtures, timing
from .comparing import example
from .onnxruntime_cuda import open_artifact
from .record import Place, Record
from .report import Tables
from .speed import MODEL_LENGTHS
from .targets import BODIES, GRAPH, MODELS, PLAIN, row_name, verdicts

BODIES_AT = ("c&p fp16", 65536)
"""The only measurement of the function bodies, which take seconds per run."""

_WITH_COPIES = "onnxruntime, NumPy in and out"
_REHEARSED = 256


def cases() -> list[str]:
    """Every model at the lengths of `MODEL_LENGTHS`; the slowest case is last."""
    usual = [
        f"{model}: {length} tokens"
        for model, lengths in MODEL_LENGTHS.items()
        for length in lengths
    ]
    model, length = BODIES_AT
    return [*usual, f"function bodies: {model}, {length} tokens"]


def run(names: Sequence[str], record: Record, place: Place) -> None:
    """Measure each."""
    for case in names:
        group, _, rest = case.partition(": ")
        bodies = group == "function bodies"
        model = rest.partition(", ")[0] if bodies else group
        length = rest.removesuffix(" tokens").split()[-1]
        with record.case(case):
            tokens = min(int(length), _REHEARSED) if place.rehearsal else int(length)
            _measure(model, tokens, record, place, bodies=bodies)


def conclude(tables: Tables) -> list[str]:
    """Which targets were met."""
    return list(verdicts(tables.get(MODELS, {})))


def _measure(model: str, length: int, record: Record, place: Place, *, bodies: bool) -> None:
    name, _, dtype = model.rpartition(" ")
    folder = fixtures.artifact(name, dtype, place)
    row = row_name(model, length)
    if bodies:
        runner = open_artifact(folder, place, graph="off", ops="portable")
        work = _prepared(runner, length, place)
        ms = timing.by_clock(work, "cpu", seconds=1, least=2, warm_up=1)
        record.cell(MODELS, row, **{BODIES: ms})
        return
    for column, graph in ((GRAPH, "auto"), (PLAIN, "off")):
        runner = open_artifact(folder, place, graph=graph)
        record.fact("onnxruntime runs as", runner.description)
        # A prepared run returns when the GPU is done, so the clock is enough.
        ms = timing.by_clock(_prepared(runner, length, place), "cpu")
        record.cell(MODELS, row, **{column: ms})
        if graph == "auto":
            inputs = example(runner.signature, length, 1).inputs
            ms = timing.by_clock(partial(runner.run, inputs), "cpu")
            record.cell(MODELS, row, **{_WITH_COPIES: ms})
        runner.close()


def _prepared(runner: Any, length: int, place: Place) -> timing.Work:
    """A function that runs the model on inputs that are already on the device."""
    inputs = example(runner.signature, length, 1).inputs
    if place.rehearsal:
        return lambda: runner.run(inputs)
    prepared: Any = runner.prepare(inputs)
    work: timing.Work = prepared.run
    return work
