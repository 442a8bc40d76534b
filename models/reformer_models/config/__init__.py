"""The configuration of a Reformer, read from Hugging Face's config.json."""

from reformer_models.config.reformer_config import ReformerConfig

__all__ = ["ReformerConfig"]
