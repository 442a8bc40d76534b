"""The configurations of models: tokens (Hugging Face's config.json) and series of numbers."""

from reformer_models.config.model_config import ModelConfig
from reformer_models.config.reformer_config import ReformerConfig
from reformer_models.config.series_config import SeriesConfig
from reformer_models.config.series_encoding_config import SeriesEncodingConfig
from reformer_models.config.time_series_config import TimeSeriesConfig

__all__ = [
    "ModelConfig",
    "ReformerConfig",
    "SeriesConfig",
    "SeriesEncodingConfig",
    "TimeSeriesConfig",
]
