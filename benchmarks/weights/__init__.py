"""`make bench-weights`: size, speed and quality of models with weights of fewer bits."""
