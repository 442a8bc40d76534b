"""The configurations of models: tokens (Hugging Face's config.json) and time series."""

from reformer_models.config.model_config import ModelConfig
from reformer_models.config.reformer_config import ReformerConfig
from reformer_models.config.time_series_config import TimeSeriesConfig

__all__ = ["ModelConfig", "ReformerConfig", "TimeSeriesConfig"]
