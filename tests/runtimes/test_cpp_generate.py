"""`reformer-run --generate` gives the tokens that Python gives."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from reformer_export import open_generator
from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import (
    DECODER,
    DECODER_FILES,
)
from reformer_export.cli.main import main
from reformer_export.errors import GenerationLimitError

from ..tools.artifact_fixtures import edit_manifest
from .generating import (
    LONGEST,
    in_python,
    prompt_of,
    run,
    tokens_of,
    update_files,
    with_configs,
)
from .programs import (
    environment,
    in_cpp,
)

# -- the same tokens -------------------------------------------------------------------------------


@pytest.mark.parametrize("ops", ["native", "portable"])
@pytest.mark.parametrize(
    "lengths",
    [[1], [4], [5], [6], [7], [11], [12], [13], [24], [63], [12, 12, 12], [30, 1, 7, 12, 1, 6]],
    ids=str,
)
def test_greedy_tokens(decoder: Artifact, tmp_path: Path, lengths: list[int], ops: str) -> None:
    prompts = [prompt_of(length, seed) for seed, length in enumerate(lengths)]
    found = tokens_of(
        tmp_path, decoder.path, prompts, "--max-new-tokens", 40, "--ops", ops, "--stop", 999
    )
    wanted = in_python(decoder.path, prompts, ops=ops, max_new_tokens=40, stop=[])
    np.testing.assert_array_equal(found, wanted)
    batched = open_generator(decoder, threads=1, ops=ops).generate(
        [np.array(prompt) for prompt in prompts], max_new_tokens=40, stop=[]
    )
    np.testing.assert_array_equal(found, batched)
    assert found.shape == (len(prompts), 40)
    assert all(len(set(row)) > 1 for row in found.tolist())


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"dtype": "fp16"}, {"ops": "portable"}],
    ids=str,
)
def test_other_exports(
    exported_decoder: Callable[..., Artifact], tmp_path: Path, options: Mapping[str, Any]
) -> None:
    path = exported_decoder(**options).path
    prompts = [prompt_of(13), prompt_of(5)]
    found = tokens_of(tmp_path, path, prompts, "--threads", 1, "--max-new-tokens", 50)
    np.testing.assert_array_equal(found, in_python(path, prompts, max_new_tokens=50))


@pytest.mark.parametrize("count", [1, 5, 117])
def test_the_document_is_that_of_reformer_export_generate(
    decoder: Artifact, tmp_path: Path, count: int
) -> None:
    """Also for a failure: a sequence of 5 + 117 tokens is too long."""
    out = tmp_path / "tokens.npy"
    arguments = [
        "--max-new-tokens",
        count,
        "--stop",
        999,
        "--output",
        out,
        "--threads",
        1,
        "--json",
    ]
    ours = in_cpp(decoder.path, "--text", "Hello", "--generate", *arguments)
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(io.StringIO()):
        code = main(["generate", *map(str, (decoder.path, "--prompt", "Hello", *arguments))])
    documents = ours.document, json.loads(shown.getvalue())
    assert list(documents[0]) == list(documents[1])
    for document in documents:
        if count < 117:
            assert document.pop("open_seconds") > 0
            assert document.pop("first_token_s") > 0
            assert (document.pop("ms_per_token") is None) == (count == 1)
    assert documents[0] == documents[1]
    assert ours.code == code == (count == 117)


def test_ids_for_people(decoder: Artifact, tmp_path: Path) -> None:
    for prompts in ([prompt_of(5)], [prompt_of(5), prompt_of(9)]):
        ran = run(tmp_path, decoder.path, prompts, "--max-new-tokens", 7)
        found = [[int(word) for word in line.split(" ")] for line in ran.out.splitlines()]
        assert found == in_python(decoder.path, prompts, max_new_tokens=7).tolist()
        assert f"prompt   {len(prompts)} x {max(map(len, prompts))} tokens\n" in ran.err
        assert " ms a token (7 tokens)\n" in ran.err


# -- where a sequence ends -------------------------------------------------------------------------


def test_stop_ids(decoder: Artifact, tmp_path: Path) -> None:
    prompts = [prompt_of(9, seed) for seed in range(4)]
    free = in_python(decoder.path, prompts, max_new_tokens=30, stop=[])
    stop = [int(free[0, 4]), int(free[2, 11])]
    wanted = in_python(decoder.path, prompts, max_new_tokens=30, stop=stop)
    assert (wanted[0, 5:] == 0).all()  # filled with the pad token
    listed = ",".join(map(str, stop))
    for ops in ("native", "portable"):
        found = tokens_of(
            tmp_path, decoder.path, prompts, "--max-new-tokens", 30, "--stop", listed, "--ops", ops
        )
        np.testing.assert_array_equal(found, wanted)
    # If all rows have ended, nothing more is generated.
    alone = tokens_of(tmp_path, decoder.path, prompts[:1], "--max-new-tokens", 30, "--stop", listed)
    np.testing.assert_array_equal(alone, wanted[:1, : alone.shape[1]])
    assert int(alone[0, -1]) in stop


@pytest.mark.parametrize("name", ["config", "generation_config"])
@pytest.mark.parametrize("many", [False, True])
def test_stop_ids_of_the_model(decoder: Artifact, tmp_path: Path, name: str, many: bool) -> None:
    prompts = [prompt_of(9, seed) for seed in range(2)]
    free = in_python(decoder.path, prompts, max_new_tokens=20, stop=[])
    end = int(free[0, 4])
    mine = {"eos_token_id": [999, end] if many else end, "pad_token_id": 77}
    other = {"eos_token_id": None} if name == "config" else {"eos_token_id": int(free[0, 1])}
    configs: dict[str, object] = {"config": other, "generation_config": other, name: mine}
    path = with_configs(decoder.path, tmp_path / "copy", **configs)
    found = tokens_of(tmp_path, path, prompts)
    np.testing.assert_array_equal(found, in_python(path, prompts, pad=77))
    assert found[0, 4:].tolist()[:2] == [end, 77]
    given = tokens_of(tmp_path, path, prompts, "--stop", 999)
    np.testing.assert_array_equal(given, free)


def test_configurations_that_say_nothing(decoder: Artifact, tmp_path: Path) -> None:
    prompts = [prompt_of(9)]
    path = with_configs(decoder.path, tmp_path / "copy", config=b"{", generation_config=b"[]")
    free = in_python(decoder.path, prompts, stop=[])
    np.testing.assert_array_equal(tokens_of(tmp_path, path, prompts), free)


@pytest.mark.parametrize("length", [LONGEST, LONGEST - 1, LONGEST - 9])
def test_the_longest_sequence(decoder: Artifact, tmp_path: Path, length: int) -> None:
    """The tokens generated up to the limit are kept: shown, saved, and in the document."""
    prompts = [prompt_of(length), prompt_of(3)]
    with pytest.raises(GenerationLimitError) as caught:
        open_generator(decoder).generate(
            [np.array(prompt) for prompt in prompts], max_new_tokens=30, stop=[]
        )
    out = tmp_path / "out.npy"
    arguments = ("--max-new-tokens", 30, "--stop", 999, "--output", out)
    ran = run(tmp_path, decoder.path, prompts, *arguments)
    assert (ran.code, ran.error) == (1, f"error: {caught.value}")
    np.testing.assert_array_equal(np.load(out), caught.value.tokens)
    wanted = caught.value.tokens.tolist()
    assert [list(map(int, line.split())) for line in ran.out.splitlines()] == wanted
    printed = run(tmp_path, decoder.path, prompts, *arguments, "--json").document
    assert printed == {"error": str(caught.value), "exit_code": 1, "tokens": wanted}
    # A request for only these tokens is no error.
    fits = tokens_of(
        tmp_path, decoder.path, prompts, "--max-new-tokens", len(wanted[0]), *arguments[2:4]
    )
    assert fits.tolist() == wanted


@pytest.mark.parametrize("ops", ["native", "portable"])
def test_a_row_that_ends_at_the_longest(decoder: Artifact, tmp_path: Path, ops: str) -> None:
    """The other rows continue, and get the same tokens as alone."""
    full, short = prompt_of(LONGEST), prompt_of(5)
    end = int(in_python(decoder.path, [full], max_new_tokens=1)[0, 0])
    alone = in_python(decoder.path, [short], max_new_tokens=12, stop=[end], ops=ops)
    arguments = ("--max-new-tokens", 12, "--stop", end, "--ops", ops)
    found = tokens_of(tmp_path, decoder.path, [full, short], *arguments)
    np.testing.assert_array_equal(found[1:, : alone.shape[1]], alone)
    assert found[0].tolist() == [end] + [0] * (found.shape[1] - 1)
    assert found.shape[1] > 1


# -- sampling --------------------------------------------------------------------------------------


def test_sampling_that_is_greedy(decoder: Artifact, tmp_path: Path) -> None:
    prompts = [prompt_of(9), prompt_of(4)]
    wanted = in_python(decoder.path, prompts)
    for arguments in (
        ("--top-k", 1),
        ("--temperature", 0, "--top-k", 5),
        ("--temperature", 1.5, "--top-k", 1, "--seed", 9),
        ("--top-p", 1e-9),
    ):
        np.testing.assert_array_equal(
            tokens_of(tmp_path, decoder.path, prompts, *arguments), wanted
        )


@pytest.mark.parametrize("penalty", [0.5, 1.3, 4.0])
def test_a_repetition_penalty(decoder: Artifact, tmp_path: Path, penalty: float) -> None:
    prompts = [prompt_of(9), prompt_of(40)]
    arguments = ("--repetition-penalty", penalty, "--max-new-tokens", 40)
    found = tokens_of(tmp_path, decoder.path, prompts, *arguments)
    wanted = in_python(decoder.path, prompts, repetition_penalty=penalty, max_new_tokens=40)
    np.testing.assert_array_equal(found, wanted)


def test_seeds(decoder: Artifact, tmp_path: Path) -> None:
    """The same seed gives the same tokens; the tokens of a row do not depend on other rows."""
    prompts = [prompt_of(9), prompt_of(9), prompt_of(20)]
    arguments = ("--temperature", 1, "--stop", 999)
    first = tokens_of(tmp_path, decoder.path, prompts, *arguments, "--seed", 5)
    again = tokens_of(tmp_path, decoder.path, prompts[:2], *arguments, "--seed", 5)
    np.testing.assert_array_equal(first[:2], again)
    assert first[0].tolist() != first[1].tolist()  # each row draws its own numbers
    for seed in (0, 6, 2**32 + 5, 2**64 - 1):
        other = tokens_of(tmp_path, decoder.path, prompts, *arguments, "--seed", seed)
        assert (other != first).mean() > 0.5


# -- invalid arguments and artifacts ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--top-k", 1], "--top-k goes with --generate"),
        (["--stop", "x"], "--stop goes with --generate"),
        (["--generate", "--bench", 3], "--bench does not go with --generate"),
        (["--generate=1"], "--generate does not take a value"),
        (["--generate", "--top-k", "two"], "--top-k takes a whole number; got 'two'"),
        (["--generate", "--top-p", "half"], "--top-p takes a number; got 'half'"),
        (["--generate", "--seed", "-1"], "--seed takes a whole number of at least 0; got '-1'"),
        (["--generate", "--stop", "1,,2"], "--stop takes a whole number of at least 0; got ''"),
        (["--generate", "--output", "y.npz"], "--output y.npz: name a .npy file"),
        (
            ["--generate", "--runtime", "torchscript"],
            "unknown runtime 'torchscript' for generation",
        ),
        (["--generate", "--device", "cuda"], "generation does not run on cuda: choose cpu"),
        (["--generate", "--engine", "x"], "--engine x: an engine does not generate"),
    ],
)
def test_wrong_usage(decoder: Artifact, arguments: list[object], said: str) -> None:
    ran = in_cpp(decoder.path, "--text", "x", *arguments)
    assert ran.code == 2
    assert said in ran.error


def edited(decoder: Artifact, folder: Path, change: Callable[[Any], object]) -> Path:
    """A copy of the artifact with a changed record of the decoder in its manifest."""
    copy = Path(shutil.copytree(decoder.path, folder))
    formats = json.loads((copy / "manifest.json").read_text())["formats"]
    change(formats[DECODER])
    edit_manifest(copy, formats=formats)
    return copy


def test_operators(decoder: Artifact, tmp_path: Path) -> None:
    """Decoders that our kernels do not run, and a missing library."""
    portable = edited(decoder, tmp_path / "portable", lambda record: record.update(ops="portable"))
    ran = run(tmp_path, portable, [prompt_of(3)], "--ops", "native")
    assert ran.code == 2
    assert "it was exported with --ops portable" in ran.error
    later = edited(
        decoder,
        tmp_path / "later",
        lambda record: record["details"]["ops"].update(ChunkAttentionStep=99),
    )
    ran = run(tmp_path, later, [prompt_of(3)], "--ops", "native")
    assert ran.code == 2
    assert "it has ChunkAttentionStep version 99, which this release does not know" in ran.error
    np.testing.assert_array_equal(
        tokens_of(tmp_path, later, [prompt_of(3)]),
        in_python(decoder.path, [prompt_of(3)], ops="portable"),
    )
    nowhere = ("--ops-folder", tmp_path / "nowhere")
    assert run(tmp_path, decoder.path, [prompt_of(3)], "--ops", "native", *nowhere).code == 1
    ran = run(tmp_path, decoder.path, [prompt_of(3)], *nowhere)
    assert ran.code == 0
    assert "note: portable operators run: there is no libreformer_ops_ort.so in " in ran.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda record: record["files"].pop(), None),
        (lambda record: record.update(files=record["files"][:1]), "files must hold at least 2"),
        (
            lambda record: record["files"].append("x.onnx"),
            "says that decoder is in 'x.onnx', which",
        ),
        (lambda record: record["details"].pop("ops"), "details.ops is missing"),
        (lambda record: record.pop("details"), "details is missing"),
    ],
)
def test_records_of_a_decoder(
    decoder: Artifact, tmp_path: Path, change: Callable[[Any], object], said: str | None
) -> None:
    copy = edited(decoder, tmp_path / "copy", change)
    ran = run(tmp_path, copy, [prompt_of(3)])
    assert ran.code == (0 if said is None else 1), ran
    assert said is None or said in ran.error


@pytest.mark.parametrize("file", DECODER_FILES)
def test_weights_outside_the_artifact(decoder: Artifact, tmp_path: Path, file: str) -> None:
    copy = Path(shutil.copytree(decoder.path, tmp_path / "copy"))
    model = onnx.load(copy / file, load_external_data=False)
    place = next(
        entry
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "location"
    )
    place.value = "../ids.npy"
    onnx.save(model, copy / file)
    update_files(copy)
    ran = run(tmp_path, copy, [prompt_of(3)])
    assert ran.code == 1
    assert "keeps its data in '../ids.npy', which is not a file of this artifact" in ran.error


# -- the sanitizers -------------------------------------------------------------------------------


@pytest.mark.slow
def test_under_sanitizers(sanitized: Path, decoder: Artifact, tmp_path: Path) -> None:
    env = os.environ | environment() | {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1"}
    for length, batch, code, arguments in (
        (1, 1, 0, ()),
        (31, 3, 0, ("--ops", "portable", "--top-p", "0.5", "--seed", "3")),
        (12, 2, 0, ("--ops", "native", "--top-k", "3", "--repetition-penalty", "2")),
        (LONGEST, 2, 1, ("--json",)),
    ):
        ids = np.array([prompt_of(length, row) for row in range(batch)])
        np.save(tmp_path / "ids.npy", ids)
        command = [str(sanitized / "reformer-run"), str(decoder.path), "--generate"]
        command += ["--input-ids", str(tmp_path / "ids.npy"), "--output", str(tmp_path / "out.npy")]
        done = subprocess.run(
            [*command, *arguments], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert "Sanitizer" not in done.stderr
        assert "runtime error" not in done.stderr
