"""Shards cover every row once, in the same way at every run; bad rows have a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reformer_export.errors import InputError
from reformer_export.serving.corpus import shards
from reformer_export.serving.corpus.shards import Document, find_shards, read_documents


def documents(source: Path | str, rows: int) -> list[Document]:
    found = find_shards(str(source), rows)
    assert found == find_shards(str(source), rows)
    assert len({shard.name for shard in found}) == len(found)
    read = [
        list(read_documents(str(source), shard, text_field="text", id_field="id"))
        for shard in found
    ]
    assert all(len(each) <= rows for each in read)
    return [document for each in read for document in each]


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_json_lines(tmp_path: Path, rows: int, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_BLOCK", 7)  # lines that cross blocks
    lines = [json.dumps({"id": n, "text": "ä" * (n + 1)}, ensure_ascii=False) for n in range(7)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + end, encoding="utf-8")
    found = documents(tmp_path / "a.jsonl", rows)
    assert [(each.id, each.text) for each in found] == [
        (str(n), ("ä" * (n + 1)).encode()) for n in range(7)
    ]
    assert [each.row for each in found] == list(range(7))


def test_bad_rows_have_a_reason(tmp_path: Path) -> None:
    lines = [
        '{"text": "good"}',
        "{",
        "[1]",
        '{"id": 3}',
        '{"id": 4, "text": 1}',
        '{"id": 5, "text": ""}',
        '{"id": 6, "text": "\\ud800"}',
        "\ufeff{}",
        "[" * 50_000,
    ]
    (tmp_path / "a.ndjson").write_text("\n".join(lines), encoding="utf-8")
    found = documents(tmp_path, 4)
    assert (found[0].id, found[0].text) == ("a.ndjson:0", b"good")
    reasons = [each.reason or "" for each in found[1:]]
    for reason, said in zip(
        reasons,
        [
            "not JSON",
            "not a JSON object",
            "no field 'text'",
            "'text' is not a text but int",
            "the text is empty",
            "a lone surrogate",
            "no field 'text'",  # a byte order mark is accepted
            "not JSON",
        ],
        strict=True,
    ):
        assert said in reason
    assert [each.row for each in found] == list(range(9))


def test_texts_in_folders(tmp_path: Path) -> None:
    for name in ("b/x.txt", "a.txt", "c.TXT", "_hidden/x.txt", ".y.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "empty.txt").touch()
    found = documents(tmp_path, 2)
    assert [(each.id, each.text) for each in found] == [
        ("a.txt", b"a.txt"),
        ("b/x.txt", b"b/x.txt"),
        ("c.TXT", b"c.TXT"),
        ("empty.txt", None),
    ]
    assert [each.id for each in documents(f"{tmp_path}/b/*.txt", 2)] == ["x.txt"]
    assert [each.id for each in documents(f"file://{tmp_path}/a.txt", 2)] == ["a.txt"]


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no"):
        find_shards(f"{tmp_path}/absent", 5)
    with pytest.raises(InputError, match="holds no file that ends in"):
        find_shards(str(tmp_path), 5)
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.csv").touch()
    with pytest.raises(InputError, match=r"b\.csv is none of"):
        find_shards(str(tmp_path), 5)
    with pytest.raises(InputError, match="cannot open nothing://x"):
        find_shards("nothing://x", 5)
