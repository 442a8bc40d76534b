"""The common part of the declarations of both attentions."""

from __future__ import annotations

from reformer_ops.core.spec import Attribute, Operand

HEADS = ("batch", "length", "heads", "head_dim")
"""Axes of queries, keys, values and the output."""

MASK = Operand("mask", ("batch", "length"), "bool")
"""False for padding."""

CHUNKING = (
    Attribute("chunk_length", "int", minimum=1),
    Attribute("num_chunks_before", "int"),
    Attribute("num_chunks_after", "int"),
    Attribute("causal", "bool"),
)
"""The attributes that decide which keys a query sees."""

OUTPUT = Operand("output", HEADS, "float")
