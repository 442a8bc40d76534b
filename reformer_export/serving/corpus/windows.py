"""Cuts long documents into windows that overlap; every token counts in exactly one window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """A part of a document.

    Attributes:
        document: the number of the document.
        start: the position of its first token in the document.
        tokens: `[length]`.
        new: the tokens before this place in the window were counted in earlier windows; they are
            context here.
    """

    document: int
    start: int
    tokens: Tokens
    new: int


def windows_of(document: int, tokens: Tokens, size: int, overlap: int) -> Iterator[Window]:
    """The windows of a document.

    A document of at most `size` tokens is one window. Otherwise all windows have `size` tokens, and
    each starts `size - overlap` tokens after the one before; only the last one starts earlier, so
    that it ends with the document. A token counts in the first window that contains it.
    """
    counted = start = 0
    while counted < len(tokens):
        start = min(start, max(len(tokens) - size, 0))
        part = tokens[start : start + size]
        yield Window(document, start, part, counted - start)
        counted = start + len(part)
        start += size - overlap
