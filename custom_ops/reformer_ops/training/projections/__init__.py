"""A layer norm and the linear layers that read it, for training on the CPU."""
