"""What the page needs to convert text to token ids.

`page/tokenizer.js` works exactly as the tokenizers of Reformers do. This module refuses all others.
The page does not use npm's @huggingface/tokenizers (0.2.0), because it replaces characters by rules
of its own instead of SentencePiece's map: a zero-width joiner alone gives other ids.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reformer_export.artifact import Artifact
from reformer_export.errors import InputError
from reformer_export.inference.text import ByteCodec, TokenizerCodec, open_codec

_FILE = "page_tokenizer.json"

_BYTE_PAIRS = {
    "type": "BPE",
    "dropout": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "fuse_unk": True,
    "byte_fallback": False,
    "ignore_merges": False,
}
_SPACES = {
    "type": "Metaspace",
    "replacement": "\u2581",
    "prepend_scheme": "always",
    "split": True,
}
_ONE_SPACE = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}


@dataclass(frozen=True)
class PageText:
    """How a page converts text to token ids.

    Attributes:
        byte_offset: the token id of byte 0; None if the tokens are not bytes.
        tokenizer: the content of the tokenizer's file; None if the page needs none.
        ids_because: why the page takes token ids instead of text; None if it takes text.
    """

    byte_offset: int | None = None
    tokenizer: Mapping[str, Any] | None = None
    ids_because: str | None = None

    @classmethod
    def of(cls, artifact: Artifact) -> PageText:
        """Read the artifact's tokenizer.

        Raises:
            MissingDependencyError: a package that reads the tokenizer is not installed.
            ArtifactError: a file of the tokenizer is damaged.
        """
        try:
            codec = open_codec(artifact)
            if isinstance(codec, TokenizerCodec):
                return cls(tokenizer=tokenizer_document(codec.tokenizer))
        except InputError as error:
            # The part after the colon is advice for commands that read a text.
            return cls(ids_because=str(error).partition(": ")[0])
        return cls(byte_offset=codec.offset if isinstance(codec, ByteCodec) else None)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the files that `write` writes."""
        return () if self.tokenizer is None else (_FILE,)

    @property
    def details(self) -> dict[str, Any]:
        """What the page's scripts read in the manifest."""
        return {
            "byte_offset": self.byte_offset,
            "tokenizer": next(iter(self.files), None),
            "ids_because": self.ids_because,
        }

    def write(self, folder: Path) -> None:
        """Write the tokenizer's file into `folder`, if the page needs one."""
        if self.tokenizer is not None:
            text = json.dumps(self.tokenizer, ensure_ascii=False, separators=(",", ":"))
            (folder / _FILE).write_text(text, encoding="utf-8")


def tokenizer_document(tokenizer: Any) -> dict[str, Any]:
    """What `page/tokenizer.js` reads: its type `TokenizerFile`, as a JSON object.

    Args:
        tokenizer: a `tokenizers.Tokenizer`.

    Raises:
        InputError: this tokenizer has a part that the page does not have.
    """
    parts = json.loads(tokenizer.to_str())
    model = parts["model"]
    _require_equal("model", {name: model.get(name) for name in _BYTE_PAIRS}, _BYTE_PAIRS)
    _require_equal("pre_tokenizer", parts["pre_tokenizer"], _SPACES)
    _require_equal("decoder", parts["decoder"], _SPACES)
    pieces = model["vocab"]
    if model["unk_token"] not in pieces:
        raise _refusal("no token for unknown characters", "the page needs one")
    before, after = _surrounding(parts["post_processor"])
    return {
        "pieces": pieces,
        "merges": [[pieces[a], pieces[b], pieces[a + b]] for a, b in model["merges"]],
        "unknown": pieces[model["unk_token"]],
        "characters": _characters(parts["normalizer"]),
        "added": parts["added_tokens"],
        "special_tokens_are_text": tokenizer.encode_special_tokens,
        "before": before,
        "after": after,
    }


def _require_equal(name: str, found: Mapping[str, Any] | None, expected: Mapping[str, Any]) -> None:
    """Raise InputError if a part of the tokenizer is not the one that the page has."""
    if found == expected:
        return
    if found is None or found["type"] != expected["type"]:
        kind = None if found is None else found["type"]
        raise _refusal(f"a {name} of type {kind}", f"the page has {expected['type']} only")
    settings = {key: value for key, value in found.items() if value != expected.get(key)}
    raise _refusal(f"a {name} with {settings}", "the page does not have this")


def _characters(normalizer: Mapping[str, Any] | None) -> str | None:
    """SentencePiece's map of replacements in base64; None if the text is not changed."""
    if normalizer is None:
        return None
    steps = normalizer.get("normalizers", [normalizer])
    if [step["type"] for step in steps] != ["Precompiled", "Replace"] or steps[1] != _ONE_SPACE:
        found = [step["type"] for step in steps]
        raise _refusal(f"a normalizer of {found}", "the page has SentencePiece's map only")
    characters: str = steps[0]["precompiled_charsmap"]
    return characters


def _surrounding(processor: Mapping[str, Any] | None) -> tuple[list[int], list[int]]:
    """The token ids before and after every text."""
    if processor is None:
        return [], []
    if processor["type"] != "TemplateProcessing":
        raise _refusal(f"a post_processor of type {processor['type']}", "the page has templates")
    single = processor["single"]
    places = [place for place, item in enumerate(single) if "Sequence" in item]
    if len(places) != 1:
        raise _refusal(f"a template for {len(places)} texts", "the page has one text")

    def ids(items: list[Any]) -> list[int]:
        known = processor["special_tokens"]
        return [each for item in items for each in known[item["SpecialToken"]["id"]]["ids"]]

    return ids(single[: places[0]]), ids(single[places[0] + 1 :])


def _refusal(part: str, instead: str) -> InputError:
    return InputError(f"the artifact's tokenizer has {part}, and {instead}")
