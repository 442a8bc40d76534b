"""Generation in C++ gives the tokens that Python gives: by `reformer-run --generate`, by the C
interface and in a program that uses the C++ interface."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, byref, c_double, c_int, c_int64, c_size_t, c_uint64, c_void_p
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from reformer_export import open_generator
from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import (
    DECODER,
    DECODER_FILES,
    DECODER_WEIGHTS,
    FormatRecord,
    read_raw_manifest,
    record_files,
)
from reformer_export.cli.main import main
from reformer_export.errors import GenerationLimitError, ReformerError
from reformer_export.generation.sampling import Sampling

from ..tools.artifact_fixtures import edit_manifest, make_artifact
from ..tools.model_fixtures import TINY, Fixtures
from .programs import (
    ROOT,
    RUNTIME,
    Options,
    Ran,
    built,
    environment,
    in_cpp,
    library,
    missing_facts,
)

TASK = "text-generation-with-past"
OK, USAGE, ARTIFACT, INPUT, INFERENCE, NATIVE, LIMIT = 0, 1, 2, 3, 4, 6, 11
LONGEST = 120  # of the small model, whose chunks have 4 and 6 tokens

Tokens = NDArray[np.int64]


@pytest.fixture(scope="session")
def exported(fixtures: Fixtures) -> Callable[..., Artifact]:
    """Small models that generate, each exported once."""
    return partial(fixtures.decoder, TINY)


@pytest.fixture(scope="session")
def artifact(exported: Callable[..., Artifact]) -> Artifact:
    return exported()


def prompt_of(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng((seed, length)).integers(2, 258, length).tolist()


def run(folder: Path, path: Path, prompts: Sequence[list[int]], *arguments: object) -> Ran:
    """`reformer-run --generate`; prompts of different lengths are padded and masked."""
    longest = max(map(len, prompts))
    ids, mask = np.zeros((2, len(prompts), longest), np.int64)
    for row, prompt in enumerate(prompts):
        place = slice(0, len(prompt)) if row % 2 else slice(longest - len(prompt), longest)
        ids[row, place], mask[row, place] = prompt, 1
    np.save(folder / "ids.npy", ids)
    np.save(folder / "mask.npy", mask)
    given: tuple[object, ...] = ("--input-ids", folder / "ids.npy", "--generate")
    given += () if mask.all() else ("--attention-mask", folder / "mask.npy")
    return in_cpp(path, *given, *arguments)


def tokens_of(folder: Path, path: Path, prompts: Sequence[list[int]], *arguments: object) -> Tokens:
    """What it prints with --json and saves, which are the same."""
    out = folder / "tokens.npy"
    ran = run(folder, path, prompts, *arguments, "--json", "--output", out)
    assert (ran.code, ran.err) == (0, ""), ran
    saved: Tokens = np.load(out)
    assert saved.dtype == np.int64
    np.testing.assert_array_equal(saved, ran.document["tokens"])
    return saved


def in_python(
    path: Path, prompts: Sequence[list[int]], *, ops: Any = "auto", pad: int = 0, **options: Any
) -> Tokens:
    """What each prompt gets alone, filled up to one length."""
    generator = open_generator(path, threads=1, ops=ops)
    rows = [generator.generate(np.array(prompt), **options)[0].tolist() for prompt in prompts]
    generator.close()
    longest = max(map(len, rows))
    return np.array([row + [pad] * (longest - len(row)) for row in rows])


# -- the same tokens -------------------------------------------------------------------------------


@pytest.mark.parametrize("ops", ["native", "portable"])
@pytest.mark.parametrize(
    "lengths",
    [[1], [4], [5], [6], [7], [11], [12], [13], [24], [63], [12, 12, 12], [30, 1, 7, 12, 1, 6]],
    ids=str,
)
def test_greedy_tokens(artifact: Artifact, tmp_path: Path, lengths: list[int], ops: str) -> None:
    prompts = [prompt_of(length, seed) for seed, length in enumerate(lengths)]
    found = tokens_of(
        tmp_path, artifact.path, prompts, "--max-new-tokens", 40, "--ops", ops, "--stop", 999
    )
    wanted = in_python(artifact.path, prompts, ops=ops, max_new_tokens=40, stop=[])
    np.testing.assert_array_equal(found, wanted)
    batched = open_generator(artifact, threads=1, ops=ops).generate(
        [np.array(prompt) for prompt in prompts], max_new_tokens=40, stop=[]
    )
    np.testing.assert_array_equal(found, batched)
    assert found.shape == (len(prompts), 40)
    assert all(len(set(row)) > 1 for row in found.tolist())


@pytest.mark.parametrize(
    "options",
    [{"dtype": "fp16"}, pytest.param({"ops": "portable"}, marks=pytest.mark.slow)],
    ids=str,
)
def test_other_exports(
    exported: Callable[..., Artifact], tmp_path: Path, options: Mapping[str, Any]
) -> None:
    path = exported(**options).path
    prompts = [prompt_of(13), prompt_of(5)]
    found = tokens_of(tmp_path, path, prompts, "--threads", 1, "--max-new-tokens", 50)
    np.testing.assert_array_equal(found, in_python(path, prompts, max_new_tokens=50))


@pytest.mark.parametrize("count", [1, 5, 117])
def test_the_document_is_that_of_reformer_export_generate(
    artifact: Artifact, tmp_path: Path, count: int
) -> None:
    """Also of a failure: a sequence of 5 + 117 tokens is too long."""
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
    ours = in_cpp(artifact.path, "--text", "Hello", "--generate", *arguments)
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(io.StringIO()):
        code = main(["generate", *map(str, (artifact.path, "--prompt", "Hello", *arguments))])
    documents = ours.document, json.loads(shown.getvalue())
    assert list(documents[0]) == list(documents[1])
    for document in documents:
        if count < 117:
            assert document.pop("open_seconds") > 0
            assert document.pop("first_token_s") > 0
            assert (document.pop("ms_per_token") is None) == (count == 1)
    assert documents[0] == documents[1]
    assert ours.code == code == (count == 117)


def test_ids_for_people(artifact: Artifact, tmp_path: Path) -> None:
    for prompts in ([prompt_of(5)], [prompt_of(5), prompt_of(9)]):
        ran = run(tmp_path, artifact.path, prompts, "--max-new-tokens", 7)
        found = [[int(word) for word in line.split(" ")] for line in ran.out.splitlines()]
        assert found == in_python(artifact.path, prompts, max_new_tokens=7).tolist()
        assert f"prompt   {len(prompts)} x {max(map(len, prompts))} tokens\n" in ran.err
        assert " ms a token (7 tokens)\n" in ran.err


# -- where a sequence ends -------------------------------------------------------------------------


def with_configs(path: Path, folder: Path, **files: object) -> Path:
    """A copy of the artifact with other configurations: JSON, or bytes."""
    copy = Path(shutil.copytree(path, folder))
    for name, content in files.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (copy / f"{name}.json").write_bytes(data)
    update_files(copy)
    return copy


def update_files(folder: Path) -> None:
    """Let the manifest vouch for what is in the folder."""
    edit_manifest(
        folder,
        files={n: {"sha256": r.sha256, "bytes": r.bytes} for n, r in record_files(folder).items()},
    )


def test_stop_ids(artifact: Artifact, tmp_path: Path) -> None:
    prompts = [prompt_of(9, seed) for seed in range(4)]
    free = in_python(artifact.path, prompts, max_new_tokens=30, stop=[])
    stop = [int(free[0, 4]), int(free[2, 11])]
    wanted = in_python(artifact.path, prompts, max_new_tokens=30, stop=stop)
    assert (wanted[0, 5:] == 0).all()  # filled with the pad token
    listed = ",".join(map(str, stop))
    for ops in ("native", "portable"):
        found = tokens_of(
            tmp_path, artifact.path, prompts, "--max-new-tokens", 30, "--stop", listed, "--ops", ops
        )
        np.testing.assert_array_equal(found, wanted)
    # All of them end: nothing is generated after the last.
    alone = tokens_of(
        tmp_path, artifact.path, prompts[:1], "--max-new-tokens", 30, "--stop", listed
    )
    np.testing.assert_array_equal(alone, wanted[:1, : alone.shape[1]])
    assert int(alone[0, -1]) in stop


@pytest.mark.parametrize("name", ["config", "generation_config"])
@pytest.mark.parametrize("many", [False, True])
def test_stop_ids_of_the_model(artifact: Artifact, tmp_path: Path, name: str, many: bool) -> None:
    prompts = [prompt_of(9, seed) for seed in range(2)]
    free = in_python(artifact.path, prompts, max_new_tokens=20, stop=[])
    end = int(free[0, 4])
    mine = {"eos_token_id": [999, end] if many else end, "pad_token_id": 77}
    other = {"eos_token_id": None} if name == "config" else {"eos_token_id": int(free[0, 1])}
    configs: dict[str, object] = {"config": other, "generation_config": other, name: mine}
    path = with_configs(artifact.path, tmp_path / "copy", **configs)
    found = tokens_of(tmp_path, path, prompts)
    np.testing.assert_array_equal(found, in_python(path, prompts, pad=77))
    assert found[0, 4:].tolist()[:2] == [end, 77]
    given = tokens_of(tmp_path, path, prompts, "--stop", 999)
    np.testing.assert_array_equal(given, free)


def test_configurations_that_say_nothing(artifact: Artifact, tmp_path: Path) -> None:
    prompts = [prompt_of(9)]
    path = with_configs(artifact.path, tmp_path / "copy", config=b"{", generation_config=b"[]")
    free = in_python(artifact.path, prompts, stop=[])
    np.testing.assert_array_equal(tokens_of(tmp_path, path, prompts), free)


@pytest.mark.parametrize("length", [LONGEST, LONGEST - 1, LONGEST - 9])
def test_the_longest_sequence(artifact: Artifact, tmp_path: Path, length: int) -> None:
    """What is generated until there is kept: shown, saved, and in the document."""
    prompts = [prompt_of(length), prompt_of(3)]
    with pytest.raises(GenerationLimitError) as caught:
        open_generator(artifact).generate(
            [np.array(prompt) for prompt in prompts], max_new_tokens=30, stop=[]
        )
    out = tmp_path / "out.npy"
    arguments = ("--max-new-tokens", 30, "--stop", 999, "--output", out)
    ran = run(tmp_path, artifact.path, prompts, *arguments)
    assert (ran.code, ran.error) == (1, f"error: {caught.value}")
    np.testing.assert_array_equal(np.load(out), caught.value.tokens)
    wanted = caught.value.tokens.tolist()
    assert [list(map(int, line.split())) for line in ran.out.splitlines()] == wanted
    told = run(tmp_path, artifact.path, prompts, *arguments, "--json").document
    assert told == {"error": str(caught.value), "exit_code": 1, "tokens": wanted}
    # One token fewer is no error.
    fits = tokens_of(
        tmp_path, artifact.path, prompts, "--max-new-tokens", len(wanted[0]), *arguments[2:4]
    )
    assert fits.tolist() == wanted


@pytest.mark.parametrize("ops", ["native", "portable"])
def test_a_row_that_ends_at_the_longest(artifact: Artifact, tmp_path: Path, ops: str) -> None:
    """The others go on, and get what they get alone."""
    full, short = prompt_of(LONGEST), prompt_of(5)
    end = int(in_python(artifact.path, [full], max_new_tokens=1)[0, 0])
    alone = in_python(artifact.path, [short], max_new_tokens=12, stop=[end], ops=ops)
    arguments = ("--max-new-tokens", 12, "--stop", end, "--ops", ops)
    found = tokens_of(tmp_path, artifact.path, [full, short], *arguments)
    np.testing.assert_array_equal(found[1:, : alone.shape[1]], alone)
    assert found[0].tolist() == [end] + [0] * (found.shape[1] - 1)
    assert found.shape[1] > 1


# -- sampling --------------------------------------------------------------------------------------


def test_sampling_that_is_greedy(artifact: Artifact, tmp_path: Path) -> None:
    prompts = [prompt_of(9), prompt_of(4)]
    wanted = in_python(artifact.path, prompts)
    for arguments in (
        ("--top-k", 1),
        ("--temperature", 0, "--top-k", 5),
        ("--temperature", 1.5, "--top-k", 1, "--seed", 9),
        ("--top-p", 1e-9),
    ):
        np.testing.assert_array_equal(
            tokens_of(tmp_path, artifact.path, prompts, *arguments), wanted
        )


@pytest.mark.parametrize("penalty", [0.5, 1.3, 4.0])
def test_a_repetition_penalty(artifact: Artifact, tmp_path: Path, penalty: float) -> None:
    prompts = [prompt_of(9), prompt_of(40)]
    arguments = ("--repetition-penalty", penalty, "--max-new-tokens", 40)
    found = tokens_of(tmp_path, artifact.path, prompts, *arguments)
    wanted = in_python(artifact.path, prompts, repetition_penalty=penalty, max_new_tokens=40)
    np.testing.assert_array_equal(found, wanted)


def test_seeds(artifact: Artifact, tmp_path: Path) -> None:
    """The same seed gives the same tokens; a row's do not depend on other rows."""
    prompts = [prompt_of(9), prompt_of(9), prompt_of(20)]
    arguments = ("--temperature", 1, "--stop", 999)
    first = tokens_of(tmp_path, artifact.path, prompts, *arguments, "--seed", 5)
    again = tokens_of(tmp_path, artifact.path, prompts[:2], *arguments, "--seed", 5)
    np.testing.assert_array_equal(first[:2], again)
    assert first[0].tolist() != first[1].tolist()  # rows of one prompt draw their own numbers
    for seed in (0, 6, 2**32 + 5, 2**64 - 1):
        other = tokens_of(tmp_path, artifact.path, prompts, *arguments, "--seed", seed)
        assert (other != first).mean() > 0.5


