"""The artifact: a folder with a model in one or more formats, and what is recorded of it."""

from reformer_export.artifact.artifact import Artifact

__all__ = ["Artifact"]
