"""A sum of two streams and its layer norm, as one pass over memory on GPUs."""
