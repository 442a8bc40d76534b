"""The formats that a checkpoint is exported to. A new format needs a module and an entry here.

Importing this module is cheap: a format's module is imported only when it is used.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reformer_export.exporters.base import Format


@dataclass(frozen=True)
class Entry:
    """The command and the module of a format.

    Attributes:
        verb: the command that creates the format; the public function has the same name.
        summary: what the command does, in one line.
        module: the module with that function and the format's declaration, `FORMAT`.
    """

    verb: str
    summary: str
    module: str

    @property
    def function(self) -> str:
        """The name of the public function."""
        return self.verb.replace("-", "_")

    def load(self) -> Format:
        """Import the module; returns the format's declaration."""
        declared: Format = importlib.import_module(self.module).FORMAT
        return declared


FORMATS: dict[str, Entry] = {
    "onnx": Entry(
        "to-onnx",
        "Export a checkpoint to a verified ONNX artifact.",
        "reformer_export.exporters.onnx.export",
    ),
    "torchscript": Entry(
        "to-torchscript",
        "Export a checkpoint to verified TorchScript.",
        "reformer_export.exporters.torch.torchscript",
    ),
    "aoti": Entry(
        "to-aoti",
        "Compile a checkpoint to a verified AOTInductor package.",
        "reformer_export.exporters.torch.aoti",
    ),
    "executorch": Entry(
        "to-executorch",
        "Export a checkpoint to a verified ExecuTorch program.",
        "reformer_export.exporters.torch.executorch",
    ),
}
"""Entries by the format's name, in the order of the command line's help."""
