"""Compiles GPU kernels ahead of time, without a GPU: a folder of PTX and cubin with a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import MANIFEST, FileRecord, record_files
from reformer_export.artifact.signature import require_tokens
from reformer_export.artifact.staging import stage
from reformer_export.errors import UsageError
from reformer_export.host.optional import installed_versions, require
from reformer_export.source import DTYPES, artifact_config
from reformer_ops.core.spec import DOMAIN

if TYPE_CHECKING:
    from reformer_ops.triton.compile import Compiled
    from reformer_ops.triton.launch import Launch
    from reformer_ops.triton_kernels import Hashing, LayerShape

SCHEMA_VERSION = 1
KIND = "reformer-kernels"
SHARED_BYTES = 48 * 1024
"""The most shared memory of a launch, in bytes, that needs no attribute set in the driver."""


@dataclass(frozen=True)
class KernelSet:
    """A folder of kernels that was just written, and its manifest as a document."""

    path: Path
    manifest: Mapping[str, Any]

    @property
    def notes(self) -> list[str]:
        """Kernels that spill registers, or need more shared memory than `SHARED_BYTES`."""
        notes = []
        for kernel in self.manifest["kernels"]:
            name = f"{kernel['layer']} {kernel['name']} {kernel['dtype']} {kernel['target']}"
            if kernel["spill_bytes"]:
                notes.append(f"{name} spills {kernel['spill_bytes']} bytes of registers a thread")
            if kernel["shared_bytes"] > SHARED_BYTES:
                notes.append(f"{name} wants {kernel['shared_bytes']} bytes of shared memory")
        return notes

    def rows(self) -> list[tuple[str, str]]:
        """A summary, as labels and texts."""
        kernels = self.manifest["kernels"]
        targets = dict.fromkeys(kernel["target"] for kernel in kernels)
        names = dict.fromkeys(f"{kernel['layer']} {kernel['name']}" for kernel in kernels)
        return [
            ("kernels", str(self.path)),
            ("targets", ", ".join(targets)),
            ("types", ", ".join(dict.fromkeys(kernel["dtype"] for kernel in kernels))),
            ("layers", ", ".join(names)),
            ("registers", f"{max(kernel['registers'] for kernel in kernels)} a thread at most"),
            ("shared", f"{max(k['shared_bytes'] for k in kernels)} bytes a program at most"),
            ("run", "no: kernels were compiled, nothing was launched"),
        ]

    def to_json(self) -> dict[str, Any]:
        """The folder and its manifest."""
        return {"kernels": str(self.path), "manifest": dict(self.manifest)}


def layers_of(artifact: str | Path) -> tuple[dict[str, Any], str]:
    """Arguments of `build_kernels` for the model in an artifact: (layers, its dtype).

    Raises:
        ArtifactError: the folder is not a valid artifact.
    """
    opened = Artifact.open(artifact)
    require_tokens(opened.signature, "build-kernels")
    config = artifact_config(opened)
    if config.num_memory_vectors:
        raise UsageError(
            f"build-kernels is not for models with memory vectors, and this one has "
            f"{config.num_memory_vectors} (num_mem_kv): use to-onnx --cuda, whose kernels are for "
            "the nodes of its model.onnx"
        )
    require("triton", purpose="building kernels", package="reformer-export[triton]")
    from reformer_ops.triton_kernels import Hashing, LayerShape

    common: dict[str, Any] = {
        "head_dim": config.attention_head_size,
        "causal": config.is_decoder,
    }
    layers: dict[str, Any] = {}
    if "local" in config.attn_layers:
        layers["local"] = LayerShape(
            **common,
            heads=config.num_attention_heads,
            chunk_length=config.local_attn_chunk_length,
            num_chunks_before=config.local_num_chunks_before,
            num_chunks_after=config.local_num_chunks_after,
        )
    if "lsh" in config.attn_layers:
        layers["lsh"] = LayerShape(
            **common,
            heads=config.hashing_heads,
            chunk_length=config.lsh_attn_chunk_length,
            num_chunks_before=config.lsh_num_chunks_before,
            num_chunks_after=config.lsh_num_chunks_after,
        )
        layers["hashing"] = Hashing(config.num_hashes, config.num_buckets or ())
    return layers, opened.manifest.dtype


def layer_of(
    *, num_buckets: Sequence[int] | None = None, num_hashes: int = 1, **shape: Any
) -> dict[str, Any]:
    """Arguments of `build_kernels` for one layer: an LSH layer if `num_buckets` is given.

    `shape` holds the fields of `LayerShape`.
    """
    require("triton", purpose="building kernels", package="reformer-export[triton]")
    from reformer_ops.triton_kernels import Hashing, LayerShape

    if num_buckets is None:
        return {"local": LayerShape(**shape)}
    return {"lsh": LayerShape(**shape), "hashing": Hashing(num_hashes, tuple(num_buckets))}


def target(name: str) -> int:
    """The number of a target, 80 for "sm80" or "sm_80"; UsageError for any other form."""
    number = name.removeprefix("sm").removeprefix("_")
    if not name.startswith("sm") or not number.isdecimal():
        raise UsageError(f"{name!r} is no target: they look like sm80")
    return int(number)


def check_target(number: int, dtype: str | None = None) -> None:
    """UsageError if we do not compile for this GPU, or not in this type, such as "bfloat16"."""
    from reformer_ops.triton.compile import TARGETS

    if number not in TARGETS:
        known = ", ".join(f"sm{each}" for each in TARGETS)
        raise UsageError(f"unknown target sm{number}: choose one of {known}")
    if not _computes(number, dtype):
        raise UsageError(f"sm{number} does not compute in bf16: use fp16 there")


def _computes(number: int, dtype: str | None) -> bool:
    return dtype != "bfloat16" or number >= 80


def build_kernels(
    out: str | Path,
    *,
    local: LayerShape | None = None,
    lsh: LayerShape | None = None,
    hashing: Hashing | None = None,
    dtypes: Sequence[str] = ("fp32", "fp16"),
    targets: Sequence[int] | None = None,
    force: bool = False,
    progress: Callable[[str], None] | None = None,
) -> KernelSet:
    """Compile the kernels of a local layer, an LSH layer or both into the folder `out`.

    The same arguments give the same bytes on every machine.

    Args:
        out: the folder to create.
        local, lsh: the sizes that are compiled into the kernels of a local and of an LSH layer.
        hashing: the sizes that are compiled into the hashing kernels of the LSH layer.
        dtypes: any of "fp32", "fp16" and "bf16".
        targets: compute capabilities, such as 80 for sm_80. If None, every known target that
            supports the type.
        force: replace an existing folder of kernels.
        progress: receives progress messages.

    Raises:
        UsageError: a type or target is unknown, a target does not support a type, or there is
            nothing to build.
        MissingDependencyError: Triton is not installed.
        ReformerError: the operators are not defined for a shape, or a kernel does not compile.
    """
    require("triton", purpose="building kernels", package="reformer-export[triton]")
    from reformer_ops.triton.compile import TARGETS, compile_launch

    if local is None and (lsh is None or hashing is None):
        raise UsageError(
            "there is no kernel to build: give a local layer, or an LSH layer's hashing"
        )
    pairs = list(_pairs(dtypes, targets, TARGETS))
    kernels = []
    with stage(out, force=force) as folder:
        for dtype, target in pairs:
            for layer, name, launch in _launches(local, lsh, hashing, DTYPES[dtype], target):
                stem = f"{layer}.{name}.{dtype}.sm{target}"
                if progress is not None:
                    progress(f"compiling {stem}")
                compiled = compile_launch(launch, target)
                (folder / f"{stem}.ptx").write_text(compiled.ptx, encoding="utf-8")
                (folder / f"{stem}.cubin").write_bytes(compiled.cubin)
                kernels.append(
                    {
                        "layer": layer,
                        "name": name,
                        "dtype": dtype,
                        "target": f"sm{target}",
                        "ptx": f"{stem}.ptx",
                        "cubin": f"{stem}.cubin",
                        **_description(launch, compiled),
                    }
                )
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "kind": KIND,
            "domain": DOMAIN,
            "tools": installed_versions("reformer-export", "triton"),
            "kernels": kernels,
            "files": {n: _as_json(record) for n, record in record_files(folder).items()},
        }
        text = json.dumps(manifest, indent=2) + "\n"
        (folder / MANIFEST).write_text(text, encoding="utf-8")
    return KernelSet(Path(out), manifest)


def _pairs(
    dtypes: Sequence[str], targets: Sequence[int] | None, known: Sequence[int]
) -> Iterator[tuple[str, int]]:
    """Every type with every target; UsageError if one is unknown, or a target lacks a type."""
    for dtype in dtypes:
        if dtype not in DTYPES:
            raise UsageError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
        for target in known if targets is None else targets:
            if targets is None and not _computes(target, DTYPES[dtype]):
                continue
            check_target(target, DTYPES[dtype])
            yield dtype, target


def _launches(
    local: LayerShape | None,
    lsh: LayerShape | None,
    hashing: Hashing | None,
    dtype: str,
    target: int,
) -> Iterator[tuple[str, str, Launch]]:
    """(layer, name, launch) of every kernel to compile."""
    from reformer_ops.triton_kernels import local_layer, lsh_layer

    if local is not None:
        for name, launch in local_layer(local, dtype=dtype, target=target).items():
            yield "local", name, launch
    if lsh is not None and hashing is not None:
        for name, launch in lsh_layer(lsh, hashing, dtype=dtype, target=target).items():
            yield "lsh", name, launch


def _description(launch: Launch, compiled: Compiled) -> dict[str, Any]:
    """How a kernel is launched, and the resources it uses."""
    arguments = [{"name": a.name, "type": a.type, "use": "input"} for a in launch.inputs]
    arguments += [{"name": "length", "type": "i32", "use": "size"}]
    arguments += [{"name": a.name, "type": a.type, "use": "output"} for a in launch.outputs]
    arguments += [{"name": f"scratch_{i}", "type": "*u8", "use": "null"} for i in range(2)]
    return {
        "entry": compiled.entry,
        "arguments": arguments,
        "constants": {name: value for name, value in launch.constants.items() if value is not None},
        "grid": {
            "programs": str(launch.grid),
            "times": launch.grid.times,
            "multiplier": launch.grid.multiplier,
            "divisor": launch.grid.divisor,
        },
        "num_warps": compiled.num_warps,
        "threads": 32 * compiled.num_warps,
        "shared_bytes": compiled.shared_bytes,
        "registers": compiled.registers,
        "stack_bytes": compiled.stack_bytes,
        "spill_bytes": compiled.spill_bytes,
    }


def _as_json(record: FileRecord) -> dict[str, Any]:
    return {"sha256": record.sha256, "bytes": record.bytes}
