"""The tokenizer of a checkpoint's folder. It gives the same token ids as Hugging Face's.

transformers 5 does not use spiece.model and tokenizer.json unchanged: `ReformerTokenizer` builds a
byte-pair tokenizer from the pieces, and adds the special and added tokens that are spread over
tokenizer_config.json, special_tokens_map.json and added_tokens.json. This module does the same with
the `tokenizers` package, and refuses tokenizers of unknown classes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reformer_export.errors import ArtifactError, InputError, ReformerError
from reformer_export.host.optional import require

FILES = (
    "tokenizer.json",
    "spiece.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
"""The files that a tokenizer is read from; at least one of the first two must exist."""

_REFORMER = "ReformerTokenizer"
_GENERIC = ("PreTrainedTokenizer", "TokenizersBackend")
"""Classes whose tokenizer.json is complete."""

_NAMED = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
_CONTROL, _USER_DEFINED = 3, 4  # types of pieces in spiece.model
_METASPACE = "▁"


def open_tokenizer(files: Mapping[str, Path]) -> Any:
    """The `tokenizers.Tokenizer` of a folder.

    Args:
        files: the paths of the existing files among `FILES` and config.json, by name.

    Raises:
        MissingDependencyError: a package that reads the files is not installed.
        InputError: the tokenizer is of a class that this module does not know.
        ArtifactError: a file is damaged.
    """
    tokenizers = require("tokenizers", purpose="the artifact's tokenizer")
    try:
        settings = _Settings.read(tokenizers, files)
        if settings.cls == _REFORMER:
            tokenizer = _reformer(tokenizers, files, settings)
        else:
            tokenizer = tokenizers.Tokenizer.from_file(str(files["tokenizer.json"]))
        tokenizer.encode_special_tokens = settings.split_special_tokens
        _add_tokens(tokenizers, tokenizer, settings)
    except ReformerError:
        raise
    except Exception as error:  # the package raises plain Exception for a damaged file
        path = files.get("tokenizer.json") or files["spiece.model"]
        raise ArtifactError(
            f"{path}, with the files beside it, does not load as a tokenizer: {error}"
        ) from error
    # Training may have saved both settings. The model pads, and the signature checks lengths.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


@dataclass
class _Settings:
    """The settings in the JSON files beside the vocabulary.

    Attributes:
        cls: the class in transformers, without "Fast".
        named: special tokens by the name of their attribute ("eos_token").
        extra: further special tokens.
        added: added tokens by the id in the files.
        appended: contains "bos" if every sequence starts with that token, and "eos" if every
            sequence ends with that token.
        split_special_tokens: True if special tokens in a text are encoded as ordinary text.
    """

    cls: str
    named: dict[str, Any] = field(default_factory=dict)
    extra: list[Any] = field(default_factory=list)
    added: dict[int, Any] = field(default_factory=dict)
    appended: frozenset[str] = frozenset()
    split_special_tokens: bool = False

    @classmethod
    def read(cls, tokenizers: Any, files: Mapping[str, Path]) -> _Settings:
        config = _object(files.get("tokenizer_config.json"))
        has_json = "tokenizer.json" in files
        made = cls(_class_name(config, _object(files.get("config.json")), has_json=has_json))
        made.split_special_tokens = bool(config.get("split_special_tokens", False))
        if not has_json:
            made.appended = frozenset(
                name for name in ("bos", "eos") if config.get(f"add_{name}_token")
            )
        values = {name: _token(tokenizers, value) for name, value in config.items()}
        if "extra_special_tokens" not in config or not config["extra_special_tokens"]:
            values["extra_special_tokens"] = values.get("additional_special_tokens")
        if "added_tokens_decoder" in config:
            for index, token in config["added_tokens_decoder"].items():
                made.added[int(index)] = _added(tokenizers, token)
        else:
            _read_special_tokens_map(tokenizers, files, values)
            special = {str(values[name]) for name in _NAMED if values.get(name)}
            special |= set(map(str, values.get("extra_special_tokens") or []))
            for text, index in _object(files.get("added_tokens.json")).items():
                known = text in special
                made.added[index] = tokenizers.AddedToken(text, normalized=not known, special=known)
            for token in _object(files.get("tokenizer.json")).get("added_tokens", []):
                made.added[token["id"]] = _added(tokenizers, token)
        by_text = {str(token): token for token in made.added.values()}
        extra = values.get("extra_special_tokens")
        # Names that only some models have, such as "image_token".
        own = {
            name: value
            for name, value in values.items()
            if name.endswith("_token")
            and name not in _NAMED
            and isinstance(value, (str, tokenizers.AddedToken))
        }
        if isinstance(extra, dict):
            own |= extra
        else:
            made.extra = list(extra or [])
        made.named = {name: values[name] for name in _NAMED if values.get(name) is not None}
        made.named = {name: by_text.get(str(value), value) for name, value in made.named.items()}
        made.named |= own
        return made


def _class_name(config: Mapping[str, Any], model: Mapping[str, Any], *, has_json: bool) -> str:
    named = config.get("tokenizer_class") or model.get("tokenizer_class")
    if named is None:
        model_type = model.get("model_type")
        return _REFORMER if model_type == "reformer" or not has_json else _GENERIC[0]
    name = str(named).removesuffix("Fast")
    if name == _REFORMER or (name in _GENERIC and has_json):
        return name
    raise InputError(
        f"the artifact's tokenizer is a {named}, which is not known here: encode the text with "
        "transformers and give the token ids with --input-ids, or ask for --tokenizer bytes"
    )


def _read_special_tokens_map(
    tokenizers: Any, files: Mapping[str, Path], values: dict[str, Any]
) -> None:
    """Copy the entries of special_tokens_map.json into `values`."""
    for name, value in _object(files.get("special_tokens_map.json")).items():
        if name == "extra_special_tokens" and isinstance(value, list):
            found = list(values.get(name) or [])
            for each in (_special(tokenizers, item) for item in value):
                if each not in found:
                    found.append(each)
            values[name] = found
        elif isinstance(value, dict) and name != "extra_special_tokens":
            values[name] = _special(tokenizers, value)
        else:
            values[name] = value


def _special(tokenizers: Any, value: Any) -> Any:
    return _added(tokenizers, value, special=True) if isinstance(value, dict) else value


def _added(tokenizers: Any, value: Mapping[str, Any], **changed: bool) -> Any:
    """A token with its flags; raises ValueError if it has no text."""
    if not isinstance(value.get("content"), str):
        raise ValueError(f"{value} is not an added token")
    flags = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
    known = {name: flag for name, flag in value.items() if name in flags}
    return tokenizers.AddedToken(**known | changed)


def _token(tokenizers: Any, value: Any) -> Any:
    """A value of tokenizer_config.json, with all tokens in it converted to `AddedToken`."""
    if isinstance(value, list):
        return [_token(tokenizers, each) for each in value]
    if isinstance(value, dict):
        if value.get("__type") == "AddedToken":
            return _added(tokenizers, value)
        return {name: _token(tokenizers, each) for name, each in value.items()}
    return value


def _reformer(tokenizers: Any, files: Mapping[str, Path], settings: _Settings) -> Any:
    """A tokenizer built from tokenizer.json, else from spiece.model, as by `ReformerTokenizer`."""
    settings.named.setdefault("eos_token", "</s>")
    settings.named.setdefault("unk_token", "<unk>")
    settings.named = {name: settings.named[name] for name in _in_order(settings.named)}
    post_processor = None
    if path := files.get("tokenizer.json"):
        document = _object(path)
        model = document["model"]
        if model.get("type") != "BPE":
            raise InputError(
                f"{path.name} holds a {model.get('type')} vocabulary, and a ReformerTokenizer is "
                "BPE: encode the text with transformers and give the token ids with --input-ids"
            )
        vocabulary = model["vocab"]
        merges = [_pair(merge) for merge in model["merges"]]
        characters = _character_map(document.get("normalizer"))
        post_processor = tokenizers.Tokenizer.from_file(str(path)).post_processor
    else:
        vocabulary, merges, characters = _read_pieces(tokenizers, files["spiece.model"], settings)
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocab=vocabulary,
            merges=merges,
            unk_token=str(settings.named["unk_token"]),
            fuse_unk=True,
            byte_fallback=False,
        )
    )
    if characters is not None:
        made.normalizer = tokenizers.normalizers.Sequence(
            [
                tokenizers.normalizers.Precompiled(characters),
                tokenizers.normalizers.Replace(tokenizers.Regex(" {2,}"), " "),
            ]
        )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(_METASPACE, prepend_scheme="always")
    made.decoder = tokenizers.decoders.Metaspace(_METASPACE, prepend_scheme="always")
    if post_processor is not None:
        made.post_processor = post_processor
    return made


def _pair(merge: Any) -> tuple[str, str]:
    """The two parts of a merge in tokenizer.json: a list, or in older files a text with a space."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _in_order(named: Iterable[str]) -> list[str]:
    """The names in the order in which transformers adds the tokens."""
    found = list(named)
    return [name for name in _NAMED if name in found] + [n for n in found if n not in _NAMED]


