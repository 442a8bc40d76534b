"""Launches compiled ahead of time, without a GPU: PTX, cubin, and the resources that they need."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

from reformer_ops.core.errors import OpError, ReformerError
from reformer_ops.triton.launch import Launch

TARGETS = (75, 80, 86, 89, 90, 100, 120)
"""Compute capabilities: 80 is sm_80."""

_ALIGNED = [["tt.divisibility", 16]]
_SETTINGS = ("TRITON_", "MLIR_", "LLVM_", "PTXAS_", "DISABLE_PTXAS_", "NVPTX_", "USE_IR_LOC")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")


class CompilationError(ReformerError):
    """A kernel could not be compiled for a target."""


@dataclass(frozen=True)
class Compiled:
    """A kernel for one target, with the data for its launch.

    `shared_bytes` is the shared memory that the launch must request. `registers` and `stack_bytes`
    are those of a thread; `spill_bytes` are the bytes that a thread stores and loads because of
    missing registers.
    """

    entry: str
    target: int
    ptx: str
    cubin: bytes
    num_warps: int
    shared_bytes: int
    registers: int
    stack_bytes: int
    spill_bytes: int


def compile_launch(launch: Launch, target: int) -> Compiled:
    """Compile for a GPU of compute capability `target`.

    Pointers are assumed to be aligned to 16 bytes; every allocator of device memory does this. The
    result depends only on the launch, the target and Triton's version, not on environment
    variables, a cache or paths of this machine.

    The entry takes `launch.inputs`, `length` as i32, `launch.outputs` and two additional pointers
    to scratch memory, which these kernels do not use: pass null.

    Raises:
        OpError: the target is unknown, or does not support the type.
        CompilationError: Triton is not installed, or does not compile the kernel.
    """
    check_target(launch, target)
    try:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
    except ImportError as error:
        raise CompilationError(
            f"compiling kernels needs triton, which does not load ({error}): pip install triton"
        ) from error
    kernel = launch.kernel
    if not isinstance(kernel, triton.runtime.JITFunction):
        raise CompilationError("kernels of an interpreter don't compile: unset TRITON_INTERPRET")
    types = {a.name: a.type for a in (*launch.inputs, *launch.outputs)} | {"length": "i32"}
    source = ASTSource(
        fn=kernel,
        signature={name: types.get(name, "constexpr") for name in kernel.arg_names},
        constexprs={(kernel.arg_names.index(n),): v for n, v in launch.constants.items()},
        attrs={
            (place,): _ALIGNED
            for place, name in enumerate(kernel.arg_names)
            if types.get(name, "").startswith("*")
        },
    )
    options = {**launch.options, "ptx_version": _ptx_version(target)}
    with _on_our_terms() as log:
        try:
            result = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
        except Exception as error:  # Triton's errors share no base class
            lines = str(error).strip().splitlines()
            raise CompilationError(
                f"{launch.name} does not compile for sm_{target}: "
                f"{type(error).__name__}{f': {lines[-1]}' if lines else ''}"
            ) from error
    registers, stack, spilled = _resources(log.getvalue())
    metadata: Any = result.metadata
    return Compiled(
        entry=metadata.name,
        target=target,
        ptx=result.asm["ptx"],
        cubin=result.asm["cubin"],
        num_warps=metadata.num_warps,
        shared_bytes=metadata.shared,
        registers=registers,
        stack_bytes=stack,
        spill_bytes=spilled,
    )


def check_target(launch: Launch, target: int) -> None:
    """Raises OpError if the target is not supported or does not have the launch's types."""
    if target not in TARGETS:
        raise OpError(
            f"kernels are compiled for {', '.join(f'sm{t}' for t in TARGETS)}; got sm{target}"
        )
    if target < 80 and any(a.type == "*bf16" for a in (*launch.inputs, *launch.outputs)):
        raise OpError(f"sm{target} does not compute in bfloat16: use float16, or sm80 and later")


def _ptx_version(target: int) -> int:
    """The oldest version of PTX that supports the target, so that old drivers accept it too."""
    return 80 if target <= 90 else 86 if target == 100 else 87


@contextmanager
def _on_our_terms() -> Iterator[StringIO]:
    """Run Triton without settings from the environment, with its cache in a temporary folder.

    Yields its output, which contains ptxas's report of resources.
    """
    former = dict(os.environ)
    for name in former:
        if name.startswith(_SETTINGS):
            del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="reformer-triton-") as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        os.environ["TRITON_DISABLE_LINE_INFO"] = "1"  # it would contain paths of this machine
        os.environ["TRITON_DUMP_PTXAS_LOG"] = "1"
        try:
            with redirect_stdout(StringIO()) as printed:
                yield printed
        finally:
            os.environ.clear()
            os.environ.update(former)


def _resources(log: str) -> tuple[int, int, int]:
    """(registers, bytes of stack, bytes spilled) of a thread, as ptxas reports them."""
    frame, used = _FRAME.search(log), _USED.search(log)
    if frame is None or used is None:
        raise CompilationError(f"ptxas did not report the resources of a kernel: {log.strip()!r}")
    stack, stores, loads = map(int, frame.groups())
    return int(used[1]), stack, stores + loads
