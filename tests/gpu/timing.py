"""Measures how long work on a GPU takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

Work = Callable[[], Any]

WARM_UP = 3
LEAST, MOST = 5, 50
SECONDS = 0.4
"""Seconds for one measurement, after its warm-up."""
PATIENCE = 5
"""A measurement ends after this many times its seconds, even with few runs; so does the warm-up of
`by_clock`."""


def on_gpu(work: Work, device: str, *, seconds: float = SECONDS) -> float:
    """Milliseconds between two events around the work: the median of several runs."""
    if device == "cpu":
        return by_clock(work, device, seconds=seconds)
    for _ in range(WARM_UP):
        work()
    torch.cuda.synchronize()
    times: list[float] = []
    begun = time.perf_counter()
    while not _enough(len(times), time.perf_counter() - begun, seconds, LEAST):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        stop.record()
        stop.synchronize()
        times.append(start.elapsed_time(stop))
    return statistics.median(times)


def by_clock(
    work: Work, device: str, *, seconds: float = SECONDS, least: int = LEAST, warm_up: int = WARM_UP
) -> float:
    """Milliseconds until the GPU is done, on the clock of the CPU: the median of several runs."""

    def wait() -> None:
        if device != "cpu":
            torch.cuda.synchronize()

    begun = time.perf_counter()
    for _ in range(warm_up):
        work()
        if time.perf_counter() - begun > PATIENCE * seconds:
            break
    wait()
    times: list[float] = []
    begun = time.perf_counter()
    while not _enough(len(times), time.perf_counter() - begun, seconds, least):
        start = time.perf_counter()
        work()
        wait()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def replayed(work: Work) -> Work:
    """Capture the work as a CUDA graph; returns a function that replays it on the same tensors.

    Raises:
        RuntimeError: the work does something that cannot be captured.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = work()

    def replay() -> Any:
        graph.replay()
        return kept

    return replay


def _enough(runs: int, spent: float, seconds: float, least: int) -> bool:
    """True if this number of runs, in `spent` seconds, is enough."""
    if runs < least:
        return runs > 0 and spent > PATIENCE * seconds
    return runs >= MOST or spent >= seconds
