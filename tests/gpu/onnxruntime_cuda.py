"""Exported models in ONNX Runtime's CUDA provider with our kernels, against our torch model."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from reformer_export import open_runner
from reformer_export.errors import ReformerError, UsageError
from reformer_export.runtimes import ProbingRunner
from reformer_export.verification.parity.compare import relative_error

from . import fixtures
from .comparing import Miss, example, expect_equal
from .record import Place, Record, Skip

LENGTHS = (1, 2, 63, 64, 65, 127, 500, 1000, 4096)
LONG = 65536
SMALL_LENGTHS = (1, 2, 3, 5, 6, 7, 12, 13, 24, 100, 120)
"""Up to the longest: of 128 positions, whole chunks of both 4 and 6 tokens fill 120."""
BATCHES = (1, 3)
GRAPH_LENGTHS = (1, 64, 65, 1000)
ON_CUDA = 4096
"""From this many tokens on, the reference model runs on CUDA too; in half types it always does."""

_LONGER = {"c&p fp32": (LONG,), "c&p fp16": (LONG,), "enwik8 cut fp16": (16384,)}
_GROUPS = {
    **{f"c&p {dtype}": LENGTHS for dtype in ("fp32", "fp16", "bf16")},
    **{f"enwik8 cut {dtype}": (1, 65, 500, 1000, 4096) for dtype in ("fp32", "fp16")},
    **{
        f"{name} {dtype}": SMALL_LENGTHS
        for name in fixtures.MODELS
        if name.startswith("small")
        for dtype in ("fp32", "fp16")
    },
}
_TIMES = 4
"""The number of times that each of two threads runs the model."""


def cases() -> list[str]:
    """For each artifact: numbers, then CUDA graphs, threads and other uses."""
    found = []
    for group, lengths in _GROUPS.items():
        for length in (*lengths, *_LONGER.get(group, ())):
            for batch in BATCHES if length < LONG else BATCHES[:1]:
                found.append(f"{group}: {length} tokens, batch {batch}")
        graphs = GRAPH_LENGTHS if not group.startswith("small") else SMALL_LENGTHS[::4]
        found += [f"{group}: graph, {length} tokens" for length in graphs]
        found.append(f"{group}: two sessions, two threads")
    found.append("c&p fp32: one session, two threads")
    found.append("c&p fp32: function bodies, 65 tokens")
    found.append("small fp32: kernels of sm80 as PTX, 13 tokens")
    found.append("small fp32: without kernels")
    return found


def run(names: Sequence[str], record: Record, place: Place) -> None:
    """Run each; a model that cannot be exported in bf16 is skipped, with the exporter's reason."""
    torch.set_grad_enabled(False)
    actions = {
        "graph": _graph,
        "two sessions": _two_sessions,
        "one session": _one_session,
        "function bodies": _bodies,
        "kernels of sm80 as PTX": _ptx,
        "without kernels": _without_kernels,
    }
    for case in names:
        group, _, what = case.partition(": ")
        name, _, dtype = group.rpartition(" ")
        with record.case(case) as figures:
            _skip_unless_exported(name, dtype, place)
            first, _, rest = what.partition(", ")
            if first in actions:
                actions[first](name, dtype, rest, figures, place)
            else:
                sizes = int(first.split()[0]), int(rest.split()[1])
                _numbers(name, dtype, sizes, figures, place)


def open_artifact(folder: Path, place: Place, *, graph: str = "auto", ops: str = "auto") -> Any:
    """A runner in onnxruntime, on CUDA; in a rehearsal on the CPU."""
    options: dict[str, Any] = {"runtime": "onnxruntime", "ops": ops}
    if not place.rehearsal:
        options |= {"device": "cuda", "cuda_graph": graph}
    return open_runner(folder, **options)


@cache
def _runner(name: str, dtype: str, graph: str, place: Place) -> Any:
    return open_artifact(fixtures.artifact(name, dtype, place), place, graph=graph)


@cache
def _reference(name: str, dtype: str, device: str, place: Place) -> ProbingRunner:
    model = fixtures.loaded(name, dtype, place)
    if dtype != "fp32":
        model = model.in_fp32()  # the same rounded weights
    return fixtures.runner(model, "fp32", device)


@cache
def _baseline(name: str, dtype: str, device: str, place: Place) -> ProbingRunner | None:
    """The torch model in a half type, whose error sets the bound; None for fp32."""
    if dtype == "fp32":
        return None
    model = fixtures.loaded(name, dtype, place)
    return fixtures.runner(model, dtype, device)


def _skip_unless_exported(name: str, dtype: str, place: Place) -> None:
    try:
        fixtures.artifact(name, dtype, place)
    except UsageError as error:
        if dtype != "bf16":
            raise
        raise Skip(str(error)) from error


