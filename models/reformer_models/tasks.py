"""The tasks, and the Hugging Face architecture of each."""

from __future__ import annotations

TASKS: dict[str, str] = {
    "feature-extraction": "ReformerModel",
    "text-generation": "ReformerModelWithLMHead",
    "fill-mask": "ReformerForMaskedLM",
    "text-classification": "ReformerForSequenceClassification",
    "question-answering": "ReformerForQuestionAnswering",
}
"""Task -> the architecture that Hugging Face's config.json names for it."""


def task_of(architecture: str) -> str | None:
    """The task of an architecture; None for an unknown one."""
    return {name: task for task, name in TASKS.items()}.get(architecture)
