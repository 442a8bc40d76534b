"""Reading keys of config.json that do not correspond to one field of `ReformerConfig`."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Final

from reformer_models.config.fields import integer, refuse
from reformer_models.config.known_keys import KEYS_OF_OTHER_MODELS, KEYS_WITHOUT_EFFECT
from reformer_models.errors import ConfigError, quoted

MODEL_TYPE: Final = "reformer"

_DEFAULT_LABELS: Final = 2

# Functions below read these keys into fields with other names.
_OTHER_KEYS: Final = frozenset({"id2label", "num_hidden_layers"})


def refuse_foreign(
    raw: Mapping[str, object], *, known: Collection[str], ignored: Collection[str]
) -> None:
    """Refuse a config.json that is not a Reformer's, or has an unknown key.

    Args:
        raw: The parsed file.
        known: The keys that are fields of `ReformerConfig`.
        ignored: Unknown keys to accept.

    Raises:
        ConfigError: The message names every unknown key and, if there is one, a similar known key.
    """
    if "model_type" not in raw:
        asked = f'"model_type": "{MODEL_TYPE}"'
        raise ConfigError(f"model_type is missing; if this is a Reformer's, add {asked}")
    if raw["model_type"] != MODEL_TYPE:
        refuse("model_type", f"'{MODEL_TYPE}' (no other model is known here)", raw["model_type"])
    for key, needed in KEYS_OF_OTHER_MODELS.items():
        if raw.get(key) not in (None, needed):
            refuse(key, f"{needed!r} in a Reformer", raw[key])

    known = {*known, *_OTHER_KEYS, *KEYS_OF_OTHER_MODELS}
    unknown = sorted(raw.keys() - known - KEYS_WITHOUT_EFFECT - set(ignored))
    if unknown:
        named = []
        for key in unknown:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.8)
            named.append(quoted(key) + (f" (is it {near[0]}?)" if near else ""))
        raise ConfigError(
            f"unknown in a Reformer's configuration: {', '.join(named)}. If the model does not "
            "depend on it, remove it, or ignore it with --ignore-config-key (in Python: "
            "ignore_config_keys)"
        )


def built_layers(attn_layers: tuple[str, ...], num_hidden_layers: object) -> tuple[str, ...]:
    """The kind of every layer that Transformers builds.

    It builds `num_hidden_layers` layers, by default one for each entry of `attn_layers`. If all
    entries are equal, all layers have that kind, and there may be more layers than entries;
    otherwise layer i has the kind of entry i. The padding depends on all entries, also unused ones.

    Raises:
        ConfigError: The two contradict each other, or an unused entry would change the padding.
    """
    if num_hidden_layers is None or num_hidden_layers == len(attn_layers):
        return attn_layers
    kinds = set(attn_layers)
    alike = len(kinds) == 1
    check = integer(1, None if alike else len(attn_layers))
    count = check("num_hidden_layers", num_hidden_layers)
    layers = (attn_layers * count if alike else attn_layers)[:count]
    if set(layers) != kinds:
        entries = f"{len(attn_layers)}, the number of entries of attn_layers"
        refuse("num_hidden_layers", entries, num_hidden_layers)
    return layers


def label_count(raw: Mapping[str, object]) -> object:
    """The number of labels. Transformers writes it, or a table of names, or neither if it is two.

    Raises:
        ConfigError: The two contradict each other (which one counts depends on the release of
            Transformers).
    """
    names, count = raw.get("id2label"), raw.get("num_labels")
    if names is None:
        return _DEFAULT_LABELS if count is None else count
    if not isinstance(names, Mapping):
        refuse("id2label", "a table of names by number", names)
    if count not in (None, len(names)):
        refuse("num_labels", f"{len(names)}, the number of entries of id2label", count)
    return len(names)
