"""The best rate at which torch multiplies fp32 matrices here: the roof that models are held to."""

from __future__ import annotations

import time
from dataclasses import dataclass

from reformer_export.optional import require

# (rows, inner, columns). Which shape is fastest depends on the machine; all are big enough that
# the rate doesn't rise with size any more.
SHAPES = ((1024, 1024, 1024), (2048, 2048, 2048), (4096, 1024, 1024))


@dataclass(frozen=True)
class GemmRate:
    """1e9 operations a second, and how many cores this process got while it lasted.

    Matrix products keep all their threads busy, so less means that somebody else was running.
    """

    gflops: float
    cores: float


class Gemm:
    """Matrix products of several shapes, done over and over."""

    def __init__(self, shapes: tuple[tuple[int, int, int], ...] = SHAPES) -> None:
        self._torch = require("torch", purpose="measuring the GEMM rate")
        make = self._torch.randn
        self._operands = [
            (make(rows, inner), make(inner, columns), make(rows, columns))
            for rows, inner, columns in shapes
        ]

    def measure(self) -> GemmRate:
        """Do every product once; the rate of the fastest."""
        rates = []
        began, cpu_began = time.perf_counter(), time.process_time()
        for left, right, out in self._operands:
            start = time.perf_counter()
            self._torch.mm(left, right, out=out)
            seconds = time.perf_counter() - start
            rates.append(2 * left.shape[0] * left.shape[1] * right.shape[1] / seconds / 1e9)
        cores = (time.process_time() - cpu_began) / (time.perf_counter() - began)
        return GemmRate(max(rates), cores)
