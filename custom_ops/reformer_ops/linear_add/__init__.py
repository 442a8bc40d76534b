"""A linear layer whose output is added to a stream."""
