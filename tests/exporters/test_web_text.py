"""The page converts text to token ids as Python does, or takes token ids.

`page/tokenizer.js` runs under node here; `test_web_page.py` runs it in a browser.
"""

from __future__ import annotations

import base64
import json
import random
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from reformer_export.artifact import Artifact
from reformer_export.errors import InputError
from reformer_export.exporters.web.text import PageText, tokenizer_document
from reformer_export.inference.huggingface_tokenizer import open_tokenizer
from reformer_export.inference.text_stream import TokenizerStream

from ..tools.artifact_fixtures import make_artifact
from ..tools.tokenizer_fixtures import (
    FOLDERS,
    KINDS,
    REFORMER,
    TEXTS,
    any_texts,
    pieces,
    tokenizer_files,
    write,
)

tokenizers = pytest.importorskip("tokenizers")

needs_node = pytest.mark.skipif(
    shutil.which("node") is None, reason="there is no node: apt-get install nodejs"
)


def reformer(folder: Path, kind: str, *parts: dict[str, Any]) -> Any:
    pytest.importorskip("sentencepiece")
    write(folder, REFORMER, {"spiece.model": pieces(kind)}, *parts)
    return open_tokenizer(tokenizer_files(folder))


def in_node(script: str, given: Any) -> Any:
    """The value of an expression with `given`, and with the class `Tokenizer` of the page."""
    module = resources.files("reformer_export.exporters.web") / "page/tokenizer.js"
    address = "data:text/javascript;base64," + base64.b64encode(module.read_bytes()).decode()
    code = f"""
        import {{ readFileSync }} from "node:fs";
        import {{ Tokenizer }} from "{address}";
        const given = JSON.parse(readFileSync(0, "utf8"));
        process.stdout.write(JSON.stringify({script}));
    """
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", code],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
def test_ids_are_those_of_python(tmp_path: Path) -> None:
    made = [
        reformer(tmp_path / f"{kind} {name}", kind, FOLDERS[name])
        for kind in KINDS
        for name in FOLDERS
    ]
    texts = [*TEXTS, *any_texts(200), "a" * 3000, "\u0301" * 3000, "\u6f22\u5b57" * 3000]
    found = in_node(
        "given.files.map((f) => new Tokenizer(f)).map((t) => given.texts.map((x) => t.encode(x)))",
        {"files": [tokenizer_document(tokenizer) for tokenizer in made], "texts": texts},
    )
    for tokenizer, all_ids in zip(made, found, strict=True):
        for text, ids in zip(texts, all_ids, strict=True):
            assert ids == tokenizer.encode(text).ids, text


@needs_node
def test_every_character_becomes_the_ids_of_python(tmp_path: Path) -> None:
    tokenizer = reformer(tmp_path / "folder", "symbols")
    characters = [chr(c) for c in range(1, 0x20000) if not 0xD800 <= c < 0xE000]
    texts = ["a".join(characters[start : start + 64]) for start in range(0, len(characters), 64)]
    found = in_node(
        "((t) => given.texts.map((x) => t.encode(x)))(new Tokenizer(given.file))",
        {"file": tokenizer_document(tokenizer), "texts": texts},
    )
    assert found == [tokenizer.encode(text).ids for text in texts]


@needs_node
def test_tokens_become_the_text_of_python(tmp_path: Path) -> None:
    """Also special tokens, and ids that the vocabulary does not have."""
    tokenizer = reformer(tmp_path / "folder", "symbols", FOLDERS["added_tokens_decoder"])
    rng = random.Random(0)
    ids = [[rng.randrange(305) for _ in range(8)] for _ in range(500)]
    cases = [(each[:length], each[length:]) for each in ids for length in (0, 1, 3)]
    found = in_node(
        """((t) => given.cases.map(([prompt, tokens]) => tokens.map(t.stream(prompt))))
           (new Tokenizer(given.file))""",
        {"file": tokenizer_document(tokenizer), "cases": cases},
    )
    for (prompt, tokens), texts in zip(cases, found, strict=True):
        stream = TokenizerStream(tokenizer, prompt)
        assert texts == [stream.add(token) for token in tokens]


def test_a_page_with_a_tokenizer(tmp_path: Path) -> None:
    pytest.importorskip("sentencepiece")
    folder = make_artifact(
        tmp_path / "artifact", vocab_size=320, files={"spiece.model": pieces("bpe")}
    )
    text = PageText.of(Artifact.open(folder))
    text.write(tmp_path)
    assert text.files == ("page_tokenizer.json",)
    assert text.details == {
        "byte_offset": None,
        "tokenizer": "page_tokenizer.json",
        "ids_because": None,
    }
    assert json.loads((tmp_path / "page_tokenizer.json").read_bytes()) == text.tokenizer


def test_a_page_for_bytes_needs_no_file(tmp_path: Path) -> None:
    text = PageText.of(Artifact.open(make_artifact(tmp_path / "artifact", vocab_size=258)))
    text.write(tmp_path)
    assert text == PageText(byte_offset=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact"]


@pytest.mark.parametrize(
    ("vocab_size", "files", "reason"),
    [
        (40, {}, "has no tokenizer and its vocabulary of 40 cannot hold bytes"),
        (320, {}, "has no tokenizer, and a vocabulary of 320 is that of SentencePiece"),
        (320, {"vocab.json": b"{}"}, r"has a tokenizer that is not known here \(vocab.json\)"),
    ],
)
def test_a_page_without_text(
    tmp_path: Path, vocab_size: int, files: dict[str, bytes], reason: str
) -> None:
    artifact = make_artifact(tmp_path / "artifact", vocab_size=vocab_size, files=files)
    text = PageText.of(Artifact.open(artifact))
    assert text.details["tokenizer"] is text.details["byte_offset"] is None
    assert text.ids_because is not None
    assert re.search(reason, text.ids_because)
    assert str(tmp_path) not in text.ids_because


def change(**parts: Any) -> Any:
    """A tokenizer as the page has it, with other parts."""
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocab={"?": 0, "a": 1}, merges=[], unk_token="?", fuse_unk=True)
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    for name, part in parts.items():
        setattr(made, name, part)
    return made


def test_the_smallest_tokenizer() -> None:
    assert tokenizer_document(change())["pieces"] == {"?": 0, "a": 1}


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"model": tokenizers.models.Unigram([("a", 0.0)])}, "a model of type Unigram"),
        (
            {"model": tokenizers.models.BPE({"a": 0}, [], unk_token="a", byte_fallback=True)},
            "a model with .*'byte_fallback': True",
        ),
        (
            {"model": tokenizers.models.BPE({"a": 0}, [], fuse_unk=True)},
            "no token for unknown characters",
        ),
        ({"pre_tokenizer": None}, "a pre_tokenizer of type None, and the page has Metaspace only"),
        (
            {"pre_tokenizer": tokenizers.pre_tokenizers.Metaspace(split=False)},
            "a pre_tokenizer with {'split': False}",
        ),
        ({"decoder": tokenizers.decoders.ByteFallback()}, "a decoder of type ByteFallback"),
        ({"normalizer": tokenizers.normalizers.NFKC()}, r"a normalizer of \['NFKC'\]"),
        ({"post_processor": tokenizers.processors.ByteLevel()}, "a post_processor of type Byte"),
    ],
)
def test_other_tokenizers_are_refused(parts: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=f"the artifact's tokenizer has {reason}"):
        tokenizer_document(change(**parts))
