"""This machine: what is installed, its processor, memory, GPUs and libraries."""