# -- the C interface -------------------------------------------------------------------------------


class GenerationOptions(ctypes.Structure):
    """`reformer_generation_options` of c_api.h."""

    _fields_ = (
        ("size", c_size_t),
        ("max_new_tokens", c_int),
        ("repetition_penalty", c_double),
        ("temperature", c_double),
        ("top_k", c_int64),
        ("top_p", c_double),
        ("seed", c_uint64),
        ("stop", POINTER(c_int64)),
        ("stop_count", c_size_t),
    )


ON_TOKENS = ctypes.CFUNCTYPE(c_int, POINTER(c_int64), c_size_t, c_void_p)


class CGenerator:
    """The functions of one `reformer_generator`."""

    def __init__(self, lib: ctypes.CDLL, handle: c_void_p) -> None:
        self.lib, self.handle = lib, handle

    def call(
        self, prompts: Sequence[list[int]], *, most: int | None = None, **options: Any
    ) -> tuple[int, list[list[int]]]:
        """The status and the tokens of each step; stops after `most` steps."""
        arrays = [(c_int64 * len(prompt))(*prompt) for prompt in prompts]
        rows = (POINTER(c_int64) * len(arrays))(*(ctypes.cast(a, POINTER(c_int64)) for a in arrays))
        lengths = (c_size_t * len(prompts))(*map(len, prompts))
        stop = options.pop("stop", None)
        given = GenerationOptions(size=ctypes.sizeof(GenerationOptions), **options)
        if stop is not None:
            given.stop, given.stop_count = (c_int64 * max(len(stop), 1))(*stop), len(stop)
        steps: list[list[int]] = []

        def on_tokens(tokens: Any, batch: int, user: int) -> int:
            assert user == 7
            steps.append(tokens[:batch])
            return int(len(steps) != most)

        status = self.lib.reformer_generate(
            self.handle,
            rows,
            lengths,
            c_size_t(len(prompts)),
            byref(given),
            ON_TOKENS(on_tokens),
            c_void_p(7),
        )
        return status, steps

    def tokens(self, prompts: Sequence[list[int]], **options: Any) -> Tokens:
        status, steps = self.call(prompts, **options)
        assert status == OK, self.error
        return np.array(steps).T

    @property
    def error(self) -> str:
        """The last error."""
        return str(self.lib.reformer_last_error().decode())


