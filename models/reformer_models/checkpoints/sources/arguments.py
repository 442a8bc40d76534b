"""Reads the arguments that a model was built with from a configuration file of our own.

Some libraries save only weights. For these the user writes the arguments beside them, as a JSON
object: `{"class": "ReformerLM", ...}`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

from reformer_models.config.fields import Check, refuse
from reformer_models.errors import ConfigError, quoted, some

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

A = TypeVar("A", bound="DataclassInstance")


def unused(reason: str) -> Check:
    """Refuses every value that turns an option on."""

    def check(name: str, value: object) -> object:
        if value:
            refuse(name, f"off, because our model has {reason}", value)
        return value

    return check


def always_on(part: str) -> Check:
    """Refuses every value that turns an option off; `part` is what our model has then."""

    def check(name: str, value: object) -> object:
        if value is not True:
            refuse(name, f"true, because our model has {part}", value)
        return value

    return check


def without_effect(name: str, value: object) -> object:
    """Accepts every value: the argument has no effect on what a trained model computes."""
    return value


def read_arguments(
    kind: type[A],
    raw: Mapping[str, object],
    ignore_keys: Collection[str],
    *,
    required: Collection[str] = (),
    owner: str,
) -> A:
    """The arguments in a JSON object; those that are not there have the library's defaults.

    Args:
        kind: A dataclass whose fields are the arguments.
        raw: The JSON object.
        ignore_keys: Unknown keys to accept.
        required: Arguments without a default.
        owner: What has these arguments, for error messages.

    Raises:
        ConfigError: An argument is missing, unknown or invalid.
    """
    names = [declared.name for declared in fields(kind)]
    if missing := [name for name in required if name not in raw]:
        raise ConfigError(f"{some(missing)} missing: the file must have every argument given to it")
    if unknown := sorted(raw.keys() - {*names} - set(ignore_keys)):
        raise ConfigError(f"{', '.join(map(quoted, unknown))}: no argument of {owner}")
    given: dict[str, Any] = {name: raw[name] for name in names if name in raw}
    return kind(**given)
