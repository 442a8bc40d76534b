"""libreformer through its C interface, in this process: threads, memory, errors."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ctypes import byref, c_int64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reformer_export.artifact import Artifact
from reformer_export.runtimes import open_runner

from ..tools.artifact_fixtures import make_artifact
from ..tools.model_fixtures import Feeds, feeds
from .programs import Limits, Options, Tensor, environment, library

OK, USAGE, ARTIFACT, INPUT, UNAVAILABLE, NATIVE = 0, 1, 2, 3, 5, 6
FLOAT32 = 11


@pytest.fixture(scope="module")
def lib() -> Iterator[ctypes.CDLL]:
    loaded = library()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment().items():
            patch.setenv(name, value)
        yield loaded


@pytest.fixture
def session(lib: ctypes.CDLL, artifact: Artifact) -> Iterator[c_void_p]:
    opened = c_void_p()
    options = Options(ctypes.sizeof(Options), None, b"native", 1, None, None)
    assert lib.reformer_open(bytes(artifact.path), byref(options), byref(opened)) == OK
    yield opened
    lib.reformer_close(opened)


def pointer(array: np.ndarray | None) -> c_void_p | None:
    return None if array is None else array.ctypes.data_as(c_void_p)


def run(lib: ctypes.CDLL, session: c_void_p, inputs: Feeds) -> np.ndarray:
    """The logits, in a copy."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    outputs, tensor = c_void_p(), Tensor()
    status = lib.reformer_run(session, pointer(ids), pointer(mask), *ids.shape, byref(outputs))
    assert status == OK, lib.reformer_last_error()
    assert lib.reformer_output_count(outputs) == 1
    assert lib.reformer_output(outputs, 0, byref(tensor)) == OK
    assert (tensor.name, tensor.dtype) == (b"logits", FLOAT32)
    shape = tensor.shape[: tensor.rank]
    data = ctypes.string_at(tensor.data, tensor.bytes)
    lib.reformer_free_outputs(outputs)
    return np.frombuffer(data, np.float32).reshape(shape)


def test_the_same_numbers(lib: ctypes.CDLL, session: c_void_p, artifact: Artifact) -> None:
    runner = open_runner(artifact, ops="native", threads=1)
    for size in ((1, 1), (31, 2), (120, 1)):
        inputs = feeds(*size, vocab_size=258)
        expected = runner.run(inputs)["logits"]
        np.testing.assert_array_equal(run(lib, session, inputs), expected)
    assert lib.reformer_description(session).decode() == runner.description


def test_without_a_mask_all_are_tokens(lib: ctypes.CDLL, session: c_void_p) -> None:
    inputs = feeds(20, vocab_size=258)
    ids = inputs["input_ids"]
    outputs = c_void_p()
    assert lib.reformer_run(session, pointer(ids), None, *ids.shape, byref(outputs)) == OK
    tensor = Tensor()
    lib.reformer_output(outputs, 0, byref(tensor))
    found = np.frombuffer(ctypes.string_at(tensor.data, tensor.bytes), np.float32)
    np.testing.assert_array_equal(found, run(lib, session, inputs).ravel())
    lib.reformer_free_outputs(outputs)


def test_what_the_model_takes(lib: ctypes.CDLL, session: c_void_p) -> None:
    limits: Limits = lib.reformer_limits_of(session)
    assert (limits.vocab_size, limits.min_length, limits.max_length) == (258, 1, 120)


def test_threads_share_a_session(lib: ctypes.CDLL, session: c_void_p) -> None:
    """Each thread gets its own numbers and its own errors."""
    inputs = [feeds(length, vocab_size=258) for length in (1, 9, 31, 64, 100, 120)]
    expected = [run(lib, session, each) for each in inputs]
    start = threading.Barrier(len(inputs))

    def work(number: int) -> None:
        start.wait()
        wrong = np.full((1, 3), 258 + number)
        for _ in range(20):
            np.testing.assert_array_equal(
                run(lib, session, inputs[number]), expected[number], strict=True
            )
            status = lib.reformer_run(session, pointer(wrong), None, 1, 3, byref(c_void_p()))
            assert status == INPUT
            assert f"input_ids[0, 0] is {258 + number},".encode() in lib.reformer_last_error()

    with ThreadPoolExecutor(len(inputs)) as pool:
        list(pool.map(work, range(len(inputs))))


