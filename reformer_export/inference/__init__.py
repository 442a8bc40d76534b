"""Running a model on text or token ids."""
