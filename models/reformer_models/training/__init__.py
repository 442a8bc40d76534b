"""New models, losses, and writing checkpoints."""
