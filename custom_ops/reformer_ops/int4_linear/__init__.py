"""A linear layer with weights of 4 bits."""