def _character_map(normalizer: Any) -> bytes | None:
    """SentencePiece's normalization map; None if tokenizer.json has none."""
    if not normalizer:
        return None
    steps = normalizer["normalizers"] if normalizer.get("type") == "Sequence" else [normalizer]
    for step in steps:
        if step.get("type") == "Precompiled" and "precompiled_charsmap" in step:
            return base64.b64decode(step["precompiled_charsmap"])
    return None


def _read_pieces(
    tokenizers: Any, path: Path, settings: _Settings
) -> tuple[dict[str, int], list[tuple[str, str]], bytes | None]:
    """Vocabulary, merges and normalization map of a SentencePiece model.

    Control pieces and user-defined pieces become special tokens, unless the settings already have
    extra special tokens.
    """
    for module in ("sentencepiece", "sentencepiece.sentencepiece_model_pb2"):
        pb2: Any = require(module, purpose="the artifact's spiece.model")
    proto = pb2.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's own exception class
        raise ArtifactError(f"{path} does not load as a SentencePiece model") from error
    if not proto.pieces:
        raise ArtifactError(f"{path} does not load as a SentencePiece model: it has no pieces")
    vocabulary = {piece.piece: number for number, piece in enumerate(proto.pieces)}
    if not settings.extra:
        settings.extra = [
            tokenizers.AddedToken(p.piece, normalized=False, special=p.type == _CONTROL)
            for p in proto.pieces
            if p.type in (_CONTROL, _USER_DEFINED)
        ]
    return vocabulary, _merges(vocabulary), proto.normalizer_spec.precompiled_charsmap or None


