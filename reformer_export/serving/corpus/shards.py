"""Divides a corpus into shards with stable names, and reads the documents of a shard.

A shard is a part of the corpus that is processed as a whole: it is read, its results are written
as one file, and if that file exists the shard is done.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from reformer_export.errors import InputError
from reformer_export.host.optional import require

_SUFFIXES = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "text"}
_BLOCK = 16 * 2**20  # bytes

EXTRA = "reformer-export[map]"
PURPOSE = "reading and writing a corpus"


@dataclass(frozen=True)
class Piece:
    """A part of a file.

    Attributes:
        file: the path in its file system.
        name: the path relative to the corpus, for ids and messages.
        start: the first row (Parquet) or byte.
        stop: the row or byte after the last.
        row: the number of the first row.
    """

    file: str
    name: str
    start: int
    stop: int
    row: int = 0


@dataclass(frozen=True)
class Shard:
    """Some documents of the corpus, which are processed together."""

    name: str
    format: str
    pieces: tuple[Piece, ...]

    def to_json(self) -> dict[str, Any]:
        """The shard as a document."""
        return asdict(self)


@dataclass(frozen=True)
class Document:
    """A row of the corpus.

    Attributes:
        id: the row's id, or "FILE:ROW" (for a text file: its name) if it has none.
        text: the text; None for a bad row.
        reason: why the row is bad; None otherwise.
        file: the file of the row.
        row: the number of the row in its file, from 0.
    """

    id: str
    text: bytes | None
    reason: str | None
    file: str
    row: int


def find_shards(source: str, rows: int) -> list[Shard]:
    """The shards of a corpus, of at most `rows` documents each, in a fixed order.

    Args:
        source: a file, a folder or a pattern with `*`; a path or a URL that fsspec knows. Files
            whose names begin with `_` or `.` are left out.

    Raises:
        InputError: there is no file, or a file cannot be read.
        MissingDependencyError: pyarrow, fsspec or the package for the URL is not installed.
    """
    files, root = _files(source)
    filesystem, _ = open_url(source)
    pieces: list[tuple[str, Piece]] = []
    groups: list[tuple[str, tuple[Piece, ...]]] = []
    try:
        for file in files:
            name = file.removeprefix(root).lstrip("/")
            format_name = _SUFFIXES[_suffix(file)]
            if format_name == "text":
                pieces.append((format_name, Piece(file, name, 0, filesystem.size(file))))
                continue
            divide = _parquet_pieces if format_name == "parquet" else _jsonl_pieces
            for piece in divide(filesystem, file, name, rows):
                groups.append((format_name, (piece,)))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error}") from error
    texts = iter(piece for _, piece in pieces)
    while some := tuple(itertools.islice(texts, rows)):
        groups.append(("text", some))
    return [
        Shard(f"part-{number:06d}", format_name, group)
        for number, (format_name, group) in enumerate(groups)
    ]


def read_documents(
    source: str, shard: Shard, *, text_field: str, id_field: str
) -> Iterator[Document]:
    """The documents of a shard, in order; bad rows are among them, with a reason.

    Raises:
        InputError: a file cannot be read.
    """
    filesystem, _ = open_url(source)
    read = {"parquet": _read_parquet, "jsonl": _read_jsonl, "text": _read_text}[shard.format]
    for piece in shard.pieces:
        try:
            yield from read(filesystem, piece, text_field, id_field)
        except OSError as error:
            raise InputError(f"cannot read {piece.file}: {error}") from error


def open_url(url: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path in it.

    Raises:
        InputError: the URL is malformed, or of an unknown kind.
        MissingDependencyError: fsspec or the package for this kind of URL is not installed.
    """
    fsspec = require("fsspec", purpose=PURPOSE, package=EXTRA)
    try:
        filesystem, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:  # fsspec's message names the package to install
        raise InputError(f"cannot open {url}: {error}") from error
    return filesystem, path


def _suffix(file: str) -> str:
    name = file.rpartition("/")[2]
    return f".{name.rpartition('.')[2].lower()}"