def _numbers(
    name: str, dtype: str, sizes: tuple[int, int], figures: dict[str, Any], place: Place
) -> None:
    """Compares buckets, outputs at equal buckets, outputs end to end, and two equal runs."""
    length, batch = sizes
    runner = _runner(name, dtype, "off", place)
    # In half types the error of the baseline's own kernels sets the bound, so use those of the GPU.
    near = length < ON_CUDA and dtype == "fp32"
    device = "cpu" if near else place.device
    inputs = example(runner.signature, length, batch)
    references: list[ProbingRunner] = [_reference(name, dtype, device, place)]
    baseline = _baseline(name, dtype, device, place)
    expect_equal(runner, references, inputs, dtype, figures, baseline=baseline)


def _graph(name: str, dtype: str, rest: str, figures: dict[str, Any], place: Place) -> None:
    """A CUDA graph gives the same bytes as a run without one, every time and for other inputs."""
    length = int(rest.split()[0])
    plain, graphs = (_runner(name, dtype, graph, place) for graph in ("off", "auto"))
    inputs = example(plain.signature, length, 1).inputs
    wanted = plain.run(inputs)
    for _ in range(3):  # a plain run, a capture, a replay
        _same(graphs.run(inputs), wanted, "run with a graph")
    if place.rehearsal:
        return
    for kind, runner in (("with", graphs), ("without", plain)):
        prepared = runner.prepare(inputs)
        for _ in range(2):
            prepared.run()
            _same(prepared.fetch(), wanted, f"prepare {kind} a graph")
    other = {**inputs, "input_ids": (inputs["input_ids"] + 1) % plain.signature.vocab_size}
    _same(graphs.run(other), plain.run(other), "run with a graph on other tokens")


def _two_sessions(name: str, dtype: str, rest: str, figures: dict[str, Any], place: Place) -> None:
    folder = fixtures.artifact(name, dtype, place)
    _at_once([open_artifact(folder, place) for _ in range(2)])


def _one_session(name: str, dtype: str, rest: str, figures: dict[str, Any], place: Place) -> None:
    _at_once([open_artifact(fixtures.artifact(name, dtype, place), place)] * 2)


def _at_once(runners: Sequence[Any]) -> None:
    """Two parallel threads, with different lengths, get the outputs that each gets alone."""
    lengths = ((100, 7), (65, 13))
    examples = [
        [example(runner.signature, length, 1).inputs for length in own]
        for runner, own in zip(runners, lengths, strict=True)
    ]
    alone = [[r.run(i) for i in own] for r, own in zip(runners, examples, strict=True)]
    wrong: list[BaseException] = []

    def work(index: int) -> None:
        try:
            for _ in range(_TIMES):
                for inputs, wanted in zip(examples[index], alone[index], strict=True):
                    _same(runners[index].run(inputs), wanted, "run beside another thread")
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


def _bodies(name: str, dtype: str, rest: str, figures: dict[str, Any], place: Place) -> None:
    """Without our kernels, with the standard operators in the file."""
    runner = open_artifact(
        fixtures.artifact(name, dtype, place), place, graph="off", ops="portable"
    )
    inputs = example(runner.signature, int(rest.split()[0]), 3)
    expect_equal(runner, [_reference(name, dtype, "cpu", place)], inputs, dtype, figures)


def _ptx(name: str, dtype: str, rest: str, figures: dict[str, Any], place: Place) -> None:
    """Kernels for an older GPU, which the driver compiles for this one."""
    if place.capability <= 80 and not place.rehearsal:
        raise Skip(f"the GPU is sm_{place.capability}: sm80 is no older one")
    runner = open_artifact(fixtures.artifact(name, dtype, place, cuda=("sm80",)), place)
    inputs = example(runner.signature, int(rest.split()[0]), 3)
    expect_equal(runner, [_reference(name, dtype, "cpu", place)], inputs, dtype, figures)


def _without_kernels(
    name: str, dtype: str, rest: str, figures: dict[str, Any], place: Place
) -> None:
    """Opening must fail with an error that names the command that adds kernels."""
    if place.rehearsal:
        raise Skip("the CPU needs no kernels in an artifact")
    folder = fixtures.artifact(name, dtype, place, cuda=())
    try:
        open_artifact(folder, place)
    except ReformerError as error:
        if "reformer-export" not in str(error):
            raise Miss(f"the error names no command: {error}") from error
    else:
        raise Miss("an artifact without kernels opened on CUDA")


def _same(found: Mapping[str, Any], wanted: Mapping[str, Any], how: str) -> None:
    for name, array in wanted.items():
        if found[name].tobytes() != array.tobytes():
            error = relative_error(found, wanted)
            raise Miss(f"{how}: {name} has other bytes, {error:.1e} off")