def resident() -> int:
    """The resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_thousand_runs_take_no_more_memory(lib: ctypes.CDLL, session: c_void_p) -> None:
    inputs = feeds(120, vocab_size=258)  # the logits are 124 kB; a leak would be 124 MB
    for _ in range(200):
        run(lib, session, inputs)
    before = resident()
    for _ in range(1000):
        run(lib, session, inputs)
    assert resident() - before < 2 * 2**20


def test_sessions_give_their_memory_back(lib: ctypes.CDLL, tmp_path: Path) -> None:
    folder = bytes(make_artifact(tmp_path / "artifact", vocab_size=1024))  # 4 MB of weights

    def reopen() -> None:
        opened = c_void_p()
        assert lib.reformer_open(folder, None, byref(opened)) == OK
        lib.reformer_close(opened)

    for _ in range(10):
        reopen()
    before = resident()
    for _ in range(50):
        reopen()
    assert resident() - before < 8 * 2**20


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (Options(), USAGE, "reformer_options.size is not set"),
        (Options(48, b"fast"), USAGE, "unknown runtime 'fast': choose auto or one of "),
        (Options(48, None, b"fast"), USAGE, "unknown operators 'fast': choose one of"),
        (Options(48, None, None, -1), USAGE, "--threads -1: at least one thread is needed"),
        (Options(48, None, b"native", 0, None, b"/nowhere"), NATIVE, "in /nowhere"),
        (Options(48, None, None, 0, b"/nowhere"), UNAVAILABLE, "names /nowhere, where there is no"),
        (Options(48, None, None, 0, b"/bin/sh"), UNAVAILABLE, "this process has loaded "),
    ],
)
def test_options_that_cannot_be_met(
    lib: ctypes.CDLL, session: Any, artifact: Artifact, options: Options, status: int, said: str
) -> None:
    opened = c_void_p(1)
    assert lib.reformer_open(bytes(artifact.path), byref(options), byref(opened)) == status
    assert said in lib.reformer_last_error().decode()
    assert opened.value is None


def test_null_is_refused_or_harmless(lib: ctypes.CDLL, session: c_void_p) -> None:
    ids, outputs = np.zeros((1, 3), np.int64), c_void_p()
    calls = [
        lambda: lib.reformer_check(None),
        lambda: lib.reformer_open(None, None, byref(outputs)),
        lambda: lib.reformer_open(b"x", None, None),
        lambda: lib.reformer_run(None, pointer(ids), None, 1, 3, byref(outputs)),
        lambda: lib.reformer_run(session, None, None, 1, 3, byref(outputs)),
        lambda: lib.reformer_run(session, pointer(ids), None, 1, 3, None),
        lambda: lib.reformer_output(None, 0, byref(Tensor())),
    ]
    for call in calls:
        assert call() == USAGE
        assert lib.reformer_last_error().endswith(b" is NULL")
    lib.reformer_close(None)
    lib.reformer_free_outputs(None)
    assert lib.reformer_output_count(None) == 0
    assert lib.reformer_description(None) == b""


@pytest.mark.parametrize(
    ("batch", "length"), [(0, 3), (1, 0), (-1, 3), (2**62, 2**62), (1, 2**61), (1, 121)]
)
def test_sizes_that_cannot_be(lib: ctypes.CDLL, session: c_void_p, batch: int, length: int) -> None:
    ids = np.zeros((1, 3), np.int64)
    size = (c_int64(batch), c_int64(length))
    assert lib.reformer_run(session, pointer(ids), None, *size, byref(c_void_p())) == INPUT
    assert lib.reformer_last_error()


def test_an_output_that_is_not(lib: ctypes.CDLL, session: c_void_p) -> None:
    ids, outputs = np.zeros((1, 3), np.int64), c_void_p()
    assert lib.reformer_run(session, pointer(ids), None, 1, 3, byref(outputs)) == OK
    assert lib.reformer_output(outputs, 1, byref(Tensor())) == USAGE
    assert lib.reformer_last_error() == b"there is no output 1 of 1"
    lib.reformer_free_outputs(outputs)


def test_what_is_no_artifact(lib: ctypes.CDLL, artifact: Artifact, tmp_path: Path) -> None:
    assert lib.reformer_check(bytes(artifact.path)) == OK
    assert lib.reformer_check(bytes(tmp_path)) == ARTIFACT
    assert b"has no manifest.json, so it is not an artifact" in lib.reformer_last_error()
