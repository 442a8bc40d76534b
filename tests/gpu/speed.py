"""Times in torch: the rates of the GPU, operators alone, whole models, attention, training steps.

A case fails only if it does not run. Targets are only printed beside the figures.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from reformer_export.runtimes.torch_files import tensors

from . import fixtures, speed_attention, speed_training, timing
from .comparing import example
from .needs import first_missing
from .operands import LAYERS, random_operands
from .record import Place, Record, Skip
from .report import Tables
from .targets import CEILINGS, EAGER, HF, MODELS, OPERATORS, REPLAYED, row_name

OPERATOR_LENGTHS = {"c&p": (4096, 65536), "enwik8": (4096, 16384)}
MODEL_LENGTHS = {
    "c&p fp16": (1, 64, 1024, 4096, 65536),
    "c&p fp32": (4096, 65536),
    "enwik8 cut fp16": (4096, 16384),
}
LONGER = {"c&p fp16": (524288,), "enwik8 fp16": (16384, 65536)}
"""Lengths for torch only, of models that take long to make or to export."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
HF_LENGTH = 4096
"""The longest sequence that Transformers is timed with; in half types it fails on a GPU."""

_REHEARSED = 256
"""The most tokens in a rehearsal, which has no GPU, so that its times have no meaning."""


def cases() -> list[str]:
    """The cases, in four groups. Two processes, one after the other, run them."""
    return [
        *(f"operators: {what}" for what in ("fp16 product", "fp32 product", "copy")),
        *(
            f"operators: {layer} {dtype}, {length} tokens"
            for layer, lengths in OPERATOR_LENGTHS.items()
            for dtype in DTYPES
            for length in lengths
        ),
        *(
            f"models: {model}, {length} tokens"
            for chosen in (MODEL_LENGTHS, LONGER)
            for model, lengths in chosen.items()
            for length in lengths
        ),
        *(
            f"attention: {size}, {length} tokens"
            for size in speed_attention.SIZES
            for length in speed_attention.LENGTHS
        ),
        *(f"training: {model}, {length} tokens" for model, length in speed_training.STEPS.items()),
    ]


def run(names: Sequence[str], record: Record, place: Place) -> None:
    """Measure each."""
    torch.set_grad_enabled(False)
    torch.backends.cuda.matmul.allow_tf32 = False
    for case in names:
        kind, _, what = case.partition(": ")
        with record.case(case), _memory_may_not_suffice():
            if ", " not in what:
                _ceiling(what, record, place)
                continue
            subject, _, rest = what.partition(", ")
            name, _, dtype = subject.rpartition(" ")
            length = int(rest.split()[0])
            if place.rehearsal:
                length = min(length, _REHEARSED)
            if kind == "operators":
                _operators(name, dtype, length, record, place)
            elif kind == "attention":
                speed_attention.measure(subject, length, record, place)
            elif kind == "training":
                speed_training.measure(name, dtype, length, record, place)
            else:
                _model(name, dtype, length, record, place)


def conclude(tables: Tables) -> list[str]:
    """The lengths from which on LSH attention is faster."""
    return list(speed_attention.crossovers(tables.get(speed_attention.TABLE, {})))


@contextlib.contextmanager
def _memory_may_not_suffice() -> Iterator[None]:
    """Skips a length if the GPU's memory is too small, which is not a failure of our code."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise Skip("the GPU's memory does not suffice") from error


def _ceiling(what: str, record: Record, place: Place) -> None:
    """The rate of a plain product or copy."""
    size = 256 if place.rehearsal else 8192
    if what == "copy":
        source = torch.empty(size * size * 8, dtype=torch.float32, device=place.device)
        target = torch.empty_like(source)
        ms = timing.on_gpu(lambda: target.copy_(source), place.device)
        bytes_moved = 2 * source.numel() * source.element_size()
        record.cell(CEILINGS, "copy on the device", **{"TB/s": bytes_moved / ms / 1e9})
        return
    dtype = DTYPES[what.split()[0]]
    a, b = (torch.randn(size, size, device=place.device).to(dtype) for _ in range(2))
    ms = timing.on_gpu(lambda: a @ b, place.device)
    record.cell(CEILINGS, f"{what} of {size} x {size}", **{"TFLOP/s": 2 * size**3 / ms / 1e9})


def _operators(name: str, dtype: str, length: int, record: Record, place: Place) -> None:
    """Times each operator when called from Python, and the time of the GPU alone."""
    layer = LAYERS[name]
    operands = random_operands(layer, length, DTYPES[dtype], place.device)
    buckets = operands.buckets()
    flops = {
        "hash": layer.lsh_flops(length) - layer.attention_flops(length),
        "sort": None,
        "attention with its sort": layer.attention_flops(length),
        "local": layer.attention_flops(length) // layer.rounds,
    }
    works: dict[str, Callable[[], Any]] = {
        "hash": operands.buckets,
        "sort": _sort(buckets, math.prod(operands.factors), place),
        "attention with its sort": lambda: operands.attention(buckets),
        "local": operands.local,
    }
    row = f"{name} {dtype}, {length:,} tokens"
    for what, work in works.items():
        ms = timing.on_gpu(work, place.device)
        columns: dict[str, Any] = {what: ms}
        alone = ms
        if not place.rehearsal:
            alone = columns[f"{what}, replayed"] = timing.on_gpu(
                timing.replayed(work), place.device
            )
        count = flops[what]
        if count is not None:
            columns[f"{what}, TFLOP/s"] = count / alone / 1e9
        record.cell(OPERATORS, row, **columns)


def _sort(buckets: torch.Tensor, num_buckets: int, place: Place) -> Callable[[], Any]:
    if place.rehearsal:  # Triton sorts only on a GPU
        return lambda: buckets.sort(dim=-1, stable=True)
    from reformer_ops.sorted_chunk_attention.triton_op import sort_by_bucket

    return lambda: sort_by_bucket(buckets, num_buckets=num_buckets)


def _model(name: str, dtype: str, length: int, record: Record, place: Place) -> None:
    """Times a model called from Python, replayed as a CUDA graph, and in Transformers."""
    loaded = fixtures.on(place.device, fixtures.loaded(name, dtype, place))
    signature = fixtures.signature(loaded, dtype)
    ids, mask = (each.to(place.device) for each in tensors(example(signature, length, 1).inputs))
    row = row_name(f"{name} {dtype}", length)

    def work() -> Any:
        return loaded.model(ids, mask)

    with torch.inference_mode():
        record.cell(MODELS, row, **{EAGER: timing.by_clock(work, place.device)})
        if not place.rehearsal:
            replay = timing.replayed(work)
            record.cell(MODELS, row, **{REPLAYED: timing.by_clock(replay, place.device)})
    if dtype == "fp32" and length <= HF_LENGTH:
        _transformers(name, row, (ids, mask), record, place)


def _transformers(
    name: str, row: str, inputs: tuple[torch.Tensor, torch.Tensor], record: Record, place: Place
) -> None:
    if reason := first_missing(["transformers"]):
        raise Skip(reason)
    import transformers

    folder = fixtures.checkpoint(name, place)
    model = transformers.ReformerModelWithLMHead.from_pretrained(folder).eval().to(place.device)

    def work() -> Any:
        return model(input_ids=inputs[0], attention_mask=inputs[1], use_cache=False)

    with torch.inference_mode():
        record.cell(MODELS, row, **{HF: timing.by_clock(work, place.device)})
