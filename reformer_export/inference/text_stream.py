"""Token ids to text, one after another, never half a character."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any, Protocol


class TextStream(Protocol):
    """The text of tokens that come one after another."""

    def add(self, token: int) -> str:
        """The text that is complete with this token, perhaps none."""
        ...

    def end(self) -> str:
        """What is left: the start of a character that never ended, as replacement characters."""
        ...


class ByteStream:
    """The text of tokens that are bytes of UTF-8, plus `offset`. Other tokens have no text."""

    def __init__(self, offset: int = 0, prompt: Sequence[int] = ()) -> None:
        self._offset = offset
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in prompt:  # a character that it begins goes on in the first token
            self.add(token)

    def add(self, token: int) -> str:
        """The text that is complete with this token, perhaps none."""
        byte = token - self._offset
        return self._decoder.decode(bytes([byte])) if 0 <= byte < 256 else ""

    def end(self) -> str:
        """What is left of a character that never ended."""
        return self._decoder.decode(b"", final=True)


class TokenizerStream:
    """The text of a `tokenizers.Tokenizer`'s tokens after a prompt. Special tokens have no text."""

    def __init__(self, tokenizer: Any, prompt: Sequence[int]) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer
        # The prompt decides how the first token is written: with a space before it or without.
        self._stream = DecodeStream(ids=list(prompt), skip_special_tokens=True)
        self._held: list[int] = []

    def add(self, token: int) -> str:
        """The text that is complete with this token, perhaps none."""
        self._held.append(token)
        text: str | None = self._stream.step(self._tokenizer, token)
        if text is None:
            return ""
        self._held.clear()
        return text

    def end(self) -> str:
        """What is left of a character that never ended."""
        left: str = self._tokenizer.decode(self._held, skip_special_tokens=True)
        return left
