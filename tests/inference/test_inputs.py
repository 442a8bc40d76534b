"""Series in tables of numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from reformer_export.errors import InputError
from reformer_export.inference.inputs import read_series


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("1\n2\n", [[1], [2]]),
        ("a,b\n1,2\n", [[1, 2]]),
        ("\ufeffa,b\n1,2\n", [[1, 2]]),
        ("1,2\n\n3,4\n", [[1, 2], [3, 4]]),
    ],
)
def test_a_table(tmp_path: Path, table: str, expected: list[list[float]]) -> None:
    (tmp_path / "series.csv").write_text(table, encoding="utf-8")
    assert read_series(tmp_path / "series.csv", "series").tolist() == [expected]


@pytest.mark.parametrize("table", ["", " \n", "a,b\n", "1,2\n3\n", "1,2\n3,x\n", "a,b\nc,d\n1,2\n"])
def test_what_is_no_table(tmp_path: Path, table: str) -> None:
    """A first line of numbers is never taken for names."""
    (tmp_path / "series.csv").write_text(table)
    with pytest.raises(InputError, match="does not hold a table of numbers"):
        read_series(tmp_path / "series.csv", "series")
