"""Exporting a checkpoint to files that a runtime loads: one module for each format."""
