"""Inputs and outputs of a model: names, dtypes, axes, and limits that the graph cannot state.

A signature is of one kind: `TokenSignature` or `SeriesSignature`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from reformer_export.artifact.base_signature import LOGITS, Signature, TensorSpec
from reformer_export.artifact.fields import Fields
from reformer_export.artifact.series_signature import SERIES, TIME_FEATURES, SeriesSignature
from reformer_export.artifact.token_signature import ATTENTION_MASK, INPUT_IDS, TokenSignature
from reformer_export.errors import ArtifactError, UsageError

__all__ = [
    "ATTENTION_MASK",
    "INPUT_IDS",
    "LOGITS",
    "PAST",
    "PAST_LENGTH",
    "PRESENT",
    "PROMPT_LENGTH",
    "SERIES",
    "TIME_FEATURES",
    "SeriesSignature",
    "Signature",
    "TensorSpec",
    "TokenSignature",
    "read_signature",
    "require_tokens",
]

PAST, PRESENT = "past_", "present_"
"""Prefixes of the names of a cache's tensors, as inputs and as outputs."""
PAST_LENGTH, PROMPT_LENGTH = "past_length", "prompt_length"
"""Further names of inputs in the graphs that generate."""

_READERS: Final[dict[str, Callable[[Fields], Signature]]] = {
    TokenSignature.kind: TokenSignature.from_json,
    SeriesSignature.kind: SeriesSignature.from_json,
}


def require_tokens(signature: Signature, purpose: str) -> TokenSignature:
    """The signature, for a purpose that only models of tokens have, such as "generation".

    Raises:
        UsageError: the model takes something else.
    """
    if not isinstance(signature, TokenSignature):
        raise UsageError(
            f"{purpose} is for models of tokens, and this model takes {signature.kind} of numbers: "
            "use reformer-export run, open_runner or reformer-run"
        )
    return signature


def read_signature(raw: object, where: str = "signature") -> Signature:
    """Read what `Signature.to_json` wrote; raises ArtifactError, which names the wrong field.

    Earlier releases wrote no kind: all their models take tokens.
    """
    fields = Fields(raw, where)
    kind = fields.text("kind") if "kind" in fields else TokenSignature.kind
    if kind not in _READERS:
        raise ArtifactError(
            f"{where}.kind must be one of {', '.join(_READERS)}, found {kind!r}: use a later "
            "release"
        )
    return _READERS[kind](fields)