@pytest.fixture(scope="module")
def lib() -> Iterator[ctypes.CDLL]:
    loaded = library()
    loaded.reformer_generator_description.restype = ctypes.c_char_p
    loaded.reformer_generator_description.argtypes = [c_void_p]
    loaded.reformer_close_generator.argtypes = [c_void_p]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        yield loaded


def opened(lib: ctypes.CDLL, path: Path, ops: bytes = b"native") -> CGenerator:
    handle = c_void_p()
    options = Options(ctypes.sizeof(Options), None, ops, 1, None, None)
    status = lib.reformer_open_generator(bytes(path), byref(options), byref(handle))
    assert status == OK, lib.reformer_last_error()
    return CGenerator(lib, handle)


@pytest.fixture
def generator(lib: ctypes.CDLL, artifact: Artifact) -> Iterator[CGenerator]:
    made = opened(lib, artifact.path)
    yield made
    lib.reformer_close_generator(made.handle)


def test_c_gives_the_same_tokens(generator: CGenerator, artifact: Artifact) -> None:
    prompts = [prompt_of(length) for length in (30, 1, 7, 30)]
    np.testing.assert_array_equal(generator.tokens(prompts), in_python(artifact.path, prompts))
    found = generator.tokens(prompts, max_new_tokens=5, repetition_penalty=1.5, stop=[])
    wanted = in_python(artifact.path, prompts, max_new_tokens=5, repetition_penalty=1.5, stop=[])
    np.testing.assert_array_equal(found, wanted)
    told = generator.lib.reformer_generator_description(generator.handle).decode()
    assert told == open_generator(artifact, threads=1, ops="native").description


