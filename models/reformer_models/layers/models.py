"""The model of each task."""

from __future__ import annotations

from typing import Final

from reformer_models.layers.heads import MODELS
from reformer_models.layers.series_encoding import SeriesEncoding
from reformer_models.layers.task_model import TaskModel
from reformer_models.layers.time_series import TimeSeriesReformer
from reformer_models.tasks import SERIES_ENCODING, TIME_SERIES

ALL_MODELS: Final[dict[str, type[TaskModel]]] = {
    **MODELS,
    TIME_SERIES: TimeSeriesReformer,
    SERIES_ENCODING: SeriesEncoding,
}
"""The model of each of `reformer_models.tasks.ALL_TASKS`."""
