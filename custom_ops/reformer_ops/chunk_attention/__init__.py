"""Attention within chunks of the sequence and their neighbours: the local layers."""
