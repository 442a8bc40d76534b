"""`to_web`: a folder with a page that runs an artifact's model in the browser."""

from __future__ import annotations

import dataclasses
import shutil
from importlib import resources
from pathlib import Path
from typing import Any

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import (
    ONNX,
    WEB,
    FormatRecord,
    Manifest,
    record_files,
    utc_now,
    write_manifest,
)
from reformer_export.artifact.signature import require_tokens
from reformer_export.artifact.staging import stage
from reformer_export.errors import ParityError, UsageError
from reformer_export.exporters.base import Progress
from reformer_export.exporters.checkpoint_files import CHECKPOINT_FILES
from reformer_export.exporters.web.onnxruntime_web import (
    FILES,
    NAME,
    VERSION,
    copy_files,
    find_package,
)
from reformer_export.exporters.web.text import PageText
from reformer_export.generation.generator import special_ids
from reformer_export.host.optional import require
from reformer_export.source import load_original

TASKS = ("text-generation", "fill-mask")
"""Tasks that the page can show: it shows predicted tokens."""

_PAGE = (
    "index.html",
    "style.css",
    "page.js",
    "text.js",
    "tokenizer.js",
    "worker.js",
    "model.js",
)
_LARGEST = 2**31 - 1  # bytes of weights; browsers do not give one array more


def to_web(
    artifact: str | Path,
    out: str | Path,
    *,
    webgpu: bool = False,
    onnxruntime_web: str | Path | None = None,
    verify: bool = True,
    against: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> Artifact:
    """Make a page that runs a language model in the browser, with ONNX Runtime Web.

    The folder is a static web site: it needs a web server, but no program on it and no other
    site. It is also an artifact, with the model in standard operators: `verify`, `run` and
    `generate` work on it.

    Args:
        artifact: the folder of an ONNX artifact of a language model. With the task
            "text-generation-with-past", the page can also continue a text.
        out: the folder to create.
        webgpu: add the build of ONNX Runtime for GPUs.
        onnxruntime_web: the .tgz of the npm package onnxruntime-web, of the version that is pinned
            here. If None, npm downloads it, and it is kept in the user's cache folder.
        verify: run the graphs in onnxruntime and compare them with the checkpoint.
        against: the new location of that checkpoint, if it was moved.
        force: replace an existing page.
        progress: receives progress messages, one sentence at a time.

    Returns:
        The folder, opened as an artifact; with `verify`, its manifest holds the parity record.

    Raises:
        UsageError: no page can show this model; raised before the work begins.
        MissingDependencyError: a package that reads the artifact's tokenizer is not installed.
        ParityError: the outputs differ too much from the model's. `out` does not change.
        ReformerError: any other failure. `out` does not change.
    """
    say = progress or (lambda message: None)
    say("checking the artifact")
    opened = Artifact.open(artifact)
    require_tokens(opened.signature, "to-web")
    _check_model(opened)
    text = PageText.of(opened)
    package = find_package(None if onnxruntime_web is None else Path(onnxruntime_web))
    if verify:
        require("onnxruntime", purpose="verifying the page's graphs (--no-verify leaves that out)")
    with stage(out, force=force) as folder:
        say("writing the graphs")
        manifest = _write(
            opened, text, folder, package, ("wasm", "webgpu") if webgpu else ("wasm",)
        )
        if verify:
            manifest = _verified(opened, manifest, folder, against, progress)
        write_manifest(folder, manifest)
    return Artifact.open(out)


def _check_model(artifact: Artifact) -> None:
    """Raise UsageError if no page can show this model."""
    manifest = artifact.manifest
    if ONNX not in artifact.formats:
        raise UsageError(
            f"{artifact.path} holds no {ONNX}, but {' and '.join(artifact.formats)}: "
            "add it with reformer-export to-onnx"
        )
    if manifest.task not in TASKS:
        raise UsageError(
            f"{artifact.path} is for {manifest.task}, and a page shows predicted tokens: "
            f"export a language model, for {' or '.join(TASKS)}"
        )
    if manifest.dtype == "bf16":
        raise UsageError("ONNX Runtime Web does not run bf16: export fp32 or fp16")
    if WEB in artifact.formats:
        raise UsageError(f"{artifact.path} is a page already: give the artifact it was made from")


def _write(
    artifact: Artifact, text: PageText, folder: Path, package: Path, engines: tuple[str, ...]
) -> Manifest:
    """Write everything except manifest.json; returns the manifest."""
    from reformer_export.exporters.web.graphs import WEIGHTS, write_portable_graphs

    formats = write_portable_graphs(artifact, folder)
    size = (folder / WEIGHTS).stat().st_size
    if size > _LARGEST:
        raise UsageError(
            f"the weights have {size / 1e9:.1f} GB, and a browser takes at most "
            f"{_LARGEST / 1e9:.1f}: export fp16, or weights of 8 bits"
        )
    copy_files(package, engines, folder)
    pages = resources.files(__package__) / "page"
    for name in _PAGE:
        (folder / name).write_bytes((pages / name).read_bytes())
    for name in CHECKPOINT_FILES:
        if (path := artifact.file(name)) is not None:
            shutil.copyfile(path, folder / name)
    source = artifact.manifest.source
    if source.revision is None:  # a folder of this machine, and the page is for other people
        source = dataclasses.replace(source, name=Path(source.name).name)
    text.write(folder)
    engine_files = (name for engine in engines for name in FILES[engine])
    formats[WEB] = FormatRecord(
        files=(*_PAGE, *text.files, *engine_files),
        ops="portable",
        tools={NAME: VERSION},
        details=_details(artifact, source.name, engines) | text.details,
    )
    return dataclasses.replace(
        artifact.manifest,
        source=source,
        formats=formats,
        files=record_files(folder),
        created=utc_now(),
    )


def _details(artifact: Artifact, title: str, engines: tuple[str, ...]) -> dict[str, Any]:
    """What the page's scripts read besides the rest of the manifest."""
    stop, _ = special_ids(artifact)
    return {
        "title": title,
        "stop": sorted(stop),
        "engines": list(engines),
    }


def _verified(
    artifact: Artifact,
    manifest: Manifest,
    folder: Path,
    against: str | Path | None,
    progress: Progress | None,
) -> Manifest:
    """Verify the graphs; returns the manifest with the parity record. ParityError if it fails."""
    from reformer_export.verification.parity import verify_against

    write_manifest(folder, manifest)
    report = verify_against(
        Artifact.open(folder),
        load_original(artifact.manifest, against),
        runtime="onnxruntime",
        ops="portable",
        progress=progress,
    )
    if not report.passed:
        raise ParityError(
            f"the graphs for the page do not give the model's numbers: {report.first_miss}; "
            "no page was written",
            report.to_json(),
        )
    record = dataclasses.replace(manifest.formats[ONNX], parity=report.to_json())
    return dataclasses.replace(manifest, formats={**manifest.formats, ONNX: record})
