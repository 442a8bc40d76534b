"""What can be wrong with PTX, or with what a kernel does."""

from __future__ import annotations


class PtxError(Exception):
    """The root of what the emulator raises."""


class PtxSyntaxError(PtxError):
    """Text that is no PTX that the emulator can read."""


class UnknownInstructionError(PtxError):
    """An opcode, a modifier or an operand that the emulator does not know: it never guesses."""


class LaunchError(PtxError):
    """Arguments, grid or shared memory that the kernel cannot be launched with."""


class KernelFault(PtxError):
    """The kernel did what has no defined result: a wild access, a race, a divergent barrier.

    The message ends with the line of the PTX, and the thread and CTA where there is one.
    """
