"""The C and C++ interfaces of generation give the tokens that Python gives."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, byref, c_double, c_int, c_int64, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reformer_export import open_generator
from reformer_export.artifact import Artifact
from reformer_export.errors import ReformerError
from reformer_export.generation.sampling import Sampling

from ..tools.model_fixtures import TINY, Fixtures
from .generating import (
    INPUT,
    LIMIT,
    LONGEST,
    OK,
    USAGE,
    Tokens,
    in_python,
    prompt_of,
    run,
)
from .programs import (
    ROOT,
    RUNTIME,
    Options,
    built,
    environment,
    in_cpp,
    library,
    missing_facts,
)


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
def generator(lib: ctypes.CDLL, decoder: Artifact) -> Iterator[CGenerator]:
    made = opened(lib, decoder.path)
    yield made
    lib.reformer_close_generator(made.handle)


def test_c_gives_the_same_tokens(generator: CGenerator, decoder: Artifact) -> None:
    prompts = [prompt_of(length) for length in (30, 1, 7, 30)]
    np.testing.assert_array_equal(generator.tokens(prompts), in_python(decoder.path, prompts))
    found = generator.tokens(prompts, max_new_tokens=5, repetition_penalty=1.5, stop=[])
    wanted = in_python(decoder.path, prompts, max_new_tokens=5, repetition_penalty=1.5, stop=[])
    np.testing.assert_array_equal(found, wanted)
    printed = generator.lib.reformer_generator_description(generator.handle).decode()
    assert printed == open_generator(decoder, threads=1, ops="native").description


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
    prompts = [prompt_of(60, seed) for seed in range(8)]  # their caches take 77 kB

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
    generator: CGenerator, decoder: Artifact
) -> None:
    prompt = prompt_of(9)
    prefill = open_generator(decoder, threads=1, ops="native").decoder.prefill
    logits, _ = prefill([np.array(prompt)], capacity=len(prompt))
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


def test_null_is_refused_or_harmless(generator: CGenerator, decoder: Artifact) -> None:
    lib, handle, lengths = generator.lib, c_void_p(), (c_size_t * 1)(3)
    rows = (POINTER(c_int64) * 1)()
    ignored = ON_TOKENS(lambda tokens, batch, user: 1)
    one = c_size_t(1)
    for status in (
        lib.reformer_open_generator(None, None, byref(handle)),
        lib.reformer_open_generator(bytes(decoder.path), None, None),
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


@pytest.mark.parametrize(
    "prompts", [[], [[]], [[1, 258]], [[-1]], [[3] * (LONGEST + 1)], [[5], [300]]]
)
def test_prompts_that_the_model_does_not_take(
    generator: CGenerator, decoder: Artifact, tmp_path: Path, prompts: list[list[int]]
) -> None:
    with pytest.raises(ReformerError) as caught:
        open_generator(decoder).generate([np.array(prompt) for prompt in prompts])
    assert generator.call(prompts) == (INPUT, [])
    assert not missing_facts(generator.error, str(caught.value)), (generator.error, caught.value)
    if prompts:
        ran = run(tmp_path, decoder.path, prompts, "--output", tmp_path / "out.npy")
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
    generator: CGenerator, decoder: Artifact, options: dict[str, Any], said: str
) -> None:
    assert generator.call([prompt_of(3)], **options) == (USAGE, [])
    assert generator.error == said
    (name, value), *_ = options.items()
    option = f"--{name.replace('_', '-')}"
    ran = in_cpp(decoder.path, "--text", "x", "--generate", f"{option}={value}")
    assert (ran.code, ran.error) == (2, f"error: {said}")


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


# -- a program in C++, and the sanitizers ----------------------------------------------------------


def test_the_example(decoder: Artifact, tmp_path: Path) -> None:
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
    done = start(decoder.path, prompt.decode())
    ids = [byte + 2 for byte in prompt]
    tokens = in_python(decoder.path, [ids], max_new_tokens=100)[0].tolist()
    assert done.returncode == 0, done.stderr
    assert done.stdout == prompt + bytes(t - 2 for t in tokens if t >= 2) + b"\n"
    assert b"native operators" in done.stderr
    long = start(decoder.path, "x" * 115, 0)
    assert long.returncode == 0
    assert b"stopped after 6 tokens: the model takes 120 tokens" in long.stderr
    assert start().returncode == 2
    assert b"error: input_ids holds an empty sequence" in start(decoder.path, "").stderr
