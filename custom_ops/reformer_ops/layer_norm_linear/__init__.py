"""A layer norm and a linear layer after it."""
