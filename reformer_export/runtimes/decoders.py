"""The table of decoders. To add a decoder, add a module and an entry here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import DECODER, TORCHSCRIPT
from reformer_export.errors import UsageError
from reformer_export.host.optional import installed
from reformer_export.runtimes.base import RunnerOptions
from reformer_export.runtimes.decoder import Decoder
from reformer_ops.core.native import CHOICES, Choice


@dataclass(frozen=True)
class DecoderRuntime:
    """A runtime that generates with one format of an artifact.

    Attributes:
        module: the import name of the required package.
        can_run: returns True if an artifact holds the required format.
        verb: the command that creates the format.
        open: returns the decoder of an artifact.
    """

    module: str
    can_run: Callable[[Artifact], bool]
    verb: str
    open: Callable[[Artifact, RunnerOptions], Decoder]


def _onnxruntime(artifact: Artifact, options: RunnerOptions) -> Decoder:
    from reformer_export.runtimes.onnx_decoder import OnnxDecoder

    return OnnxDecoder(artifact, options)


def _torchscript(artifact: Artifact, options: RunnerOptions) -> Decoder:
    from reformer_export.runtimes.torchscript_decoder import TorchScriptDecoder

    return TorchScriptDecoder(artifact, options)


def _has_onnx_graphs(artifact: Artifact) -> bool:
    return DECODER in artifact.formats


def _has_methods(artifact: Artifact) -> bool:
    formats = artifact.manifest.formats
    return TORCHSCRIPT in formats and "cache" in formats[TORCHSCRIPT].details


DECODERS: dict[str, DecoderRuntime] = {
    "onnxruntime": DecoderRuntime("onnxruntime", _has_onnx_graphs, "to-onnx", _onnxruntime),
    "torchscript": DecoderRuntime("torch", _has_methods, "to-torchscript", _torchscript),
}
"""Decoders by the name of the runtime, best first: "auto" chooses the first one that is installed
and can run the artifact."""


def can_generate(artifact: Artifact, runtime: str = "auto") -> bool:
    """True if the artifact has a format that a decoder of the runtime runs."""
    asked = DECODERS if runtime == "auto" else {runtime} & DECODERS.keys()
    return any(DECODERS[name].can_run(artifact) for name in asked)


def open_decoder(
    artifact: Artifact, *, runtime: str = "auto", threads: int | None = None, ops: Choice = "auto"
) -> Decoder:
    """Open an artifact's decoder; the arguments are those of `open_generator`.

    Raises:
        UsageError: there is no such runtime, or the artifact cannot generate in it.
        ReformerError: the decoder cannot be opened.
    """
    if runtime not in ("auto", *DECODERS):
        raise UsageError(
            f"{runtime!r} does not generate: choose auto or one of {', '.join(DECODERS)}"
        )
    if ops not in CHOICES:
        raise UsageError(f"unknown operators {ops!r}: choose one of {', '.join(CHOICES)}")
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}: at least one thread is needed")
    names = [
        name
        for name, entry in DECODERS.items()
        if runtime in ("auto", name) and entry.can_run(artifact)
    ]
    if not names:
        verb = DECODERS["onnxruntime" if runtime == "auto" else runtime].verb
        place = "" if runtime == "auto" else f" in {runtime}"
        raise UsageError(
            f"{artifact.path} cannot generate{place}: export it with reformer-export {verb} "
            "--task text-generation-with-past"
        )
    usable = [name for name in names if installed(DECODERS[name].module)]
    return DECODERS[(usable or names)[0]].open(artifact, RunnerOptions(threads, ops))
