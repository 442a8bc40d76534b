"""Tests that run in another process, where a stand-in replaces NVIDIA's driver.

In the process of the other tests, code that looks for a driver must find none. A crash of the other
process is only a failed test. Such a test cannot skip itself: only errors come back.
"""

from __future__ import annotations

import functools
import gc
import importlib
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar, cast

from .building import build
from .stand_in import StandIn

SECONDS = 300
"""Time limit of a test. All tests need less, so a test that exceeds it hangs and has failed."""

Test = TypeVar("Test", bound=Callable[..., None])

_here: StandIn | None = None


def beside_stand_in(test: Test) -> Test:
    """Runs a test in the process with the stand-in; the test must leave no image and no context."""

    @functools.wraps(test)
    def run_there(*arguments: Any, **keywords: Any) -> None:
        process = _process()
        try:
            done = process.submit(_run, test.__module__, test.__name__, arguments, keywords)
            done.result(SECONDS)
        except (BrokenProcessPool, TimeoutError):
            _process.cache_clear()
            raise

    return cast(Test, run_there)


def in_new_process(test: Test) -> Test:
    """Runs a test in a new process, which has loaded neither a driver nor onnxruntime."""

    @functools.wraps(test)
    def run_there(*arguments: Any, **keywords: Any) -> None:
        build()
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
            done = process.submit(_call, test.__module__, test.__name__, arguments, keywords)
            done.result(SECONDS)

    return cast(Test, run_there)


def stand_in(*capabilities: int) -> StandIn:
    """The stand-in of this process, after a reset, with GPUs of these compute capabilities."""
    assert _here is not None, "this process has no stand-in"
    _here.reset(*capabilities)
    return _here


@functools.cache
def _process() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, context, initializer=_start, initargs=(build(),))


def _start(folder: Path) -> None:
    global _here
    _here = StandIn(folder)


def _call(module: str, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    getattr(importlib.import_module(module), name).__wrapped__(*arguments, **keywords)


def _run(module: str, name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    driver = stand_in(80)
    driver.take_back()  # images and contexts of a failed test
    driver.errors.clear()
    try:
        _call(module, name, arguments, keywords)
    finally:
        for error in driver.errors:
            raise error
    gc.collect()
    left = (driver.images, driver.contexts)
    assert left == (0, 0), f"the test leaves {left[0]} images and {left[1]} contexts"
