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
"""The task of models that forecast or reconstruct a series."""

SERIES_ENCODING = "series-encoding"
"""The task of models that return a hidden state for each vector of a series."""

SERIES_TASKS: dict[str, str] = {
    TIME_SERIES: "TimeSeriesReformer",
    SERIES_ENCODING: "ReformerSeriesEncoder",
}
"""Tasks of models that take series of numbers -> the architecture, a name of our own."""

ALL_TASKS: dict[str, str] = {**TASKS, **SERIES_TASKS}
"""All tasks -> the architecture of each."""


def task_of(architecture: str) -> str | None:
    """The task of an architecture; None for an unknown one."""
    return {name: task for task, name in ALL_TASKS.items()}.get(architecture)
