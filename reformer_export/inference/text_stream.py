"""Converts token ids to text one at a time; a character is returned only when it is complete."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any, Protocol


class TextStream(Protocol):
    """Converts tokens to text one at a time."""

    def add(self, token: int) -> str:
        """The text that this token completes; it may be empty."""
        ...

    def end(self) -> str:
        """The rest: replacement characters for an incomplete character."""
        ...


class ByteStream:
    """The text of tokens that are UTF-8 bytes plus `offset`. Other tokens have no text."""

    def __init__(self, offset: int = 0, prompt: Sequence[int] = ()) -> None:
        self._offset = offset
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for token in prompt:  # the first new token may continue the prompt's last character
            self.add(token)

    def add(self, token: int) -> str:
        """The text that this token completes; it may be empty."""
        byte = token - self._offset
        return self._decoder.decode(bytes([byte])) if 0 <= byte < 256 else ""

    def end(self) -> str:
        """A replacement character for an incomplete character, else nothing."""
        return self._decoder.decode(b"", final=True)


class TokenizerStream:
    """The text of a `tokenizers.Tokenizer`'s tokens after a prompt. Special tokens have no text."""

    def __init__(self, tokenizer: Any, prompt: Sequence[int]) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer
        # The prompt decides whether the first new token is written with a leading space.
        self._stream = DecodeStream(ids=list(prompt), skip_special_tokens=True)
        self._held: list[int] = []

    def add(self, token: int) -> str:
        """The text that this token completes; it may be empty."""
        self._held.append(token)
        text: str | None = self._stream.step(self._tokenizer, token)
        if text is None:
            return ""
        self._held.clear()
        return text

    def end(self) -> str:
        """The text of the tokens after the last complete character."""
        left: str = self._tokenizer.decode(self._held, skip_special_tokens=True)
        return left
