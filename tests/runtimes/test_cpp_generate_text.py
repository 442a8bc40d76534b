"""`reformer-run --generate` writes texts, from decoders that generate given bytes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import (
    DECODER,
    DECODER_FILES,
    DECODER_WEIGHTS,
    FormatRecord,
)

from ..tools.artifact_fixtures import edit_manifest, make_artifact
from .generating import (
    in_python,
    run,
    tokens_of,
    update_files,
    with_configs,
)
from .programs import (
    built,
    environment,
    in_cpp,
)


def speaker(folder: Path, tokens: Sequence[int], **changes: Any) -> Path:
    """An artifact that generates these bytes after a prompt of one token."""
    make_artifact(folder)
    table = np.full((len(tokens) + 1, 256), -1, np.float32)
    table[np.arange(len(tokens)), tokens] = changes.get("top", 9)
    rows = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1]), "one")]
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("batch", 1, 256))
    cache_type = changes.get("cache_type", TensorProto.FLOAT)
    capacity = changes.get("capacity", "capacity")

    def cache(name: str, tokens: object, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, ("batch", tokens, 2))

    ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ("batch", "sequence"))
    prompt = helper.make_graph(
        [
            helper.make_node("Sub", ["input_ids", "input_ids"], ["places"]),
            helper.make_node("Gather", ["table", "places"], ["logits"]),
            helper.make_node("Cast", ["input_ids"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Constant", [], ["last"], value_ints=[-1]),
            helper.make_node("Unsqueeze", ["numbers", "last"], ["column"]),
            helper.make_node(
                "Concat", ["column"] * changes.get("width", 2), ["present_key.0"], axis=2
            ),
        ],
        "prompt",
        [ids],
        [logits, cache("present_key.0", "sequence")],
        rows[:1],
    )
    lengths = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ("batch",))
        for name in ("past_length", "prompt_length")
    ]
    step = helper.make_graph(
        [
            helper.make_node("Unsqueeze", ["past_length", "one"], ["places"]),
            helper.make_node("Gather", ["table", "places"], ["logits"]),
            helper.make_node("Cast", ["past_key.0"], ["present_key.0"], to=cache_type),
        ],
        "step",
        [ids, *lengths, cache("past_key.0", capacity)],
        [logits, cache("present_key.0", capacity, cache_type)],
        rows,
    )
    for graph, name in zip((prompt, step), DECODER_FILES, strict=True):
        opset = [helper.make_opsetid("", 18)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder / name)
    (folder / DECODER_WEIGHTS).write_bytes(b"")
    record = FormatRecord((*DECODER_FILES, DECODER_WEIGHTS), "portable", {}, details={"ops": {}})
    formats = json.loads((folder / "manifest.json").read_text())["formats"]
    edit_manifest(folder, formats=formats | {DECODER: vars(record)})
    update_files(folder)
    return folder


SAID = (
    "Grüße, Родион 🙂!\n\tEnd",
    b"a\xffb\xc3(c\xe2\x82d\xf0\x9f\x99e\xed\xa0\x80f\xc0\x80g\xf5h\xf0\x80\x80\x80",
    b"cut \xf0\x9f\x99",
    b"\xe2\x82",
    "no \x1b[31m colour \x07 \x7f \x85 or \r bell",
)


@pytest.mark.parametrize("said", SAID, ids=repr)
def test_a_text(tmp_path: Path, said: str | bytes) -> None:
    data = said.encode() if isinstance(said, str) else said
    path = speaker(tmp_path / "artifact", list(data))
    arguments = (path, "--text", "x", "--generate", "--max-new-tokens", len(data))
    printed = in_cpp(*arguments, "--json").document
    text = data.decode("utf-8", "replace")
    assert (printed["text"], printed["encoding"]) == (text, "bytes")
    assert bytes(printed["tokens"][0]) == data
    np.testing.assert_array_equal(
        printed["tokens"], in_python(path, [[ord("x")]], max_new_tokens=len(data))
    )
    # Compare the bytes: control characters are escaped, so a model cannot control the terminal.
    done = subprocess.run(
        [str(built() / "reformer-run"), *map(str, arguments)],
        env=os.environ | environment(),
        capture_output=True,
        check=False,
    )
    shown = "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
    assert done.stdout.decode() == shown + "\n"


def test_no_part_of_a_character_is_written(tmp_path: Path) -> None:
    """Each write is one whole character, as soon as it is complete."""
    text = "Grüße, Родион 🙂! 東京"
    path = speaker(tmp_path / "artifact", list(text.encode()))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [str(built() / "reformer-run"), str(path), "--text", "x", "--generate"]
    with subprocess.Popen(
        [*command, "--max-new-tokens", str(len(text.encode()))],
        env=os.environ | environment(),
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        theirs.close()
        writes = []
        while write := ours.recv(4096):
            writes.append(write.decode())
    ours.close()
    assert process.returncode == 0
    assert writes == [*text, "\n"]


def test_tokens_that_are_no_bytes(decoder: Artifact, tmp_path: Path) -> None:
    """The document has their ids, but they are not part of the text."""
    path = with_configs(decoder.path, tmp_path / "copy", generation_config={})
    for seed in range(40):
        arguments = ("--temperature", 50, "--seed", seed, "--max-new-tokens", 60, "--stop", 999)
        printed = in_cpp(path, "--text", "x", "--generate", *arguments, "--json").document
        tokens = printed["tokens"][0]
        if min(tokens) < 2:
            break
    else:
        pytest.fail("no seed draws ids 0 and 1")
    data = bytes(token - 2 for token in tokens if token >= 2)
    assert printed["text"] == data.decode("utf-8", "replace")
    assert printed["encoding"] == "bytes + 2"


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({"cache_type": TensorProto.DOUBLE}, 1, "'past_key.0', which is not part of a cache"),
        ({"cache_type": TensorProto.BFLOAT16}, 1, "'past_key.0', which is not part of a cache"),
        ({"cache_type": TensorProto.UINT8}, 1, "'present_key.0' has an unknown type"),
        ({"capacity": "room"}, 1, "'past_key.0', which is not part of a cache"),
        ({"width": 3}, 1, "gave present_key.0 of shape [1, 1, 3], and the decoder needs [1, 1, 2]"),
    ],
)
def test_forged_decoders(tmp_path: Path, changes: dict[str, Any], code: int, said: str) -> None:
    path = speaker(tmp_path / "artifact", [7, 8, 9], **changes)
    ran = run(tmp_path, path, [[1]], "--max-new-tokens", 3)
    assert ran.code == code
    assert said in ran.error


@pytest.mark.parametrize("top", [np.nan, np.inf])
def test_scores_that_are_no_numbers(tmp_path: Path, top: float) -> None:
    path = speaker(tmp_path / "artifact", [7, 8, 9], top=top)
    assert tokens_of(tmp_path, path, [[1]], "--max-new-tokens", 3).tolist() == [[7, 8, 9]]
    ran = run(tmp_path, path, [[1]], "--top-k", 3)
    assert ran.code == 1
    assert f"cannot draw a token: the highest score is {top}" in ran.error
