"""Builds and runs a TensorRT engine of an artifact. TensorRT-RTX does not know H100 or H200."""

from __future__ import annotations

from collections.abc import Sequence

from reformer_export import open_runner, to_tensorrt
from reformer_export.verification.parity.compare import relative_error

from . import fixtures
from .comparing import Miss, example, tolerance
from .record import Place, Record

LENGTHS = (1, 64, 65, 500)


def cases() -> list[str]:
    """One model in two types."""
    return [f"c&p {dtype}: build and run" for dtype in ("fp32", "fp16")]


def run(names: Sequence[str], record: Record, place: Place) -> None:
    """Build each engine here, for this GPU, and compare its outputs end to end."""
    for case in names:
        dtype = case.partition(":")[0].rpartition(" ")[2]
        with record.case(case) as figures:
            made = fixtures.artifact("c&p", dtype, place, cuda=())
            engine = to_tensorrt(
                made,
                place.scratch / f"engine-{dtype}",
                verify=False,
                flavor="standard",
                dtype=dtype,
                max_shapes=["input_ids:1x1024"],
            )
            model = fixtures.loaded("c&p", dtype, place).in_fp32()
            reference = fixtures.runner(model, "fp32", "cpu")
            runner = open_runner(engine)
            for length in LENGTHS:
                inputs = example(runner.signature, length, 1).inputs
                error = relative_error(runner.run(inputs), reference.run(inputs))
                figures["error"] = max(figures.get("error", 0.0), error)
                if not error <= tolerance(dtype).output:
                    raise Miss(f"at {length} tokens outputs differ by {error:.1e} of their scale")
