"""`reformer-export generate`: takes text or token ids, and writes text or token ids."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reformer_export import open_generator
from reformer_export.artifact import Artifact
from reformer_export.cli.main import main

from ..tools.model_fixtures import TINY, Fixtures
from .invocation import child, document, error_line

TEXT = "Grüße aus Petersburg"
LONGEST = 120


@pytest.fixture
def artifact(fixtures: Fixtures) -> Artifact:
    """A byte-level model with 258 ids; the first two ids are not bytes."""
    return fixtures.decoder(TINY)


def wanted(artifact: Artifact, count: int, text: str = TEXT) -> list[int]:
    ids = np.frombuffer(text.encode(), np.uint8).astype(np.int64) + 2
    found: list[int] = open_generator(artifact).generate(ids, max_new_tokens=count)[0].tolist()
    return found


def as_text(tokens: list[int]) -> str:
    return bytes(token - 2 for token in tokens if token >= 2).decode("utf-8", "replace")


def test_a_prompt_is_continued(artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", str(artifact.path), "--prompt", TEXT, "--max-new-tokens", "12"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    text = as_text(wanted(artifact, 12))
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    assert captured.out == shown + "\n"
    assert "first token after" in captured.err
    assert "ms a token (12 tokens)" in captured.err


def test_json(artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "generate", artifact.path, "--prompt", TEXT, "--max-new-tokens", 7)
    assert found["tokens"] == [wanted(artifact, 7)]
    assert found["text"] == as_text(found["tokens"][0])
    assert found["encoding"] == "bytes + 2"
    assert found["prompt_length"] == len(TEXT.encode())
    assert found["first_token_s"] > 0
    assert found["ms_per_token"] > 0


def test_ids_of_a_batch(
    artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = np.random.default_rng(0).integers(258, size=(3, 20))
    np.save(tmp_path / "ids.npy", ids)
    out = tmp_path / "new.npy"
    arguments = ["--input-ids", tmp_path / "ids.npy", "--max-new-tokens", 5, "--output", out]
    assert main(["generate", str(artifact.path), *map(str, arguments)]) == 0
    rows = [list(map(int, line.split())) for line in capsys.readouterr().out.splitlines()]
    right = open_generator(artifact).generate(ids, max_new_tokens=5)
    assert rows == right.tolist()
    saved = np.load(out)
    assert saved.dtype == np.int64
    assert saved.tolist() == rows


def test_a_file_and_sampling(
    artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "prompt.txt").write_text(TEXT)
    common = ["generate", artifact.path, "--prompt-file", tmp_path / "prompt.txt"]
    sampled = [*common, "--temperature", 1.4, "--top-k", 40, "--top-p", 0.9]
    first = document(capsys, *sampled, "--seed", 1)["tokens"]
    assert document(capsys, *sampled, "--seed", 1)["tokens"] == first
    assert document(capsys, *sampled, "--seed", 2)["tokens"] != first
    penalised = document(capsys, *common, "--repetition-penalty", 5)["tokens"][0]
    assert len(set(penalised)) > len(set(document(capsys, *common)["tokens"][0]))


def test_stop(artifact: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = wanted(artifact, 12)
    stop = tokens[4]
    found = document(capsys, "generate", artifact.path, "--prompt", TEXT, "--stop", f"{stop},257")
    assert found["tokens"] == [tokens[: tokens.index(stop) + 1]]


def test_past_the_longest_sequence_keeps_what_there_is(
    artifact: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompt, out = "x" * (LONGEST - 2), tmp_path / "new.npy"
    arguments = ["generate", artifact.path, "--prompt", prompt, "--output", out]
    found = document(capsys, *arguments, code=1)
    assert found["error"] == (
        "stopped after 3 tokens: the model takes 120 tokens, the prompt among them"
    )
    assert found["tokens"] == [wanted(artifact, 3, prompt)]
    assert np.load(out).tolist() == found["tokens"]
    assert main([*map(str, arguments)]) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1] == f"error: {found['error']}"
    assert captured.out.endswith("\n")


BAD = [
    (["--prompt", ""], 1, "holds an empty sequence"),
    (["--prompt", "x" * 121], 1, "holds a sequence of 121 tokens; the model takes 1 to 120"),
    ([], 2, "give exactly one of --prompt, --prompt-file and --input-ids"),
    (["--prompt", "a", "--input-ids", "b.npy"], 2, "give exactly one of"),
    (["--prompt-file", "absent.txt"], 1, "cannot read absent.txt"),
    (["--prompt", "a", "--output", "tokens.txt"], 2, "name a .npy file"),
    (["--prompt", "a", "--temperature", "-1"], 2, "--temperature -1.0: give 0 or more"),
    (["--prompt", "a", "--top-p", "1.5"], 2, "--top-p 1.5: give more than 0 and at most 1"),
    (["--prompt", "a", "--max-new-tokens", "0"], 2, "max-new-tokens"),
    (["--prompt", "a", "--stop", "x"], 2, "'x' is not a list of whole numbers"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD)
def test_bad_input(
    artifact: Artifact,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    assert main(["generate", str(artifact.path), *arguments]) == code
    assert message in error_line(capsys)


def test_an_artifact_without_a_decoder(
    fixtures: Fixtures, capsys: pytest.CaptureFixture[str]
) -> None:
    path = fixtures.artifact("text-generation", TINY).path
    assert main(["generate", str(path), "--prompt", "a"]) == 2
    assert "to-onnx --task text-generation-with-past" in error_line(capsys)


def test_what_a_terminal_obeys_is_spelled_out(artifact: Artifact) -> None:
    """In a new process, whose stdout accepts only ASCII."""
    done = child(
        *("generate", artifact.path, "--prompt", TEXT, "--max-new-tokens", 40),
        *("--temperature", 3, "--stop", 300),
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert all(c.isprintable() or c in "\n\t" for c in done.stdout)


def test_exporting_says_what_goes_together(
    fixtures: Fixtures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = ["--task", "text-generation-with-past"]
    common = ["-m", str(fixtures.checkpoint()), str(tmp_path / "out")]
    assert main(["to-aoti", *common, *task]) == 2
    assert "is for to-onnx and to-torchscript" in error_line(capsys)
    assert main(["to-onnx", *common, *task, "--dtype", "bf16"]) == 2
    assert "exports fp32 or fp16, not bf16" in error_line(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow  # exports once more
def test_an_export_is_verified_while_generating(
    fixtures: Fixtures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["to-onnx", "-m", str(fixtures.checkpoint(config=TINY)), str(out)]
    assert main([*arguments, "--task", "text-generation-with-past"]) == 0
    capsys.readouterr()
    manifest = json.loads((out / "manifest.json").read_text())
    rows = manifest["formats"]["onnx"]["parity"]["rows"]
    assert [row["reference"] for row in rows if row["passed"]].count("torch, generating") == 2
    decoder = manifest["formats"]["decoder"]
    assert decoder["files"] == [
        *("decoder_model.onnx", "decoder_with_past_model.onnx", "decoder_model.onnx_data")
    ]
    assert main(["inspect", str(out)]) == 0
    assert "decoder" in capsys.readouterr().out


@pytest.mark.slow  # exports once more
def test_torchscript_is_verified_while_generating_and_generates(
    artifact: Artifact, fixtures: Fixtures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, checkpoint = tmp_path / "out", str(fixtures.checkpoint(config=TINY))
    task = ["--task", "text-generation-with-past"]
    assert main(["to-torchscript", "-m", checkpoint, str(out), *task]) == 0
    capsys.readouterr()
    record = json.loads((out / "manifest.json").read_text())["formats"]["torchscript"]
    rows = record["parity"]["rows"]
    assert [row["reference"] for row in rows if row["passed"]].count("torch, generating") == 2
    arguments = ("generate", out, "--prompt", TEXT, "--max-new-tokens", 7)
    found = document(capsys, *arguments, "--runtime", "torchscript")
    assert found["tokens"] == [wanted(artifact, 7)]
    assert found["description"].startswith("torch ")
    assert main([*map(str, arguments), "--runtime", "onnxruntime"]) == 2
    assert "cannot generate in onnxruntime" in error_line(capsys)


@pytest.mark.slow  # exports once more
def test_torchscript_in_half_precision_is_verified_while_generating(
    fixtures: Fixtures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, checkpoint = tmp_path / "out", str(fixtures.checkpoint(config=TINY))
    task = ["--task", "text-generation-with-past", "--dtype", "fp16"]
    assert main(["to-torchscript", "-m", checkpoint, str(out), *task]) == 0
    capsys.readouterr()
    record = json.loads((out / "manifest.json").read_text())["formats"]["torchscript"]
    rows = record["parity"]["rows"]
    assert [row["reference"] for row in rows if row["passed"]].count("torch, generating") == 2
