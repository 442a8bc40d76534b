"""The common parts of the declarations of both decoding steps."""

from __future__ import annotations

from reformer_ops.core.spec import Attribute, Operand

ROW = ("batch", "heads", "head_dim")
"""Axes of the new token's queries, keys, values and output."""

PAST_LENGTH = Operand("past_length", ("batch",), "int32")
"""Tokens in the cache, for each sequence. It is also the position of the new token."""

CHUNKING = (
    Attribute("chunk_length", "int", minimum=1),
    Attribute("num_chunks_before", "int"),
)
"""Which keys the new token sees."""

OUTPUT = Operand("output", ROW, "float")
