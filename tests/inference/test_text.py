"""Text to token ids: the copied tokenizer, or bytes as the checkpoint numbers them."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from reformer_export.artifact import Artifact
from reformer_export.errors import (
    ArtifactError,
    InputError,
    MissingDependencyError,
    ReformerError,
    UsageError,
)
from reformer_export.inference.text import TextCodec, open_codec

from ..tools.artifact_fixtures import make_artifact

TEXT = "Grüße, Reformer"


def codec(tmp_path: Path, vocab_size: int, *, tokenizer: str = "auto", **files: bytes) -> TextCodec:
    named = {name.replace("_", "."): content for name, content in files.items()}
    folder = make_artifact(tmp_path / "artifact", vocab_size=vocab_size, files=named)
    return open_codec(Artifact.open(folder), tokenizer=tokenizer)


@pytest.mark.parametrize(("vocab_size", "offset"), [(256, 0), (258, 2)])
def test_byte_level_models(tmp_path: Path, vocab_size: int, offset: int) -> None:
    found = codec(tmp_path, vocab_size)
    ids = found.encode(TEXT.encode())
    assert ids.dtype == np.int64
    assert ids.tolist() == [byte + offset for byte in TEXT.encode()]
    assert found.note is None
    assert found.describe(ord("e") + offset) == "'e'"
    assert found.describe(0xC3 + offset) == "byte 0xc3"


def test_every_byte_has_an_id_and_the_reserved_ids_have_no_byte(tmp_path: Path) -> None:
    found = codec(tmp_path, 258)
    assert found.encode(bytes(range(256))).tolist() == list(range(2, 258))
    assert [found.describe(token) for token in (0, 1)] == ["(no byte)"] * 2
    assert found.encode(b"").shape == (0,)


def test_bytes_in_a_larger_vocabulary_are_said_aloud(tmp_path: Path) -> None:
    found = codec(tmp_path, 300)
    assert found.encode(b"az").tolist() == [97, 122]
    assert found.note is not None
    assert "the artifact has no tokenizer" in found.note
    assert "vocabulary of 300" in found.note


def test_a_sentencepiece_vocabulary_needs_its_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"320 .*spiece\.model or tokenizer\.json.*bytes"):
        codec(tmp_path, 320)


def test_bytes_can_be_insisted_on(tmp_path: Path) -> None:
    found = codec(tmp_path, 320, tokenizer="bytes", tokenizer_json=b"not looked at")
    assert found.encode(b"az").tolist() == [97, 122]
    assert found.note is not None
    assert found.note.startswith("as asked")


@pytest.mark.parametrize("tokenizer", ["auto", "bytes"])
def test_a_small_vocabulary_takes_no_text(tmp_path: Path, tokenizer: str) -> None:
    with pytest.raises(InputError, match=r"vocabulary of 255 cannot hold bytes.*--input-ids"):
        codec(tmp_path, 255, tokenizer=tokenizer)


def test_an_unknown_tokenizer_is_an_error_of_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose auto or bytes"):
        codec(tmp_path, 256, tokenizer="words")


@pytest.fixture(scope="module")
def tokenizer_json() -> bytes:
    """A real tokenizer.json that would truncate and pad, as training may leave it."""
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"[UNK]": 0, "alpha": 1, "beta": 2, "[PAD]": 3}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.enable_truncation(2)
    made.enable_padding(length=8, pad_id=3, pad_token="[PAD]")
    return made.to_str().encode()


def test_the_copied_tokenizer_comes_first(tmp_path: Path, tokenizer_json: bytes) -> None:
    found = codec(tmp_path, 258, tokenizer_json=tokenizer_json, spiece_model=b"not looked at")
    assert found.encode(b"beta alpha alpha gamma").tolist() == [2, 1, 1, 0]
    assert found.describe(2) == "'beta'"
    assert found.note is None
    assert found.encode(b"").tolist() == []


def test_a_tokenizer_wants_utf8(tmp_path: Path, tokenizer_json: bytes) -> None:
    found = codec(tmp_path, 320, tokenizer_json=tokenizer_json)
    with pytest.raises(InputError, match=r"not UTF-8 \(byte 2 is 0xff\)"):
        found.encode(b"ab\xff")


def test_a_damaged_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    with pytest.raises(ArtifactError, match="does not load as a tokenizer"):
        codec(tmp_path, 320, tokenizer_json=b"{}")


@pytest.mark.parametrize(
    ("file", "package"), [("tokenizer_json", "tokenizers"), ("spiece_model", "sentencepiece")]
)
def test_the_package_of_a_tokenizer_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=f"pip install {package}"):
        codec(tmp_path, 320, **{file: b"x"})


def test_a_sentencepiece_model(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    stored = io.BytesIO()
    words = ["the old pawnbroker", "the young student", "a garret in the town"] * 20
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words),
        model_writer=stored,
        model_type="bpe",
        vocab_size=40,
        minloglevel=2,
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=stored.getvalue())
    found = codec(tmp_path, 320, spiece_model=stored.getvalue())
    ids = found.encode(b"the student")
    assert ids.dtype == np.int64
    assert ids.tolist() == processor.encode("the student")
    assert found.describe(int(ids[0])) == repr(processor.id_to_piece(int(ids[0])))
    assert found.describe(319) == "(no piece)"


def test_a_damaged_sentencepiece_model(tmp_path: Path) -> None:
    """With the package or without, it is one of our errors."""
    with pytest.raises(ReformerError, match=r"does not load|pip install"):
        codec(tmp_path, 320, spiece_model=b"damaged")
