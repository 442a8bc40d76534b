"""config.json: a Reformer's configuration, read as Hugging Face writes it."""

from reformer_models.config.reformer_config import ReformerConfig

__all__ = ["ReformerConfig"]
