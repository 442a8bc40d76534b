"""Tokenizers as checkpoints have them, with real SentencePiece models, and texts for them."""

from __future__ import annotations

import io
import json
import random
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

from reformer_export.inference.huggingface_tokenizer import FILES

REFORMER = {"config.json": {"model_type": "reformer"}}

TEXTS = (
    "The licence is [MASK].",
    "a  b   c </s> <unk><s>",
    "Grüße ☃ <foo>x[BAR] <ctl>  x",
    "<foo> [MASK]x",
    " lead trail ",
    "",
    "\n\tnew\nline",
    "[pad]<pad>[CLS]",
    "Apache License</s>the",
    "ﬁne ½ Ⅷ",
)


KINDS: dict[str, dict[str, Any]] = {
    "bpe": {"vocab_size": 80, "model_type": "bpe", "character_coverage": 0.98},
    "symbols": {
        "vocab_size": 300,
        "model_type": "bpe",
        "user_defined_symbols": ["<foo>", "[BAR]"],
        "control_symbols": ["<ctl>"],
    },
    "unigram": {"vocab_size": 120, "model_type": "unigram"},
    "as written": {
        "vocab_size": 90,
        "model_type": "bpe",
        "normalization_rule_name": "identity",
    },
}
"""Options of SentencePiece's trainer, by the name of the kind of model."""


@cache
def pieces(kind: str) -> bytes:
    """A spiece.model."""
    import sentencepiece

    stored = io.BytesIO()
    lines = (Path(__file__).parents[2] / "LICENSE").read_text().splitlines()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=stored, minloglevel=2, **KINDS[kind]
    )
    return stored.getvalue()


def token(content: str, **flags: bool) -> dict[str, Any]:
    common = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {"content": content, **common, **flags}


FOLDERS: dict[str, dict[str, Any]] = {
    "a vocabulary alone": {},
    "added_tokens.json": {"added_tokens.json": {"[MASK]": 80}},
    "as transformers 4 wrote it": {
        "added_tokens.json": {"[MASK]": 80, "[X]": 81},
        "special_tokens_map.json": {
            "mask_token": "[MASK]",
            "eos_token": token("</s>", lstrip=True, rstrip=True),
            "additional_special_tokens": ["[X]"],
        },
        "tokenizer_config.json": {
            "tokenizer_class": "ReformerTokenizer",
            "sp_model_kwargs": {},
            "model_max_length": 20,
        },
    },
    "added_tokens_decoder": {
        "tokenizer_config.json": {
            "tokenizer_class": "ReformerTokenizerFast",
            "mask_token": "[MASK]",
            "pad_token": "[pad]",
            "added_tokens_decoder": {
                "80": token("[MASK]", lstrip=True, special=True),
                "85": token("trail", normalized=True, rstrip=True, single_word=True),
            },
        }
    },
    "start and end": {
        "tokenizer_config.json": {
            "add_eos_token": True,
            "add_bos_token": True,
            "bos_token": "<s>",
            "additional_special_tokens": ["[CLS]"],
        }
    },
    "an end only": {"tokenizer_config.json": {"add_eos_token": True, "add_bos_token": True}},
    "tokens of its own": {
        "tokenizer_config.json": {
            "extra_special_tokens": {"image_token": "[CLS]"},
            "foo_token": "Apache",
            "eos_token": {"__type": "AddedToken", **token("</s>", rstrip=True)},
        }
    },
    "special tokens are text": {"tokenizer_config.json": {"split_special_tokens": True}},
}


def write(folder: Path, *parts: dict[str, Any]) -> Path:
    folder.mkdir()
    for name, content in {k: v for part in parts for k, v in part.items()}.items():
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        (folder / name).write_bytes(data)
    return folder


def tokenizer_files(folder: Path) -> dict[str, Path]:
    """The files of a checkpoint that `open_tokenizer` reads."""
    names = (*FILES, "config.json")
    return {name: folder / name for name in names if (folder / name).exists()}


def any_texts(count: int) -> list[str]:
    """Texts of parts that tokenizers treat in a special way, and of all kinds of characters."""
    rng = random.Random(0)
    special = [
        *("</s>", "<unk>", "<s>", "<foo>", "[BAR]", "<ctl>", "[MASK]", "[pad]", "[X]", "[CLS]"),
        *("trail", "Apache", "licence", " ", "  ", "\n", "\r\n", "\u2581", "\u3000", "\ufeff"),
        *("e\u0301", "\u0301", "\u0600a", "\uff76\uff9e", "\u200d", "\u2122\x1e", "\x00", "\x85"),
    ]
    characters = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) != "Cs"]
    parts = [lambda: rng.choice(special), lambda: chr(rng.randrange(32, 127))]
    parts += [lambda: rng.choice(characters[:0x600]), lambda: rng.choice(characters)]
    lengths = (rng.randrange(25) for _ in range(count))
    return ["".join(rng.choice(parts)() for _ in range(length)) for length in lengths]
