"""Compiled kernels for TensorRT plugins: made on any machine, kept in a folder, read for a build.

The folder has one PTX file a kernel and `plugins.json`, which says how each is launched. Reading it
needs neither Triton nor a GPU.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reformer_export.errors import ArtifactError, ExportError
from reformer_export.exporters.tensorrt_plugins import KernelRequest
from reformer_export.optional import require
from reformer_export.staging import stage

PLUGINS_FILE = "plugins.json"
SCHEMA = 1


@dataclass(frozen=True)
class PluginKernel:
    """A kernel as a plugin launches it.

    Its arguments are the plugin's inputs, `length` as a 32-bit integer, and the plugin's outputs.
    There are `times * batch * ceil(length * multiplier / divisor)` programs on one axis.
    """

    name: str
    plugin: str
    entry: str
    ptx: str
    target: int
    threads: int
    shared_bytes: int
    times: int
    multiplier: int
    divisor: int
    dtype: str
    sizes: Mapping[str, int]
    """Axes of the plugin's inputs that are compiled in."""


def compile_kernels(requests: Iterable[KernelRequest], *, target: int) -> dict[str, PluginKernel]:
    """Compile what `use_plugins` asked for, for one GPU; needs Triton, and no GPU.

    Raises:
        ReformerError: a kernel does not compile for the target.
    """
    require("triton", purpose="compiling kernels for TensorRT plugins")
    from reformer_ops.triton_compile import compile_launch

    kernels = {}
    for request in requests:
        compiled = compile_launch(request.launch, target)
        grid = request.launch.grid
        arguments = len(request.plugin.inputs) + 1 + len(request.plugin.outputs)
        kernels[request.name] = PluginKernel(
            name=request.name,
            plugin=request.plugin.name,
            entry=compiled.entry,
            ptx=without_scratch(compiled.ptx, arguments),
            target=target,
            threads=32 * compiled.num_warps,
            shared_bytes=compiled.shared_bytes,
            times=grid.times,
            multiplier=grid.multiplier,
            divisor=grid.divisor,
            dtype=request.dtype,
            sizes=dict(request.sizes),
        )
    return kernels


def without_scratch(ptx: str, arguments: int) -> str:
    """The kernel with its first `arguments` parameters only.

    Triton adds two pointers to scratch memory. TensorRT would not pass them, and a driver that
    looked for them would read beyond the arguments.

    Raises:
        ExportError: the kernel has fewer parameters, or uses one of those to be dropped.
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


def save_kernels(
    kernels: Mapping[str, PluginKernel], folder: str | Path, *, force: bool = False
) -> None:
    """Write all into a new folder, or nothing.

    Raises:
        UsageError: the folder exists and is not to be replaced.
    """
    with stage(folder, force=force) as staged:
        records = []
        for kernel in kernels.values():
            record = asdict(kernel)
            ptx = record.pop("ptx")
            path = staged / f"{kernel.name}.ptx"
            path.write_text(ptx, encoding="utf-8")
            records.append(record | {"sha256": hashlib.sha256(ptx.encode()).hexdigest()})
        text = json.dumps({"schema": SCHEMA, "kernels": records}, indent=2)
        (staged / PLUGINS_FILE).write_text(f"{text}\n", encoding="utf-8")


def load_kernels(folder: str | Path) -> dict[str, PluginKernel]:
    """Read what `save_kernels` wrote.

    Raises:
        ArtifactError: a file is missing, unreadable, of another schema, or not what it was.
    """
    path = Path(folder) / PLUGINS_FILE
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA:
            raise ArtifactError(
                f"{path} has schema {content['schema']}; known is {SCHEMA}: use the version of "
                "reformer-export that wrote it"
            )
        kernels = {}
        for record in content["kernels"]:
            digest = record.pop("sha256")
            name = record["name"]
            if not re.fullmatch(r"\w+", name):
                raise ArtifactError(f"{path} names a kernel {name!r}, which is no name of ours")
            ptx = (path.parent / f"{name}.ptx").read_bytes()
            if hashlib.sha256(ptx).hexdigest() != digest:
                raise ArtifactError(f"{name}.ptx in {folder} is not what {path.name} says it is")
            kernels[name] = PluginKernel(ptx=ptx.decode(), **record)
    except OSError as error:
        raise ArtifactError(f"cannot read kernels in {folder}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} is damaged ({error}): compile the kernels anew") from error
    return kernels
