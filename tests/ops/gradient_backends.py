"""Every implementation of the gradients that the tests check against the tolerances."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from numpy.typing import NDArray

from reformer_ops import native_status
from reformer_ops.core.cases import Case

from .gradients import DTYPES, by_portable, by_torch, by_triton
from .isa_libraries import isa_libraries
from .torch_process import call_in

Array = NDArray[Any]


def by_isa(isa: str, op_name: str, case: Case, dtype: str) -> list[Array]:
    """Runs the native kernels for `isa` in another process; torch chooses once per process."""
    environment = (("REFORMER_OPS", "native"), ("REFORMER_FORCE_ISA", isa))
    found: list[Array] = call_in(
        environment, f"{by_torch.__module__}:by_torch", op_name, case, dtype
    )
    return found


@dataclass(frozen=True)
class Backend:
    """An implementation of the gradients, in each of `dtypes`."""

    name: str
    dtypes: tuple[str, ...]
    run: Callable[[str, Case, str], list[Array]]  # the output and the gradients
    slow: bool = False

    def __str__(self) -> str:
        return self.name


BACKENDS = [
    Backend("torch", DTYPES, by_torch),
    Backend("torch-portable", DTYPES, by_portable),
    *(
        [Backend("triton-interpreter", DTYPES, by_triton, slow=True)]
        if find_spec("triton")  # otherwise test_triton.py is skipped, and says why
        else []
    ),
    *(
        # The kernels are fp32; half types are converted around them.
        Backend(f"native-{isa}", ("float32",), partial(by_isa, isa))
        for isa in isa_libraries()
        if not native_status("torch").isa.startswith(isa)  # that one is "torch"
    ),
]
