"""Checks of all that needs a GPU: see check.py."""
