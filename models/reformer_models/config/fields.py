"""How a field of a configuration is declared: its default and what it accepts.

A check takes the field's name and the given value, and returns the value to keep: JSON has lists
instead of tuples and may write a float as an integer. For an invalid value it raises `ConfigError`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import field, fields
from typing import TYPE_CHECKING, NoReturn, TypeVar

from reformer_models.errors import ConfigError, quoted

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Check = Callable[[str, object], object]
T = TypeVar("T")

_CHECK = "check"


def setting(default: T, check: Check) -> T:
    """A dataclass field with a default and a check."""
    return field(default=default, metadata={_CHECK: check})


def check_fields(instance: DataclassInstance) -> None:
    """Check every field of a frozen dataclass that `setting` made, and keep the checked value.

    Raises:
        ConfigError: A field does not accept its value.
    """
    for declared in fields(instance):
        if check := declared.metadata.get(_CHECK):
            value = check(declared.name, getattr(instance, declared.name))
            object.__setattr__(instance, declared.name, value)


def refuse(name: str, expected: str, value: object) -> NoReturn:
    """Raise the ConfigError for an invalid value."""
    raise ConfigError(f"{name} must be {expected}, found {quoted(value)}")


def integer(low: int, high: int | None = None) -> Callable[[str, object], int]:
    """An int (not a bool) from `low` to `high`, both included."""
    expected = f"an integer of at least {low}" if high is None else f"an integer in {low}..{high}"

    def check(name: str, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            refuse(name, expected, value)
        if value < low or (high is not None and value > high):
            refuse(name, expected, value)
        return value

    return check


def number(low: float, high: float = math.inf) -> Check:
    """A finite float (or int) from `low` to `high`, both included; kept as a float."""
    expected = f"a number of at least {low:g}" if high == math.inf else f"in {low:g}..{high:g}"

    def check(name: str, value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            refuse(name, expected, value)
        if not (low <= value <= high and abs(value) < math.inf):  # also false for NaN
            refuse(name, expected, value)
        return float(value)

    return check


def flag(name: str, value: object) -> bool:
    """True or False; no other type."""
    if not isinstance(value, bool):
        refuse(name, "true or false", value)
    return value


def one_of(choices: frozenset[str], *, kind: str) -> Check:
    """One of a set of strings; `kind` describes them in the error message."""

    def check(name: str, value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            refuse(name, f"{kind} ({', '.join(sorted(choices))})", value)
        return value

    return check


def text(name: str, value: object) -> str:
    """Any string."""
    if not isinstance(value, str):
        refuse(name, "a string", value)
    return value


def version(name: str, value: object) -> str:
    """A release number: an integer, which a dot and any text may follow."""
    if not isinstance(value, str) or not re.match(r"\d+(\.|$)", value):
        refuse(name, "a release number like 4.57.1", value)
    return value


def sequence(item: Check, *, at_least: int = 0, exactly: int | None = None) -> Check:
    """A list or tuple of items that `item` accepts; kept as a tuple."""

    def check(name: str, value: object) -> tuple[object, ...]:
        if not isinstance(value, list | tuple):
            refuse(name, "a list", value)
        if exactly is not None and len(value) != exactly:
            refuse(name, f"a list of {exactly}", value)
        if len(value) < at_least:
            refuse(name, f"a list of at least {at_least}", value)
        return tuple(item(f"{name}[{place}]", one) for place, one in enumerate(value))

    return check


def optional(check: Check, *, none: object = None) -> Check:
    """A value that `check` accepts, or None, which becomes `none`."""

    def check_or_none(name: str, value: object) -> object:
        return none if value is None else check(name, value)

    return check_or_none


def bucket_factors(name: str, value: object) -> tuple[int, ...]:
    """The factors of the number of buckets: even ints, or a single one; kept as a tuple.

    Each direction and its opposite have a bucket each, so every factor is even. The kernels number
    buckets with 32 bits and need one more number for padding.
    """
    factor = integer(2)
    if not isinstance(value, list | tuple):
        value = (value,)
    if not value:
        refuse(name, "an even integer or a list of them", value)
    factors = tuple(value)
    for one in factors:
        factor(name, one)
        if one % 2:
            refuse(name, "even (a list: in every entry)", value)
    if math.prod(factors) >= 2**31 - 1:
        refuse(name, "fewer than 2147483647 buckets in all", value)
    return factors
