"""A small artifact made by hand: a real ONNX model that runtimes can run, and its manifest."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from reformer_export.artifact.manifest import (
    FileRecord,
    FormatRecord,
    HashingRecord,
    Manifest,
    OpsRecord,
    RotationRecord,
    SourceRecord,
    read_raw_manifest,
    record_files,
    write_manifest,
)
from reformer_export.artifact.signature import TensorSpec, TokenSignature

AXES = ("batch", "sequence")


def signature(vocab_size: int = 256, max_length: int = 64) -> TokenSignature:
    logits = TensorSpec("logits", "float32", (*AXES, vocab_size))
    return TokenSignature.of(vocab_size=vocab_size, outputs=(logits,), max_length=max_length)


def model(vocab_size: int = 256) -> onnx.ModelProto:
    """Predicts each input id plus 1; the logits of a masked token are zero.

    One node is in our domain and has its body as an ONNX function, as in a real artifact.
    """
    table = np.roll(np.eye(vocab_size, dtype=np.float32), 1, axis=1)
    body = helper.make_function(
        "reformer",
        "Hide",
        ["rows", "keep"],
        ["hidden"],
        [
            helper.make_node("Constant", [], ["axis"], value_ints=[-1]),
            helper.make_node("Unsqueeze", ["keep", "axis"], ["column"]),
            helper.make_node("Cast", ["column"], ["weight"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["rows", "weight"], ["hidden"]),
        ],
        [helper.make_opsetid("", 18)],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
            helper.make_node("Hide", ["rows", "attention_mask"], ["logits"], domain="reformer"),
        ],
        "next_token",
        [helper.make_tensor_value_info(n, TensorProto.INT64, AXES) for n in _INPUTS],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (*AXES, vocab_size))],
        [numpy_helper.from_array(table, "table")],
    )
    made: onnx.ModelProto = helper.make_model(
        graph,
        functions=[body],
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("reformer", 1)],
        ir_version=10,
    )
    return made


_INPUTS = ("input_ids", "attention_mask")


def manifest(files: Mapping[str, FileRecord], vocab_size: int = 256) -> Manifest:
    return Manifest(
        task="text-generation",
        architecture="ReformerModelWithLMHead",
        dtype="fp32",
        ops=OpsRecord("reformer", {"Hide": 1}),
        signature=signature(vocab_size),
        hashing=HashingRecord((4, 8), 2, 7, ("a note",), (RotationRecord(0, (2, 8, 2, 6), "ab"),)),
        source=SourceRecord("some/model", None, {"config.json": FileRecord("cd", 2)}),
        files=files,
        formats={"onnx": onnx_record(files)},
        created="2025-01-02T03:04:05+00:00",
    )


def onnx_record(files: Iterable[str]) -> FormatRecord:
    return FormatRecord(
        files=tuple(name for name in ("model.onnx", "model.onnx_data") if name in files),
        ops="auto",
        tools={"onnx": onnx.__version__},
        details={"opset": 18},
    )


def make_artifact(
    folder: Path,
    *,
    vocab_size: int = 256,
    files: Mapping[str, bytes] | None = None,
    external: bool = False,
) -> Path:
    """Write an artifact into a new `folder`: the model, more `files`, and the manifest."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}\n")
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content)
    options = {"save_as_external_data": True, "location": "model.onnx_data", "size_threshold": 0}
    onnx.save(model(vocab_size), folder / "model.onnx", **(options if external else {}))
    write_manifest(folder, manifest(record_files(folder), vocab_size))
    return folder


def edit_manifest(folder: Path, **changes: object) -> None:
    """Replace top-level fields of a manifest by the given values."""
    path = folder / "manifest.json"
    raw = read_raw_manifest(path)
    path.write_text(json.dumps({**raw, **changes}))  # type: ignore[dict-item]


def older_document(made: Manifest, version: int) -> dict[str, Any]:
    """manifest.json as releases of schema 1 and 2 wrote it: ONNX's record was at the top level."""
    document = made.to_json()
    formats = document["formats"]
    onnx_record = formats.pop("onnx", None)
    mode, opset, tools, parity = None, None, {}, None
    if onnx_record is not None:
        mode, opset = onnx_record["ops"], onnx_record["details"]["opset"]
        tools, parity = onnx_record["tools"], onnx_record["parity"]
    for record in formats.values():
        (record["file"],) = record.pop("files")
        assert record.pop("details") == {}
    return document | {
        "schema_version": version,
        "opset": opset,
        "ops": {"mode": mode, **document["ops"]},
        "tools": tools,
        "parity": parity,
    }


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file under a folder, with its contents."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def environment() -> dict[str, str]:
    """Environment variables with which a child process has the import path of this one."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
