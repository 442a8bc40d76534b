"""Typed reading of a JSON object from an untrusted file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reformer_export.errors import ArtifactError

_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}


class Fields:
    """One JSON object; each reader returns the field's value or raises ArtifactError.

    `where` is the object's place in its document ("manifest.json: signature"). Error messages
    contain it, so they name the exact field that is wrong.
    """

    def __init__(self, raw: object, where: str) -> None:
        if not isinstance(raw, dict):
            raise _mismatch(where, "an object", raw)
        self._raw: dict[str, Any] = raw
        self.where = where

    def __contains__(self, key: str) -> bool:
        return key in self._raw

    def value(self, key: str) -> object:
        """The field, of any type."""
        if key not in self._raw:
            raise ArtifactError(f"{self.where}.{key} is missing: export the model again")
        return self._raw[key]

    def text(self, key: str) -> str:
        """A string."""
        return _text(self.value(key), f"{self.where}.{key}")

    def text_or_none(self, key: str) -> str | None:
        """A string or null."""
        return None if self.value(key) is None else self.text(key)

    def integer(self, key: str, *, minimum: int | None = None) -> int:
        """An integer; true and false are refused."""
        value = _integer(self.value(key), f"{self.where}.{key}")
        if minimum is not None and value < minimum:
            raise ArtifactError(f"{self.where}.{key} must be at least {minimum}, found {value}")
        return value

    def number(self, key: str) -> float:
        """A number, integer or not, as a float."""
        value = self.value(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise _mismatch(f"{self.where}.{key}", "a number", value)
        return float(value)

    def integer_or_none(self, key: str) -> int | None:
        """An integer or null."""
        return None if self.value(key) is None else self.integer(key)

    def sequence(self, key: str) -> list[Any]:
        """A list with items of any type."""
        value = self.value(key)
        if not isinstance(value, list):
            raise _mismatch(f"{self.where}.{key}", "a list", value)
        return value

    def texts(self, key: str, *, minimum: int = 0) -> tuple[str, ...]:
        """A list of strings, at least `minimum` of them."""
        found = self.sequence(key)
        if len(found) < minimum:
            raise ArtifactError(
                f"{self.where}.{key} must hold at least {minimum}, found {len(found)}"
            )
        return tuple(_text(item, f"{self.where}.{key}[{i}]") for i, item in enumerate(found))

    def integers(self, key: str) -> tuple[int, ...]:
        """A list of integers."""
        return tuple(
            _integer(item, f"{self.where}.{key}[{i}]") for i, item in enumerate(self.sequence(key))
        )

    def child(self, key: str) -> Fields:
        """An object."""
        return Fields(self.value(key), f"{self.where}.{key}")

    def children(self, key: str) -> Iterator[Fields]:
        """A list of objects."""
        for i, item in enumerate(self.sequence(key)):
            yield Fields(item, f"{self.where}.{key}[{i}]")

    def object(self, key: str) -> dict[str, Any]:
        """An object with values of any type."""
        return dict(self.child(key)._raw)

    def object_or_none(self, key: str) -> dict[str, Any] | None:
        """An object with values of any type, or null."""
        return None if self.value(key) is None else self.object(key)

    def texts_by_name(self, key: str) -> dict[str, str]:
        """An object of strings."""
        found = self.child(key)
        return {name: found.text(name) for name in found.names()}

    def check_schema(self, newest: int) -> int:
        """The `schema_version`; ArtifactError if this release does not read it."""
        version = self.integer("schema_version", minimum=1)
        if version > newest:
            raise ArtifactError(
                f"{self.where} has schema version {version} and this reformer-export reads up to "
                f"{newest}: pip install --upgrade reformer-export"
            )
        return version

    def names(self) -> tuple[str, ...]:
        """The keys present."""
        return tuple(self._raw)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise _mismatch(where, "a string", value)
    return value


def _integer(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _mismatch(where, "an integer", value)
    return value


def _mismatch(where: str, wanted: str, value: object) -> ArtifactError:
    found = _KINDS.get(type(value)) or f"{value!r}"
    return ArtifactError(f"{where} must be {wanted}, found {found}")
