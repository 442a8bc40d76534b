"""Text to token ids, as the checkpoint's authors encoded it, and a token id back to text.

The copied tokenizer speaks where the artifact has one. Byte-level Reformers have none: with 256
ids the id is the byte; with 258 (google/reformer-enwik8) it is the byte plus two, ids 0 and 1
being kept for padding and the like.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from reformer_export.artifact import Artifact
from reformer_export.artifact.engine import Engine
from reformer_export.errors import ArtifactError, InputError, UsageError
from reformer_export.host.optional import require

TOKENIZERS = ("auto", "bytes")

_ENWIK8_VOCABULARY = 258
# google/reformer-crime-and-punishment: SentencePiece pieces, so byte values would be other words.
_SENTENCEPIECE_VOCABULARY = 320


class TextCodec(Protocol):
    """An encoding of text as token ids."""

    @property
    def name(self) -> str:
        """What the encoding is called."""
        ...

    @property
    def note(self) -> str | None:
        """What the user must be told about its choice, if anything."""
        ...

    def encode(self, data: bytes) -> np.ndarray:
        """The token ids of a text in UTF-8 (or of any bytes, at byte level): int64 [length]."""
        ...

    def describe(self, token: int) -> str:
        """A token id in words, for people."""
        ...


def open_codec(artifact: Artifact | Engine, *, tokenizer: str = "auto") -> TextCodec:
    """The codec of an artifact; `tokenizer="bytes"` insists on bytes as tokens.

    Raises InputError when no encoding is known to fit the vocabulary, MissingDependencyError
    when the copied tokenizer's package is absent, ArtifactError when its file does not load.
    """
    if tokenizer not in TOKENIZERS:
        raise UsageError(f"unknown tokenizer {tokenizer!r}: choose {' or '.join(TOKENIZERS)}")
    vocabulary = artifact.signature.vocab_size
    if tokenizer == "auto":
        if path := artifact.file("tokenizer.json"):
            return TokenizersCodec.open(path)
        if path := artifact.file("spiece.model"):
            return SentencePieceCodec.open(path)
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
        """What the encoding is called."""
        return f"bytes + {self.offset}" if self.offset else "bytes"

    def encode(self, data: bytes) -> np.ndarray:
        """Token ids, int64 [length]."""
        return np.frombuffer(data, dtype=np.uint8).astype(np.int64) + self.offset

    def describe(self, token: int) -> str:
        """The token in words."""
        byte = token - self.offset
        if not 0 <= byte < 256:
            return "(no byte)"
        return repr(chr(byte)) if byte < 128 else f"byte 0x{byte:02x}"


@dataclass(frozen=True)
class TokenizersCodec:
    """tokenizer.json, through the `tokenizers` package."""

    tokenizer: Any
    name: str = "tokenizer.json"
    note: str | None = None

    @classmethod
    def open(cls, path: Path) -> TokenizersCodec:
        """Load the file; MissingDependencyError, ArtifactError."""
        tokenizers = require("tokenizers", purpose="the artifact's tokenizer.json")
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises bare Exception for a bad file
            raise ArtifactError(f"{path} does not load as a tokenizer: {error}") from error
        # A training set-up may be stored in the file; the model itself pads and takes any length.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls(tokenizer)

    def encode(self, data: bytes) -> np.ndarray:
        """Token ids, int64 [length]."""
        return np.array(self.tokenizer.encode(_utf8(data)).ids, dtype=np.int64)

    def describe(self, token: int) -> str:
        """The token in words."""
        return repr(self.tokenizer.decode([token], skip_special_tokens=False))


@dataclass(frozen=True)
class SentencePieceCodec:
    """spiece.model, through the `sentencepiece` package; no special tokens, as Hugging Face's."""

    processor: Any
    name: str = "spiece.model"
    note: str | None = None

    @classmethod
    def open(cls, path: Path) -> SentencePieceCodec:
        """Load the file; MissingDependencyError, ArtifactError."""
        sentencepiece = require("sentencepiece", purpose="the artifact's spiece.model")
        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.LoadFromFile(str(path))
        except (OSError, RuntimeError) as error:
            raise ArtifactError(f"{path} does not load as a SentencePiece model") from error
        return cls(processor)

    def encode(self, data: bytes) -> np.ndarray:
        """Token ids, int64 [length]."""
        return np.array(self.processor.EncodeAsIds(_utf8(data)), dtype=np.int64)

    def describe(self, token: int) -> str:
        """The token in words."""
        if not 0 <= token < self.processor.GetPieceSize():
            return "(no piece)"
        return repr(self.processor.IdToPiece(token))


def _utf8(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"the text is not UTF-8 (byte {error.start} is 0x{data[error.start]:02x}): "
            "convert it, for example with iconv -t UTF-8"
        ) from error
