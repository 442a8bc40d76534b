"""Reads the kernels that TensorRT plugins launch from a folder of `build-kernels`.

Reading needs neither Triton nor a GPU.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reformer_export.artifact.manifest import MANIFEST
from reformer_export.errors import ArtifactError, ExportError, UsageError
from reformer_export.exporters.cuda.kernel_folder import KIND, SCHEMA_VERSION
from reformer_export.source import DTYPES
from reformer_ops.core.tensorrt import Plugin
from reformer_ops.tensorrt_forms import plugin_of

_TILES = re.compile(r"BLOCK_\w+|WIDE|\w*TILE|SEGMENT")
"""Constants that have no influence on what a kernel computes."""


@dataclass(frozen=True)
class PluginKernel:
    """A kernel for one GPU and type.

    Its arguments are the plugin's inputs, `length` as a 32-bit integer, and the plugin's outputs.
    There are `times * batch * ceil(length * multiplier / divisor)` programs on one axis.
    """

    name: str
    number: int
    """A unique number of 31 bits; it depends on what the kernel computes, but not on the GPU."""
    plugin: Plugin
    step: str
    """Its name among the launches of a layer: "sort_pass_0"."""
    entry: str
    ptx: str
    target: int
    threads: int
    shared_bytes: int
    times: int
    multiplier: int
    divisor: int
    dtype: str
    constants: Mapping[str, Any]
    """The constants that are compiled in, by the kernel's names of them."""

    @property
    def sizes(self) -> dict[str, int]:
        """The compiled-in sizes, by the axes of the plugin's inputs."""
        names = {"HEADS": "heads", "HEAD_DIM": "head_dim", "NUM_HASHES": "num_hashes"}
        names |= {"COLUMNS": "half_factors"}
        return {axis: self.constants[n] for n, axis in names.items() if n in self.constants}


def load_kernels(folder: str | Path, *, target: int) -> dict[str, PluginKernel]:
    """The kernels in a folder that are for one GPU (80 for sm_80), by name.

    Raises:
        ArtifactError: a file is missing, unreadable, of another schema, or changed.
        UsageError: there are no kernels for the GPU.
        ExportError: a kernel needs a parameter that a plugin does not pass.
    """
    path = Path(folder) / MANIFEST
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["kind"] != KIND:
            raise ArtifactError(f"{folder} is a {content['kind']}, and no folder of kernels")
        if content["schema_version"] != SCHEMA_VERSION:
            raise ArtifactError(
                f"{path} has schema {content['schema_version']}; known is {SCHEMA_VERSION}: "
                "use the version of reformer-export that wrote it"
            )
        targets = dict.fromkeys(record["target"] for record in content["kernels"])
        kernels = [
            _kernel(record, _ptx(path.parent, record["ptx"], content["files"]), target)
            for record in content["kernels"]
            if record["target"] == f"sm{target}"
        ]
    except OSError as error:
        raise ArtifactError(f"cannot read kernels in {folder}: {error.strerror}") from error
    except (KeyError, TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} is damaged ({error}): build the kernels anew") from error
    if not kernels:
        raise UsageError(
            f"{folder} has no kernels for sm{target}, but for {', '.join(targets)}: "
            f"build them with --target sm{target}"
        )
    if len({kernel.number for kernel in kernels}) < len(kernels):
        raise ArtifactError(f"{folder} has two kernels that compute the same: build them anew")
    return {kernel.name: kernel for kernel in kernels}


def _ptx(folder: Path, name: str, files: Mapping[str, Any]) -> str:
    if not re.fullmatch(r"[\w.]+\.ptx", name):
        raise ArtifactError(f"{name!r} is no name that build-kernels gives a file")
    content = (folder / name).read_bytes()
    if hashlib.sha256(content).hexdigest() != files[name]["sha256"]:
        raise ArtifactError(
            f"{folder / name} is not what the manifest says: build the kernels anew"
        )
    return content.decode()


def _kernel(record: Mapping[str, Any], ptx: str, target: int) -> PluginKernel:
    step = record["name"]
    arguments = [each for each in record["arguments"] if each["use"] != "null"]
    constants = record["constants"]
    meaning = {name: value for name, value in constants.items() if not _TILES.fullmatch(name)}
    meaning["ROWS"] = record["grid"]["times"]
    digest = hashlib.sha256(json.dumps([meaning, step, record["dtype"]], sort_keys=True).encode())
    return PluginKernel(
        name=f"{record['layer']}.{step}.{record['dtype']}",
        number=int(digest.hexdigest()[:8], 16) >> 1,
        plugin=plugin_of(step, tuple(each["name"] for each in arguments)),
        step=step,
        entry=record["entry"],
        ptx=without_scratch(ptx, len(arguments)),
        target=target,
        threads=record["threads"],
        shared_bytes=record["shared_bytes"],
        times=record["grid"]["times"],
        multiplier=record["grid"]["multiplier"],
        divisor=record["grid"]["divisor"],
        dtype=DTYPES[record["dtype"]],
        constants=constants,
    )


def without_scratch(ptx: str, arguments: int) -> str:
    """The kernel with its first `arguments` parameters only.

    Triton adds two pointers to scratch memory. TensorRT does not pass them, so the driver would
    read past the end of the arguments.

    Raises:
        ExportError: the kernel has fewer parameters, or uses a parameter that is to be removed.
    """
    entry = re.search(r"(\.entry\s+\w+\()(.*?)(\n?\))", ptx, re.DOTALL)
    parameters = [] if entry is None else [each.strip() for each in entry[2].split(",")]
    if entry is None or len(parameters) < arguments:
        raise ExportError(
            f"a kernel with {arguments} parameters was wanted; the PTX has {len(parameters)}"
        )
    body = ptx[entry.end() :]
    for parameter in parameters[arguments:]:
        name = parameter.split()[-1]
        if re.search(rf"\b{re.escape(name)}\b", body):
            raise ExportError(
                f"the kernel uses {name}, which is scratch memory that a plugin does not have"
            )
    kept = ",".join(f"\n\t{parameter}" for parameter in parameters[:arguments])
    return f"{ptx[: entry.start()]}{entry[1]}{kept}\n){body}"
