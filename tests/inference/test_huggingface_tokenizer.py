"""A checkpoint's tokenizer gives the token ids of transformers, or it is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reformer_export.artifact import Artifact
from reformer_export.errors import ArtifactError, InputError
from reformer_export.inference.huggingface_tokenizer import open_tokenizer
from reformer_export.inference.text import open_codec

from ..tools.artifact_fixtures import make_artifact
from ..tools.tokenizer_fixtures import (
    FOLDERS,
    KINDS,
    REFORMER,
    TEXTS,
    pieces,
    tokenizer_files,
    write,
)

pytest.importorskip("sentencepiece")
transformers = pytest.importorskip("transformers")


def ours(folder: Path) -> Any:
    return open_tokenizer(tokenizer_files(folder))


def equal(folder: Path, *texts: str) -> Any:
    """Checks that both give the same ids for all texts; returns transformers' tokenizer."""
    theirs = transformers.AutoTokenizer.from_pretrained(str(folder))
    found = ours(folder)
    for text in texts:
        assert found.encode(text).ids == theirs(text)["input_ids"], text
    return theirs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FOLDERS)
def test_equal_to_transformers(tmp_path: Path, kind: str, name: str) -> None:
    """With the folder as it is, and as transformers 5 saves it again."""
    folder = write(tmp_path / "folder", REFORMER, {"spiece.model": pieces(kind)}, FOLDERS[name])
    equal(folder, *TEXTS).save_pretrained(tmp_path / "again")
    assert (tmp_path / "again/tokenizer.json").exists()
    write(tmp_path / "again/model", REFORMER)
    (tmp_path / "again/model/config.json").rename(tmp_path / "again/config.json")
    equal(tmp_path / "again", *TEXTS)


def test_the_ids_of_the_issue(tmp_path: Path) -> None:
    """A token of added_tokens.json is one id, and not the pieces that it looks like."""
    added = {"added_tokens.json": {"[MASK]": 80}}
    folder = write(tmp_path / "folder", REFORMER, {"spiece.model": pieces("bpe")}, added)
    assert 80 in ours(folder).encode("The licence is [MASK].").ids


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(["[MASK]", "</s>", "<unk>", "<foo>", "<ctl>", " ", "  ", "▁", "licence"])
        | st.text(max_size=8)
    ).map("".join)
)
def test_any_text(both: tuple[Any, Any], text: str) -> None:
    theirs, found = both
    assert found.encode(text).ids == theirs(text)["input_ids"]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    decoder = FOLDERS["added_tokens_decoder"]
    folder = tmp_path_factory.mktemp("any") / "folder"
    write(folder, REFORMER, {"spiece.model": pieces("symbols")}, decoder)
    return transformers.AutoTokenizer.from_pretrained(str(folder)), ours(folder)


@pytest.fixture
def words() -> bytes:
    """A tokenizer.json of another kind than Reformer's."""
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"[UNK]": 0, "alpha": 1, "beta": 2, "[PAD]": 3}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens(["[PAD]"])
    data: bytes = made.to_str().encode()
    return data


@pytest.mark.parametrize("cls", ["PreTrainedTokenizerFast", "TokenizersBackend"])
def test_a_tokenizer_that_its_file_describes(tmp_path: Path, words: bytes, cls: str) -> None:
    config = {"tokenizer_class": cls, "unk_token": "[UNK]", "mask_token": "[MASK]"}
    folder = write(
        tmp_path / "folder",
        REFORMER,
        {"tokenizer.json": words, "tokenizer_config.json": config},
    )
    equal(folder, "beta [PAD]alpha gamma", "[MASK]", "")


@pytest.mark.parametrize(
    "files",
    [
        {"spiece.model": b"x", "tokenizer_config.json": {"tokenizer_class": "T5Tokenizer"}},
        {
            "tokenizer.json": b"{}",
            "tokenizer_config.json": {"tokenizer_class": "GPT2TokenizerFast"},
        },
        {"spiece.model": b"x", "config.json": {"tokenizer_class": "BertTokenizer"}},
        {"spiece.model": b"x", "tokenizer_config.json": {"tokenizer_class": "TokenizersBackend"}},
    ],
)
def test_other_classes_are_refused(tmp_path: Path, files: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"is a \w+, which is not known here: .* --input-ids"):
        ours(write(tmp_path / "folder", REFORMER, files))


def test_a_reformer_tokenizer_is_byte_pairs(tmp_path: Path, words: bytes) -> None:
    with pytest.raises(InputError, match="holds a WordLevel vocabulary, and a ReformerTokenizer"):
        ours(write(tmp_path / "folder", REFORMER, {"tokenizer.json": words}))


@pytest.mark.parametrize(
    "name", ["vocab.json", "vocab.txt", "merges.txt", "tokenizer.model", "tokenizer_config.json"]
)
def test_a_tokenizer_that_is_not_read_is_not_taken_for_bytes(tmp_path: Path, name: str) -> None:
    artifact = Artifact.open(make_artifact(tmp_path / "artifact", files={name: b"{}"}))
    with pytest.raises(InputError, match=f"not known here \\({name}\\): .* --tokenizer bytes"):
        open_codec(artifact)
    assert open_codec(artifact, tokenizer="bytes").encode(b"a").tolist() == [97]


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config.json": b"{"},
        {"tokenizer_config.json": b"[]"},
        {"tokenizer_config.json": {"added_tokens_decoder": {"1": {"wrong": 1}}}},
        {"added_tokens.json": b"\xff"},
        {"special_tokens_map.json": b"1"},
        {"tokenizer.json": {"model": {"type": "BPE"}}},
    ],
)
def test_damaged_files(tmp_path: Path, files: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match=r"does not load|must be a JSON object"):
        ours(write(tmp_path / "folder", REFORMER, {"spiece.model": pieces("bpe")}, files))