def test_stopping_early(generator: CGenerator) -> None:
    status, steps = generator.call([prompt_of(5)], most=3, stop=[])
    assert (status, len(steps)) == (OK, 3)
    whole = generator.tokens([prompt_of(5)], stop=[])
    assert [tokens[0] for tokens in steps] == whole[0, :3].tolist()


def test_limits_in_c(generator: CGenerator) -> None:
    status, steps = generator.call([prompt_of(LONGEST - 3)], stop=[])
    assert (status, len(steps)) == (LIMIT, 4)
    assert "stopped after 4 tokens: the model takes 120 tokens" in generator.error


def test_threads_share_a_generator(generator: CGenerator) -> None:
    prompts = [prompt_of(length) for length in (1, 9, 31, 64)]
    wanted = [generator.tokens([prompt]) for prompt in prompts]

    def work(number: int) -> None:
        for _ in range(10):
            np.testing.assert_array_equal(generator.tokens([prompts[number]]), wanted[number])
            assert generator.call([[258 + number]])[0] == INPUT
            assert f"input_ids[0, 0] is {258 + number}," in generator.error

    with ThreadPoolExecutor(len(prompts)) as pool:
        list(pool.map(work, range(len(prompts))))


def test_many_generations_take_no_more_memory(generator: CGenerator) -> None:
    prompts = [prompt_of(60, seed) for seed in range(8)]  # whose caches have 77 kB

    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def generate(times: int) -> None:
        for _ in range(times):
            generator.tokens(prompts, max_new_tokens=10, temperature=1, stop=[])

    generate(50)
    before = resident()
    generate(200)
    assert resident() - before < 4 * 2**20


