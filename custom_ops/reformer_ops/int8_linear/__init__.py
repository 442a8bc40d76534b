"""A linear layer with weights of 8 bits."""