def _merges(vocabulary: Mapping[str, int]) -> list[tuple[str, str]]:
    """Every pair of pieces whose concatenation is a piece, in the order of the joined pieces."""
    merges = []
    for piece, number in vocabulary.items():
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in vocabulary and right in vocabulary:
                merges.append((number, len(left), len(right), left, right))
    # The order is total: two pairs of the same lengths cannot join to the same piece.
    return [(left, right) for *_, left, right in sorted(merges)]


def _add_tokens(tokenizers: Any, tokenizer: Any, settings: _Settings) -> None:
    """Add the tokens in the same order and with the same flags as transformers."""
    there = tokenizer.get_added_tokens_decoder()
    present = {repr(token) for token in there.values()}
    wanted = [token for _, token in sorted(settings.added.items()) if repr(token) not in present]
    known = {token.content for token in there.values()} | set(map(str, wanted))
    for token in (*settings.named.values(), *settings.extra):
        if str(token) not in known and token not in wanted:
            wanted.append(token)
    names = set(map(str, settings.named.values()))
    for number, token in enumerate(wanted):
        if isinstance(token, str):
            wanted[number] = tokenizers.AddedToken(token, special=True)
        elif not token.special and str(token) in names:
            token.special = True
    if wanted:
        tokenizer.add_tokens(wanted)
    if settings.cls != _REFORMER:
        return
    again = [
        tokenizers.AddedToken(token, special=True, normalized=False)
        if isinstance(token, str)
        else token
        for token in (*settings.named.values(), *settings.extra)
    ]
    if again:
        tokenizer.add_special_tokens(again)
    _append(tokenizers, tokenizer, settings)


def _append(tokenizers: Any, tokenizer: Any, settings: _Settings) -> None:
    """Make the tokenizer add the special tokens of `settings.appended` to each sequence."""
    first, last = (
        str(settings.named[f"{name}_token"])
        if name in settings.appended and f"{name}_token" in settings.named
        else None
        for name in ("bos", "eos")
    )
    if first is None and last is None:
        return
    pieces = [f"{first}:0"] if first else []
    pieces += ["$A:0", *([f"{last}:0"] if last else [])]
    tokens = [(token, tokenizer.token_to_id(token)) for token in (first, last) if token]
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single=" ".join(pieces), special_tokens=tokens
    )


def _object(path: Path | None) -> dict[str, Any]:
    """A JSON object; empty if there is no file."""
    if path is None:
        return {}
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} does not load as JSON: {error}") from error
    if not isinstance(document, dict):
        raise ArtifactError(f"{path} must be a JSON object")
    return document
