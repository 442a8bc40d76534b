"""The errors of the emulator: faults in PTX text, and faults of running kernels."""

from __future__ import annotations


class PtxError(Exception):
    """The base class of the emulator's errors."""


class PtxSyntaxError(PtxError):
    """Text that the emulator cannot read as PTX."""


class UnknownInstructionError(PtxError):
    """An opcode, a modifier or an operand that the emulator does not know: it never guesses."""


class LaunchError(PtxError):
    """The kernel cannot be launched with these arguments, this grid or these threads."""


class KernelFault(PtxError):
    """The kernel did something without a defined result: an invalid access, a race and so on.

    If an instruction caused the fault, the message ends with its line of the PTX.
    """
