"""Linear layers for training on the CPU."""
