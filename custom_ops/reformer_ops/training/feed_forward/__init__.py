"""The feed-forward half of a layer, for training on the CPU."""
