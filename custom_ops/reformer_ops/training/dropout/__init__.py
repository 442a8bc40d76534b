"""Dropout by counters: which elements stay follows from a seed, and nothing is kept for it."""
