"""Each token becomes text at once, but never a part of a character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from reformer_export.inference.text_stream import ByteStream, TextStream, TokenizerStream


def pieces(stream: TextStream, tokens: list[int]) -> list[str]:
    return [*(stream.add(token) for token in tokens), stream.end()]


@given(st.text(max_size=20), st.sampled_from([0, 2]))
def test_bytes_give_whole_characters(text: str, offset: int) -> None:
    found = pieces(ByteStream(offset), [byte + offset for byte in text.encode()])
    assert "".join(found) == text
    assert all(len(piece) <= 1 for piece in found)


@given(st.binary(max_size=20))
def test_bytes_that_are_no_text_are_replaced(data: bytes) -> None:
    assert "".join(pieces(ByteStream(), list(data))) == data.decode("utf-8", "replace")


def test_a_character_that_the_prompt_begins_is_finished() -> None:
    prompt, rest = "Gr\u00fc".encode()[:-1], "\u00fc".encode()[-1:]
    assert pieces(ByteStream(0, list(prompt)), [*rest, ord("n")]) == ["\u00fc", "n", ""]


def test_tokens_that_are_no_bytes_have_no_text() -> None:
    assert pieces(ByteStream(2), [0, ord("a") + 2, 1, 400]) == ["", "a", "", "", ""]


@pytest.fixture
def tokenizer() -> Tokenizer:
    """Pieces as SentencePiece has them, with bytes for other characters."""
    vocabulary = {"<0xE2>": 0, "<0x82>": 1, "<0xAC>": 2, "\u2581a": 3, "b": 4, "\u2581": 5, "a": 6}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[("\u2581", "a")], byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace("\u2581", prepend_scheme="always")
    made.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace("\u2581", prepend_scheme="always")]
    )
    made.add_special_tokens(["</s>"])
    return made


def test_pieces_keep_their_spaces(tokenizer: Tokenizer) -> None:
    assert pieces(TokenizerStream(tokenizer, [3, 4]), [3, 4, 4, 3]) == [" a", "b", "b", " a", ""]


def test_a_character_of_several_tokens_waits_for_its_last(tokenizer: Tokenizer) -> None:
    assert pieces(TokenizerStream(tokenizer, [3]), [0, 1, 2, 4]) == ["", "", "\u20ac", "b", ""]


def test_a_character_that_never_ends_is_replaced(tokenizer: Tokenizer) -> None:
    *_, end = pieces(TokenizerStream(tokenizer, [3]), [4, 0, 1])
    assert end.strip("\ufffd") == ""
    assert end


def test_special_tokens_have_no_text(tokenizer: Tokenizer) -> None:
    special = tokenizer.token_to_id("</s>")
    assert pieces(TokenizerStream(tokenizer, [3]), [4, special]) == ["b", "", ""]