def _files(source: str) -> tuple[list[str], str]:
    """The files of the corpus, sorted, and the folder that their names are relative to."""
    filesystem, path = open_url(source)
    try:
        if "*" in path:
            found, root = filesystem.glob(path), path.partition("*")[0].rpartition("/")[0]
        elif filesystem.isdir(path):
            found, root = filesystem.find(path), path
        elif filesystem.exists(path):
            found, root = [path], path.rpartition("/")[0]
        else:
            raise InputError(f"there is no {source}")
    except OSError as error:
        raise InputError(f"cannot read {source}: {error}") from error
    root = root.rstrip("/")
    hidden = ("_", ".")
    files = [
        file
        for file in sorted(found)
        if not any(part.startswith(hidden) for part in file.removeprefix(root).split("/"))
    ]
    known = [file for file in files if _suffix(file) in _SUFFIXES]
    if not known:
        raise InputError(
            f"{source} holds no file that ends in {', '.join(_SUFFIXES)} ({len(files)} others)"
        )
    if others := [file for file in files if file not in set(known)]:
        raise InputError(
            f"{others[0]} is none of {', '.join(_SUFFIXES)} ({len(others)} such files): "
            "select files with a pattern such as 'folder/*.jsonl'"
        )
    return known, root


# Parquet


def _parquet(file: Any) -> Any:
    pyarrow = require("pyarrow", purpose=PURPOSE, package=EXTRA)
    parquet = require("pyarrow.parquet", purpose=PURPOSE, package=EXTRA)
    try:
        return parquet.ParquetFile(file)
    except pyarrow.ArrowException as error:
        raise InputError(f"{file.path} is not a Parquet file: {error}") from error


def _parquet_pieces(filesystem: Any, file: str, name: str, rows: int) -> Iterator[Piece]:
    with filesystem.open(file, "rb") as opened:
        total = _parquet(opened).metadata.num_rows
    for start in range(0, total, rows):
        yield Piece(file, name, start, min(start + rows, total), start)


def _read_parquet(filesystem: Any, piece: Piece, text_field: str, id_field: str) -> Any:
    with filesystem.open(piece.file, "rb") as opened:
        parquet = _parquet(opened)
        names = set(parquet.schema_arrow.names)
        if text_field not in names:
            raise InputError(f"{piece.file} has no column {text_field!r}: name it by --text-field")
        columns = [text_field, *({id_field} & names - {text_field})]
        row = 0
        for group in range(parquet.num_row_groups):
            size = parquet.metadata.row_group(group).num_rows
            first, last = max(piece.start - row, 0), min(piece.stop - row, size)
            if first < last:
                table = parquet.read_row_group(group, columns).slice(first, last - first)
                for number, values in enumerate(table.to_pylist(), row + first):
                    yield _document(values, text_field, id_field, piece.name, number)
            row += size


# JSON lines


def _jsonl_pieces(filesystem: Any, file: str, name: str, rows: int) -> Iterator[Piece]:
    start = row = lines = position = 0
    with filesystem.open(file, "rb") as opened:
        while block := opened.read(_BLOCK):
            place = -1
            while (place := block.find(b"\n", place + 1)) >= 0:
                lines += 1
                if lines - row == rows:
                    yield Piece(file, name, start, position + place + 1, row)
                    start, row = position + place + 1, lines
            position += len(block)
    if position > start:
        yield Piece(file, name, start, position, row)


def _read_jsonl(filesystem: Any, piece: Piece, text_field: str, id_field: str) -> Any:
    lines = filesystem.cat_file(piece.file, start=piece.start, end=piece.stop).split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for row, line in enumerate(lines, piece.row):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield _bad(f"{piece.name}:{row}", f"not JSON: {error}", piece.name, row)
            continue
        if isinstance(values, dict):
            yield _document(values, text_field, id_field, piece.name, row)
        else:
            yield _bad(f"{piece.name}:{row}", "not a JSON object", piece.name, row)


# Texts


def _read_text(filesystem: Any, piece: Piece, text_field: str, id_field: str) -> Any:
    text = filesystem.cat_file(piece.file)
    if text:
        yield Document(piece.name, text, None, piece.name, 0)
    else:
        yield _bad(piece.name, "the text is empty", piece.name, 0)


def _document(
    values: dict[str, Any], text_field: str, id_field: str, file: str, row: int
) -> Document:
    given = values.get(id_field)
    name = f"{file}:{row}" if given is None else str(given)
    text = values.get(text_field)
    if text is None:
        return _bad(name, f"no field {text_field!r}", file, row)
    if not isinstance(text, str):
        return _bad(name, f"{text_field!r} is not a text but {type(text).__name__}", file, row)
    if not text:
        return _bad(name, "the text is empty", file, row)
    try:
        return Document(name, text.encode(), None, file, row)
    except UnicodeEncodeError:
        return _bad(name, "the text has a lone surrogate", file, row)


def _bad(name: str, reason: str, file: str, row: int) -> Document:
    return Document(name, None, " ".join(reason.split()), file, row)
