"""The artifact: a folder with a model in one or more formats, and its records."""

from reformer_export.artifact.artifact import Artifact

__all__ = ["Artifact"]