def test_sampled_tokens_are_as_often_as_they_are_likely(
    generator: CGenerator, artifact: Artifact
) -> None:
    prompt = prompt_of(9)
    decoder = open_generator(artifact, threads=1, ops="native").decoder
    logits, _ = decoder.prefill([np.array(prompt)], capacity=len(prompt))
    count = 2000
    for options in (
        {"top_k": 4},
        {"temperature": 0.7, "top_k": 6},
        {"top_p": 0.4},
        {"temperature": 1.4, "top_k": 8, "top_p": 0.8, "repetition_penalty": 1.2},
    ):
        scores = Sampling(**options).scores(logits[0], prompt)
        likely = np.exp(scores - scores.max())
        likely /= likely.sum()
        drawn = [
            int(generator.tokens([prompt], max_new_tokens=1, seed=seed, **options)[0, 0])
            for seed in range(count)
        ]
        often = np.bincount(drawn, minlength=258) / count
        assert not often[likely == 0].any()
        assert (np.abs(often - likely) <= 4.5 * np.sqrt(likely * (1 - likely) / count)).all()


def test_null_is_refused_or_harmless(generator: CGenerator, artifact: Artifact) -> None:
    lib, handle, lengths = generator.lib, c_void_p(), (c_size_t * 1)(3)
    rows = (POINTER(c_int64) * 1)()
    ignored = ON_TOKENS(lambda tokens, batch, user: 1)
    one = c_size_t(1)
    for status in (
        lib.reformer_open_generator(None, None, byref(handle)),
        lib.reformer_open_generator(bytes(artifact.path), None, None),
        lib.reformer_generate(None, rows, lengths, one, None, ignored, None),
        lib.reformer_generate(generator.handle, None, lengths, one, None, ignored, None),
        lib.reformer_generate(generator.handle, rows, None, one, None, ignored, None),
        lib.reformer_generate(generator.handle, rows, lengths, one, None, ON_TOKENS(), None),
        lib.reformer_generate(generator.handle, rows, lengths, one, None, ignored, None),
    ):
        assert status == USAGE
        assert generator.error.endswith(" is NULL")
    lib.reformer_close_generator(None)
    assert lib.reformer_generator_description(None) == b""
    unset = byref(GenerationOptions())
    ids = (POINTER(c_int64) * 1)((c_int64 * 3)(1, 2, 3))
    status = lib.reformer_generate(generator.handle, ids, lengths, one, unset, ignored, None)
    assert status == USAGE
    assert "reformer_generation_options.size is not set" in generator.error


