"""Converts text to token ids, as the checkpoint's authors did, and token ids back to text.

If an artifact has a tokenizer, that is used. Byte-level Reformers have none: with 256 ids the id is
the byte; with 258 ids (google/reformer-enwik8) it is the byte plus two, because ids 0 and 1 are
reserved for padding and other special tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from reformer_export.artifact import Artifact
from reformer_export.artifact.engine import Engine
from reformer_export.artifact.signature import require_tokens
from reformer_export.errors import InputError, UsageError
from reformer_export.inference.huggingface_tokenizer import FILES as TOKENIZER_FILES
from reformer_export.inference.huggingface_tokenizer import open_tokenizer
from reformer_export.inference.text_stream import ByteStream, TextStream, TokenizerStream

TOKENIZERS = ("auto", "bytes")

_FILES = ("config.json", *TOKENIZER_FILES)
_VOCABULARIES = ("tokenizer.json", "spiece.model")
# Without a vocabulary file, tokenizer_config.json still shows that the model has a tokenizer.
_UNREAD = ("tokenizer.model", "vocab.json", "vocab.txt", "merges.txt", "tokenizer_config.json")

_ENWIK8_VOCABULARY = 258
# google/reformer-crime-and-punishment: its ids are SentencePiece pieces, not bytes.
_SENTENCEPIECE_VOCABULARY = 320


class TextCodec(Protocol):
    """An encoding of text as token ids."""

    @property
    def name(self) -> str:
        """The name of the encoding."""
        ...

    @property
    def note(self) -> str | None:
        """A note for the user about the chosen encoding, or None."""
        ...

    def encode(self, data: bytes) -> np.ndarray:
        """The token ids of a text in UTF-8 (or of any bytes, at byte level): int64 [length]."""
        ...

    def describe(self, token: int) -> str:
        """A token id as readable text."""
        ...

    def stream(self, prompt: Sequence[int]) -> TextStream:
        """A converter of the tokens that follow a prompt to text, one token at a time."""
        ...


def open_codec(artifact: Artifact | Engine, *, tokenizer: str = "auto") -> TextCodec:
    """The codec of an artifact; `tokenizer="bytes"` forces bytes as tokens.

    Raises:
        UsageError: `tokenizer` has an unknown value.
        InputError: no known encoding matches the vocabulary, or the tokenizer's class is unknown.
        MissingDependencyError: a package that reads the tokenizer is not installed.
        ArtifactError: a file of the tokenizer is damaged.
    """
    if tokenizer not in TOKENIZERS:
        raise UsageError(f"unknown tokenizer {tokenizer!r}: choose {' or '.join(TOKENIZERS)}")
    vocabulary = require_tokens(artifact.signature, "a text").vocab_size
    if tokenizer == "auto":
        files = {name: path for name in _FILES if (path := artifact.file(name)) is not None}
        if name := next((name for name in _VOCABULARIES if name in files), None):
            return TokenizerCodec(open_tokenizer(files), name)
        if name := next((name for name in _UNREAD if artifact.file(name) is not None), None):
            raise InputError(
                f"the artifact has a tokenizer that is not known here ({name}): encode the text "
                "with transformers and give the token ids with --input-ids, or ask for "
                "--tokenizer bytes"
            )
        if vocabulary == _SENTENCEPIECE_VOCABULARY:
            raise InputError(
                f"the artifact has no tokenizer, and a vocabulary of {vocabulary} is that of "
                "SentencePiece Reformers, not of bytes: export again with spiece.model or "
                "tokenizer.json beside the checkpoint, or ask for --tokenizer bytes"
            )
    if vocabulary < 256:
        raise InputError(
            f"the artifact has no tokenizer and its vocabulary of {vocabulary} cannot hold bytes: "
            "give the token ids with --input-ids"
        )
    if vocabulary == _ENWIK8_VOCABULARY:
        return ByteCodec(offset=2)
    if vocabulary == 256:
        return ByteCodec()
    reason = "as asked" if tokenizer == "bytes" else "the artifact has no tokenizer"
    return ByteCodec(
        note=f"{reason}: the text's raw bytes are the token ids 0..255 of a vocabulary of "
        f"{vocabulary}; if the model was trained on other tokens, its answer means nothing"
    )


@dataclass(frozen=True)
class ByteCodec:
    """Token id = byte + `offset`."""

    offset: int = 0
    note: str | None = None

    @property
    def name(self) -> str:
        """The name of the encoding."""
        return f"bytes + {self.offset}" if self.offset else "bytes"

    def encode(self, data: bytes) -> np.ndarray:
        """Token ids, int64 [length]."""
        return np.frombuffer(data, dtype=np.uint8).astype(np.int64) + self.offset

    def describe(self, token: int) -> str:
        """The token as readable text."""
        byte = token - self.offset
        if not 0 <= byte < 256:
            return "(no byte)"
        return repr(chr(byte)) if byte < 128 else f"byte 0x{byte:02x}"

    def stream(self, prompt: Sequence[int]) -> ByteStream:
        """A converter of the tokens after a prompt to text."""
        return ByteStream(self.offset, prompt)


@dataclass(frozen=True)
class TokenizerCodec:
    """The checkpoint's own tokenizer; it gives the same ids as Hugging Face's."""

    tokenizer: Any
    name: str
    note: str | None = None

    def encode(self, data: bytes) -> np.ndarray:
        """Token ids, int64 [length]."""
        return np.array(self.tokenizer.encode(_utf8(data)).ids, dtype=np.int64)

    def describe(self, token: int) -> str:
        """The token as readable text."""
        piece = self.tokenizer.id_to_token(token)
        return "(no piece)" if piece is None else repr(piece)

    def stream(self, prompt: Sequence[int]) -> TokenizerStream:
        """A converter of the tokens after a prompt to text."""
        return TokenizerStream(self.tokenizer, prompt)


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"the text is not UTF-8 (byte {error.start} is 0x{data[error.start]:02x}): "
            "convert it, for example with iconv -t UTF-8"
        ) from error
