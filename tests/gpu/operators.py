"""Every case of every operator, by the kernels that torch runs on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from reformer_ops import torch_ops  # noqa: F401  (registers the operators)
from reformer_ops.core.spec import OpSpec

from ..ops import tolerances as law
from .record import Place, Record

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def cases() -> list[str]:
    """Every case in every type."""
    return list(_by_name())


def run(names: Sequence[str], record: Record, place: Place) -> None:
    """Hold each to the numeric law of docs/ops.md, and run it twice."""
    torch.set_num_threads(1)
    known = _by_name()
    for name in names:
        op, number, dtype = known[name]
        with record.case(name) as figures:
            case = law.exact_in(law.cases(op)[number], op, dtype)
            arguments = law.torch_arguments(op, case, dtype)
            given = [a.to(place.device) if isinstance(a, torch.Tensor) else a for a in arguments]
            operator = getattr(torch.ops.reformer, op.torch_name)
            found, again = (law.as_numpy(operator(*given).cpu()) for _ in range(2))
            wanted = law.expected(op, case)
            if found.dtype == np.int32:
                figures["flips"] = int((found != wanted).sum())
            else:
                figures["error"] = law.error(found, wanted) / float(np.abs(wanted).max())
            law.check(op, case, dtype, found, wanted)
            if found.tobytes() != again.tobytes():
                raise AssertionError("two calls with the same inputs gave different bytes")


def _by_name() -> dict[str, tuple[OpSpec, int, str]]:
    found = {}
    for short, dtype in DTYPES.items():
        for op, number in law.ALL_CASES:
            found[f"{op.name} {short}: {law.cases(op)[number].name}"] = op, number, dtype
    return found
