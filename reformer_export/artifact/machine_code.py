"""The processor that a file of machine code needs: architecture and instructions."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from reformer_export.errors import RuntimeUnavailableError

ARCHITECTURE, INSTRUCTIONS = "architecture", "instructions"

# By torch's names; each includes those before it.
_LADDER = ("default", "avx2", "avx512")


def this_machine() -> dict[str, str]:
    """The architecture ("x86_64") and the widest instructions torch uses here ("avx512")."""
    import torch

    found = torch.backends.cpu.get_cpu_capability().lower()
    return {ARCHITECTURE: platform.machine(), INSTRUCTIONS: found}


def check_machine(machine: Mapping[str, str], file: str) -> None:
    """RuntimeUnavailableError if `file`, compiled for `machine`, cannot run on this machine."""
    here = this_machine()
    for key, found in here.items():
        wanted = machine.get(key, found)
        if wanted != found and not _within(wanted, found):
            raise RuntimeUnavailableError(
                f"{file} was compiled for {key} {wanted}; this machine has {found}: "
                "export for it, see to-aoti --help"
            )


def _within(wanted: str, found: str) -> bool:
    ladder = {name: step for step, name in enumerate(_LADDER)}
    return wanted in ladder and found in ladder and ladder[wanted] <= ladder[found]