# -- what cannot be --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prompts", [[], [[]], [[1, 258]], [[-1]], [[3] * (LONGEST + 1)], [[5], [300]]]
)
def test_prompts_that_the_model_does_not_take(
    generator: CGenerator, artifact: Artifact, tmp_path: Path, prompts: list[list[int]]
) -> None:
    with pytest.raises(ReformerError) as caught:
        open_generator(artifact).generate([np.array(prompt) for prompt in prompts])
    assert generator.call(prompts) == (INPUT, [])
    assert not missing_facts(generator.error, str(caught.value)), (generator.error, caught.value)
    if prompts:
        ran = run(tmp_path, artifact.path, prompts, "--output", tmp_path / "out.npy")
        assert (ran.code, ran.out) == (1, "")
        assert not (tmp_path / "out.npy").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_new_tokens": -1}, "--max-new-tokens -1: give 1 or more"),
        ({"temperature": -0.5}, "--temperature -0.5: give 0 or more"),
        ({"temperature": float("inf")}, "--temperature inf: give 0 or more"),
        ({"top_k": -1}, "--top-k -1: give 0 (all) or more"),
        ({"top_p": 1.5}, "--top-p 1.5: give more than 0 and at most 1"),
        ({"repetition_penalty": -1}, "--repetition-penalty -1: give more than 0"),
    ],
)
def test_settings_that_mean_nothing(
    generator: CGenerator, artifact: Artifact, options: dict[str, Any], said: str
) -> None:
    assert generator.call([prompt_of(3)], **options) == (USAGE, [])
    assert generator.error == said
    (name, value), *_ = options.items()
    option = f"--{name.replace('_', '-')}"
    ran = in_cpp(artifact.path, "--text", "x", "--generate", f"{option}={value}")
    assert (ran.code, ran.error) == (2, f"error: {said}")


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
def test_wrong_usage(artifact: Artifact, arguments: list[object], said: str) -> None:
    ran = in_cpp(artifact.path, "--text", "x", *arguments)
    assert ran.code == 2
    assert said in ran.error


