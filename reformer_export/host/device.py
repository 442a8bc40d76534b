"""Where a model runs: "cpu", "cuda" or "cuda:1"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from reformer_export.errors import UsageError

CPU, CUDA = "cpu", "cuda"

GraphChoice = Literal["auto", "off"]
"""True if runs on a GPU are captured as CUDA graphs, see docs/cuda.md."""

GRAPH_CHOICES: tuple[str, ...] = get_args(GraphChoice)

DEFAULT_TARGETS = ("sm80", "sm89", "sm90")
"""GPUs that kernels are compiled for. Those of sm80 run on all later ones, if not as fast."""

_SPELLING = re.compile(r"(cpu|cuda)(?::(\d+))?")


@dataclass(frozen=True)
class Device:
    """A processor: the CPU, or the GPU that CUDA numbers `index`."""

    kind: str
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == CPU else f"{self.kind}:{self.index}"


def parse_device(text: str) -> Device:
    """The device that a user names; UsageError if there is no such kind."""
    found = _SPELLING.fullmatch(text)
    if found is None or (found[1] == CPU and found[2]):
        raise UsageError(
            f"unknown device {text!r}: it is cpu, cuda, or cuda:N for the GPU number N"
        )
    return Device(found[1], int(found[2] or 0))
