"""The feed-forward of a layer with weights of 4 bits, the norm before it and the sum after it."""
