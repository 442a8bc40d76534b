"""Optional packages: absent, broken and present."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from reformer_export.errors import MissingDependencyError
from reformer_export.host.optional import installed_version, require


def test_what_is_there_is_imported() -> None:
    assert require("numpy.linalg", purpose="this test") is np.linalg


def test_what_is_absent_comes_with_the_pip_command() -> None:
    with pytest.raises(MissingDependencyError) as caught:
        require("no_such_module", purpose="reading x", package="reformer-export[x]")
    assert str(caught.value) == (
        'reading x needs no_such_module, which is not installed: pip install "reformer-export[x]"'
    )


def test_a_blocked_import_is_an_absent_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingDependencyError, match="pip install tokenizers"):
        require("tokenizers", purpose="this test")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_dependency", "needs no_such_dependency, which is not installed"),
        ("raise ImportError('libx.so:\\n wrong ABI')", r"does not load \(libx.so: wrong ABI\)"),
        ("raise OSError('libx.so.3')", r"does not load \(libx.so.3\).*--force-reinstall"),
    ],
)
def test_what_is_broken_is_told_apart_from_what_is_absent(
    source: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_for_a_test.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match=said):
        require("broken_for_a_test", purpose="this test")


def test_other_errors_of_a_module_are_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faulty_for_a_test.py").write_text("raise ValueError('a bug')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="a bug"):
        require("faulty_for_a_test", purpose="this test")


def test_versions_come_without_importing() -> None:
    assert installed_version("numpy") == np.__version__
    assert installed_version("no-such-package") is None
