"""Dropout by counters: a seed determines which elements are kept, so no mask is stored."""
