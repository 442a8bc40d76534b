"""Every format has an exporter, a runtime, a command and a function of the package."""

from __future__ import annotations

import importlib

import pytest

import reformer_export
from reformer_export.exporters.registry import FORMATS
from reformer_export.runtimes.registry import RUNTIMES


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_is_complete(name: str) -> None:
    entry = FORMATS[name]
    declared = entry.load()
    assert declared.name == name
    runtime = RUNTIMES[declared.runtime]
    assert (runtime.format, runtime.verb, runtime.module) == (name, entry.verb, declared.package)
    module = importlib.import_module(f"reformer_export.cli.{entry.function}")
    assert module.command.name == entry.verb
    assert entry.function in reformer_export.__all__
    assert getattr(reformer_export, entry.function).__module__ == entry.module


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'to_nothing'"):
        _ = reformer_export.to_nothing
