"""The tasks, and the architecture of each."""

from __future__ import annotations

TASKS: dict[str, str] = {
    "feature-extraction": "ReformerModel",
    "text-generation": "ReformerModelWithLMHead",
    "fill-mask": "ReformerForMaskedLM",
    "text-classification": "ReformerForSequenceClassification",
    "question-answering": "ReformerForQuestionAnswering",
}
"""Tasks of models that take tokens -> the architecture that Hugging Face's config.json names."""

TIME_SERIES = "time-series"
"""The task of models that take series of numbers."""

ALL_TASKS: dict[str, str] = {**TASKS, TIME_SERIES: "TimeSeriesReformer"}
"""All tasks; the last architecture is our own name."""


def task_of(architecture: str) -> str | None:
    """The task of an architecture; None for an unknown one."""
    return {name: task for task, name in ALL_TASKS.items()}.get(architecture)
