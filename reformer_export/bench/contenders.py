"""The contenders of a benchmark; a child process runs one of them."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from reformer_export.artifact import Artifact
from reformer_export.errors import UsageError
from reformer_export.host.device import CPU, parse_device
from reformer_export.runtimes import Runner, open_runner
from reformer_ops.core.errors import NativeLibraryError
from reformer_ops.core.native import CHOICE_VARIABLE, Choice, requested

OURS, PORTABLE, HF, FULL, GEMM = "ours", "portable", "hf", "full", "gemm"

AGAINST = {
    PORTABLE: "the artifact with its operators run as standard ONNX operations",
    HF: "Hugging Face's model in eager mode",
    FULL: "the same model in torch, with softmax attention over the whole sequence",
}
"""Contenders that an artifact can be measured against."""


@dataclass(frozen=True)
class Request:
    """The contender that a child process runs, and its input.

    `runtime` runs the artifact. `device` is the device of all contenders. `memory` is the number of
    bytes that it may allocate; all that are available if None.
    """

    contender: str
    threads: int
    artifact: str = ""
    checkpoint: str | None = None
    length: int = 0
    memory: int | None = None
    runtime: str = "auto"
    device: str = CPU


@dataclass(frozen=True)
class Opened:
    """A contender that is ready to run. `work` runs it once and returns figures in addition to the
    time, by name."""

    description: str
    work: Callable[[], dict[str, float]]
    notes: tuple[str, ...] = ()
    native: bool = False


def open_contender(request: Request) -> Opened:
    """Load what the request names.

    Raises:
        ReformerError: it cannot run here; the message says why.
    """
    openers = {OURS: _ours, PORTABLE: _portable, HF: _hf, FULL: _full, GEMM: _gemm}
    return openers[request.contender](request)


def _ours(request: Request) -> Opened:
    artifact, choice = Artifact.open(request.artifact), requested()
    reason = f"{CHOICE_VARIABLE} is set to portable"
    if choice != "portable":
        try:
            runner = _open(artifact, request, "native")
            return _running(runner, request, native=True)
        except (NativeLibraryError, UsageError) as error:
            if choice == "native":
                raise
            reason = str(error)
    runner = _open(artifact, request, "portable")
    return _running(runner, request, (f"portable operators, not native ones: {reason}",))


def _portable(request: Request) -> Opened:
    return _running(_open(Artifact.open(request.artifact), request, "portable"), request)


def _open(artifact: Artifact, request: Request, ops: Choice) -> Runner:
    return open_runner(
        artifact,
        runtime=request.runtime,
        threads=request.threads,
        ops=ops,
        device=request.device,
    )


def _hf(request: Request) -> Opened:
    from reformer_export.runtimes.transformers import TransformersRunner
    from reformer_export.source import load_original

    _use_threads(request.threads)
    artifact = Artifact.open(request.artifact)
    loaded = load_original(artifact.manifest, request.checkpoint, option="--checkpoint")
    runner = TransformersRunner(loaded, artifact.signature, parse_device(request.device))
    del loaded  # transformers has a separate copy of the weights
    gc.collect()
    return _running(runner, request)


def _full(request: Request) -> Opened:
    from reformer_export.bench.full_attention import attend_fully
    from reformer_export.runtimes.torch import TorchRunner
    from reformer_export.source import load_original

    _use_threads(request.threads)
    artifact = Artifact.open(request.artifact)
    loaded = load_original(artifact.manifest, request.checkpoint, option="--checkpoint")
    attend_fully(loaded.model)
    device = parse_device(request.device)
    return _running(TorchRunner(loaded, artifact.signature, device=device), request)


def _gemm(request: Request) -> Opened:
    from reformer_export.bench.gemm import Gemm

    _use_threads(request.threads)
    gemm = Gemm()
    return Opened("torch.mm, fp32", lambda: vars(gemm.measure()))


def _running(
    runner: Runner, request: Request, notes: tuple[str, ...] = (), *, native: bool = False
) -> Opened:
    signature = runner.signature
    if not signature.min_length <= request.length <= signature.max_length:
        raise UsageError(
            f"--lengths {request.length}: this model takes {signature.min_length} to "
            f"{signature.max_length} tokens"
        )
    random = np.random.default_rng(request.length)
    inputs = signature.check(signature.random_inputs(random, 1, request.length))

    def work() -> dict[str, float]:
        runner.run(inputs)
        return {}

    return Opened(runner.description, work, notes, native)


def _use_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
