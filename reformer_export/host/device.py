"""Where a model runs: "cpu", "cuda" or "cuda:1"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from reformer_export.errors import UsageError

CPU, CUDA = "cpu", "cuda"

GraphChoice = Literal["auto", "off"]
"""Whether runs on a GPU are captured as CUDA graphs: "auto" or "off", see docs/cuda.md."""

GRAPH_CHOICES: tuple[str, ...] = get_args(GraphChoice)

DEFAULT_TARGETS = ("sm80", "sm89", "sm90")
"""Default targets of the compiled kernels. Those of sm80 run on later GPUs too, but not as fast."""

_SPELLING = re.compile(r"(cpu|cuda)(?::(\d+))?")


@dataclass(frozen=True)
class Device:
    """A processor: the CPU, or the GPU with CUDA's number `index`."""

    kind: str
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == CPU else f"{self.kind}:{self.index}"


def parse_device(text: str) -> Device:
    """Parse the name of a device; UsageError if the name is not valid."""
    found = _SPELLING.fullmatch(text)
    if found is None or (found[1] == CPU and found[2]):
        raise UsageError(
            f"unknown device {text!r}: it is cpu, cuda, or cuda:N for the GPU number N"
        )
    return Device(found[1], int(found[2] or 0))