def test_an_artifact_without_a_decoder(
    lib: ctypes.CDLL, fixtures: Fixtures, tmp_path: Path
) -> None:
    path = fixtures.artifact("text-generation", TINY).path
    ran = run(tmp_path, path, [prompt_of(3)])
    assert ran.code == 2
    assert ran.error.endswith(
        "holds no decoder: export it with reformer-export to-onnx --task text-generation-with-past"
    )
    handle = c_void_p(1)
    assert lib.reformer_open_generator(bytes(path), None, byref(handle)) == USAGE
    assert handle.value is None


def edited(artifact: Artifact, folder: Path, change: Callable[[Any], object]) -> Path:
    """A copy with another record of the decoder."""
    copy = Path(shutil.copytree(artifact.path, folder))
    formats = read_raw_manifest(copy / "manifest.json")["formats"]  # type: ignore[index]
    change(formats[DECODER])
    edit_manifest(copy, formats=formats)
    return copy


def test_operators(artifact: Artifact, tmp_path: Path) -> None:
    """What our kernels do not run, and what is not there."""
    portable = edited(artifact, tmp_path / "portable", lambda record: record.update(ops="portable"))
    ran = run(tmp_path, portable, [prompt_of(3)], "--ops", "native")
    assert ran.code == 2
    assert "it was exported with --ops portable" in ran.error
    later = edited(
        artifact,
        tmp_path / "later",
        lambda record: record["details"]["ops"].update(ChunkAttentionStep=99),
    )
    ran = run(tmp_path, later, [prompt_of(3)], "--ops", "native")
    assert ran.code == 2
    assert "it has ChunkAttentionStep version 99, which this release does not know" in ran.error
    np.testing.assert_array_equal(
        tokens_of(tmp_path, later, [prompt_of(3)]),
        in_python(artifact.path, [prompt_of(3)], ops="portable"),
    )
    nowhere = ("--ops-folder", tmp_path / "nowhere")
    assert run(tmp_path, artifact.path, [prompt_of(3)], "--ops", "native", *nowhere).code == 1
    ran = run(tmp_path, artifact.path, [prompt_of(3)], *nowhere)
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
    artifact: Artifact, tmp_path: Path, change: Callable[[Any], object], said: str | None
) -> None:
    copy = edited(artifact, tmp_path / "copy", change)
    ran = run(tmp_path, copy, [prompt_of(3)])
    assert ran.code == (0 if said is None else 1), ran
    assert said is None or said in ran.error


@pytest.mark.parametrize("file", DECODER_FILES)
def test_weights_outside_the_artifact(artifact: Artifact, tmp_path: Path, file: str) -> None:
    copy = Path(shutil.copytree(artifact.path, tmp_path / "copy"))
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


