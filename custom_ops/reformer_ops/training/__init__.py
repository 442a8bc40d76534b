"""Layers that only training on the CPU uses, known to torch alone."""
