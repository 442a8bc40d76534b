"""The names of a checkpoint's tensors, with or without a prefix that training code added."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

BASE = "reformer."
HEADS = ("lm_head.", "classifier.", "qa_outputs.")

_IN_BASE = ("embeddings.", "encoder.")


@dataclass(frozen=True)
class Naming:
    """How the names in the files map to Hugging Face's names.

    Attributes:
        prefix: the text before Hugging Face's names in the files, such as "module." (DataParallel),
            "_orig_mod." (torch.compile) or "model." (a module that contains the model).
        of_base: True if the files are of the model without a head, whose names lack "reformer.".
    """

    prefix: str = ""
    of_base: bool = False

    def standard(self, name: str) -> str:
        """Hugging Face's name for a name in the files; other tensors keep their names."""
        if not name.startswith(self.prefix):
            return name
        bare = name[len(self.prefix) :]
        return BASE + bare if self.of_base and bare.startswith(_IN_BASE) else bare

    def in_files(self, name: str) -> str:
        """The name in the files for a name of Hugging Face's."""
        return self.prefix + (name.removeprefix(BASE) if self.of_base else name)


def naming_of(names: Collection[str]) -> Naming:
    """The `Naming` of a checkpoint whose tensors have exactly these names."""
    with_head = _prefixes(names, BASE)
    if with_head:
        return Naming(min(with_head, key=len))
    for prefix in sorted(_prefixes(names, "encoder."), key=len):
        if any(name.startswith(f"{prefix}embeddings.") for name in names):
            return Naming(prefix, of_base=True)
    return Naming()


def _prefixes(names: Collection[str], module: str) -> set[str]:
    """The prefixes before a module's name; "" if the name comes first."""
    return {
        name[:start]
        for name in names
        if (start := name.find(module)) == 0 or (start > 0 and name[start - 1] == ".")
    }
