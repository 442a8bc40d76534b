"""Finds Hugging Face's class for given weights, for a config.json that does not name it."""

from __future__ import annotations

from collections.abc import Collection

from reformer_models.checkpoints.names import naming_of


def architecture_of(names: Collection[str], *, is_decoder: bool) -> str | None:
    """The class whose state dict has these names; None if they are not a Reformer's.

    Args:
        names: The names of all weights.
        is_decoder: From the configuration: the two language models have the same names.
    """
    naming = naming_of(names)
    modules = {naming.standard(name).partition(".")[0] for name in names}
    if "reformer" not in modules:
        return None
    if naming.of_base:
        return "ReformerModel"
    if "lm_head" in modules:
        return "ReformerModelWithLMHead" if is_decoder else "ReformerForMaskedLM"
    if "classifier" in modules:
        return "ReformerForSequenceClassification"
    if "qa_outputs" in modules:
        return "ReformerForQuestionAnswering"
    return None
