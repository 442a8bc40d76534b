"""Every case of every operator, with the kernels that torch runs on a GPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from reformer_ops import torch_ops  # noqa: F401  (registers the operators)
from reformer_ops.core.spec import OpSpec

from ..ops import tolerances
from .record import Place, Record

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def cases() -> list[str]:
    """Every case in every type."""
    return list(_by_name())


def run(names: Sequence[str], record: Record, place: Place) -> None:
    """Check each against the tolerances of docs/ops.md, and compare the bytes of two runs."""
    torch.set_num_threads(1)
    known = _by_name()
    for name in names:
        op, number, dtype = known[name]
        with record.case(name) as figures:
            case = tolerances.exact_in(tolerances.cases(op)[number], op, dtype)
            arguments = tolerances.torch_arguments(op, case, dtype)
            given = [a.to(place.device) if isinstance(a, torch.Tensor) else a for a in arguments]
            operator = getattr(torch.ops.reformer, op.torch_name)
            found, again = (tolerances.as_numpy(operator(*given).cpu()) for _ in range(2))
            wanted = tolerances.expected(op, case)
            if found.dtype == np.int32:
                figures["flips"] = int((found != wanted).sum())
            else:
                figures["error"] = tolerances.error(found, wanted) / float(np.abs(wanted).max())
            tolerances.check(op, case, dtype, found, wanted)
            if found.tobytes() != again.tobytes():
                raise AssertionError("two calls with the same inputs gave different bytes")


def _by_name() -> dict[str, tuple[OpSpec, int, str]]:
    found = {}
    for short, dtype in DTYPES.items():
        for op, number in tolerances.ALL_CASES:
            found[f"{op.name} {short}: {tolerances.cases(op)[number].name}"] = op, number, dtype
    return found