# -- texts, by a decoder that says what it is told to ----------------------------------------------


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
    formats = read_raw_manifest(folder / "manifest.json")["formats"]  # type: ignore[index]
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
    told = in_cpp(*arguments, "--json").document
    text = data.decode("utf-8", "replace")
    assert (told["text"], told["encoding"]) == (text, "bytes")
    assert bytes(told["tokens"][0]) == data
    np.testing.assert_array_equal(
        told["tokens"], in_python(path, [[ord("x")]], max_new_tokens=len(data))
    )
    # Byte for byte, as no terminal must obey what a model says.
    done = subprocess.run(
        [str(built() / "reformer-run"), *map(str, arguments)],
        env=os.environ | environment(),
        capture_output=True,
        check=False,
    )
    shown = "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in text)
    assert done.stdout.decode() == shown + "\n"


def test_no_part_of_a_character_is_written(tmp_path: Path) -> None:
    """Each write is text, and there is one for each character, when it is there."""
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


def test_tokens_that_are_no_bytes(artifact: Artifact, tmp_path: Path) -> None:
    """Their ids are in the document, and they are no part of the text."""
    path = with_configs(artifact.path, tmp_path / "copy", generation_config={})
    for seed in range(40):
        arguments = ("--temperature", 50, "--seed", seed, "--max-new-tokens", 60, "--stop", 999)
        told = in_cpp(path, "--text", "x", "--generate", *arguments, "--json").document
        tokens = told["tokens"][0]
        if min(tokens) < 2:
            break
    else:
        pytest.fail("no seed draws ids 0 and 1")
    data = bytes(token - 2 for token in tokens if token >= 2)
    assert told["text"] == data.decode("utf-8", "replace")
    assert told["encoding"] == "bytes + 2"


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


# -- a program in C++, and the sanitizers ----------------------------------------------------------


def test_the_example(artifact: Artifact, tmp_path: Path) -> None:
    program, folder = tmp_path / "generate", built()
    command = ["c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{RUNTIME / 'include'}"]
    command += [str(ROOT / "examples/cpp/generate.cpp"), "-o", str(program)]
    command += [f"-L{folder}", "-lreformer", f"-Wl,-rpath,{folder}"]
    subprocess.run(command, check=True)

    def start(*arguments: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [str(program), *map(str, arguments)],
            env=os.environ | environment(),
            capture_output=True,
            check=False,
        )

    prompt = b"Porfirij"
    done = start(artifact.path, prompt.decode())
    ids = [byte + 2 for byte in prompt]
    tokens = in_python(artifact.path, [ids], max_new_tokens=100)[0].tolist()
    assert done.returncode == 0, done.stderr
    assert done.stdout == prompt + bytes(t - 2 for t in tokens if t >= 2) + b"\n"
    assert b"native operators" in done.stderr
    long = start(artifact.path, "x" * 115, 0)
    assert long.returncode == 0
    assert b"stopped after 6 tokens: the model takes 120 tokens" in long.stderr
    assert start().returncode == 2
    assert b"error: input_ids holds an empty sequence" in start(artifact.path, "").stderr


@pytest.mark.slow
def test_under_sanitizers(sanitized: Path, artifact: Artifact, tmp_path: Path) -> None:
    env = os.environ | environment() | {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1"}
    for length, batch, code, arguments in (
        (1, 1, 0, ()),
        (31, 3, 0, ("--ops", "portable", "--top-p", "0.5", "--seed", "3")),
        (12, 2, 0, ("--ops", "native", "--top-k", "3", "--repetition-penalty", "2")),
        (LONGEST, 2, 1, ("--json",)),
    ):
        ids = np.array([prompt_of(length, row) for row in range(batch)])
        np.save(tmp_path / "ids.npy", ids)
        command = [str(sanitized / "reformer-run"), str(artifact.path), "--generate"]
        command += ["--input-ids", str(tmp_path / "ids.npy"), "--output", str(tmp_path / "out.npy")]
        done = subprocess.run(
            [*command, *arguments], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert "Sanitizer" not in done.stderr
        assert "runtime error" not in done.stderr
