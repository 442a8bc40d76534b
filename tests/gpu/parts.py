"""The registry of the parts of a check. Each part has cases."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from .record import Place, Record


@dataclass(frozen=True)
class Part:
    """A module of cases, and what they need to run.

    Attributes:
        name: its name for `--only`.
        about: what it shows, in one line.
        module: the name of a `PartModule`.
        needs: names in `needs.NEEDS`. If one is missing, the part is skipped, with the reason.
        processes: the number of processes that share its cases.
        limit: the most seconds that one process may take.
        threads: CPU threads of each process; a part that is `alone` uses all threads.
        alone: the part measures time, so no other process runs at the same time.
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
        """Import the module; raises whatever the import raises."""
        module: Any = importlib.import_module(self.module)
        return cast("PartModule", module)


class PartModule(Protocol):
    """The interface of a part's module.

    A case is named "group: the rest". Cases of a group run in one process, in their order, unless
    the part is `scattered`. A module may also have `conclude(tables) -> list[str]`: it returns
    sentences for the page, about the measurements of all processes.
    """

    def cases(self) -> list[str]:
        """The names of all cases. Needs no GPU."""
        ...

    def run(self, names: Sequence[str], record: Record, place: Place) -> None:
        """Run these cases and record the result of each."""
        ...


def group_of(case: str) -> str:
    """The group that a case belongs to."""
    return case.partition(": ")[0]


def shares(cases: Sequence[str], processes: int, *, scattered: bool = False) -> list[list[str]]:
    """The cases, divided among at most `processes`; groups stay together unless `scattered`."""
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
"""In the order in which they start: first the parts that check results, the longest first, then the
parts that measure times."""
