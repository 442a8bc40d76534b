"""What a check consists of: parts, each made of cases, in one registry."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from .record import Place, Record


@dataclass(frozen=True)
class Part:
    """A module of cases, and what it takes to run them.

    Attributes:
        name: what `--only` calls it.
        about: what it shows, in a line.
        module: a `PartModule`, by its name.
        needs: of `needs.NEEDS`. Where one is not there the part is skipped, with the reason.
        processes: how many share its cases, each a process of its own.
        limit: seconds that one of them may take.
        threads: CPU threads of each; all there are where `alone`.
        alone: nothing else runs meanwhile: it measures time.
        scattered: cases of one group may run in several processes.
    """

    name: str
    about: str
    module: str
    needs: tuple[str, ...]
    processes: int
    limit: float
    threads: int = 1
    alone: bool = False
    scattered: bool = False

    def load(self) -> PartModule:
        """The module; whatever it raises when imported."""
        module: Any = importlib.import_module(self.module)
        return cast("PartModule", module)


class PartModule(Protocol):
    """What a part's module has.

    A case is named "group: the rest". Cases of a group run in one process, in their order, unless
    the part is `scattered`. A module may also have `conclude(tables) -> list[str]`: sentences for
    the page, about what all processes have measured.
    """

    def cases(self) -> list[str]:
        """The names of all cases. Takes no GPU."""
        ...

    def run(self, names: Sequence[str], record: Record, place: Place) -> None:
        """Run these cases and record each."""
        ...


def group_of(case: str) -> str:
    """The group that a case belongs to."""
    return case.partition(": ")[0]


def shares(cases: Sequence[str], processes: int, *, scattered: bool = False) -> list[list[str]]:
    """The cases dealt to at most so many processes; groups kept together unless `scattered`."""
    groups = [[case] for case in cases] if scattered else list(grouped(cases).values())
    dealt: list[list[str]] = [[] for _ in range(max(1, min(processes, len(groups))))]
    for group in sorted(groups, key=len, reverse=True):
        min(dealt, key=len).extend(group)
    return [share for share in dealt if share]


def grouped(cases: Sequence[str]) -> dict[str, list[str]]:
    """The cases by their group."""
    groups: dict[str, list[str]] = {}
    for case in cases:
        groups.setdefault(group_of(case), []).append(case)
    return groups


PARTS: tuple[Part, ...] = (
    Part(
        "onnxruntime",
        "exported models in ONNX Runtime on CUDA, with our kernels, with and without CUDA graphs",
        "tests.gpu.onnxruntime_cuda",
        ("gpu", "torch-cuda", "triton", "onnx", "onnxruntime-cuda", "operator-library"),
        processes=6,
        limit=200,
        threads=2,
    ),
    Part(
        "models",
        "whole models in torch on CUDA against the CPU, and Transformers",
        "tests.gpu.models",
        ("gpu", "torch-cuda", "triton"),
        processes=4,
        limit=150,
        threads=2,
    ),
    Part(
        "training",
        "gradients on CUDA against the CPU, and a training step twice",
        "tests.gpu.training",
        ("gpu", "torch-cuda", "triton"),
        processes=2,
        limit=120,
    ),
    Part(
        "tensorrt",
        "an engine of TensorRT built and run",
        "tests.gpu.tensorrt",
        ("gpu", "torch-cuda", "onnx", "tensorrt"),
        processes=1,
        limit=120,
    ),
    Part(
        "operators",
        "every case of every operator by the Triton kernels, within the tolerances",
        "tests.gpu.operators",
        ("gpu", "torch-cuda", "triton"),
        processes=14,
        limit=120,
        scattered=True,
    ),
    Part(
        "speed",
        "times of operators, whole models and training, beside what the GPU can do",
        "tests.gpu.speed",
        ("gpu", "torch-cuda", "triton"),
        processes=2,
        limit=75,
        alone=True,
    ),
    Part(
        "speed-onnxruntime",
        "times of ONNX Runtime on CUDA, beside those of torch",
        "tests.gpu.speed_onnxruntime",
        ("gpu", "torch-cuda", "triton", "onnx", "onnxruntime-cuda", "operator-library"),
        processes=1,
        limit=70,
        alone=True,
    ),
)
"""In the order in which they start: what shows that all is right, the longest of it first; what
measures times when that is done."""
