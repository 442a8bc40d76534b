"""Processes one shard: reads its documents, computes the results, publishes them in one step."""

from __future__ import annotations

import io
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reformer_export.artifact import Artifact
from reformer_export.artifact.signature import require_tokens
from reformer_export.errors import ExportError, InputError
from reformer_export.host.optional import require
from reformer_export.inference.text import open_codec
from reformer_export.serving.corpus.results import RESULTS, Rows, Settings
from reformer_export.serving.corpus.shards import (
    EXTRA,
    PURPOSE,
    Document,
    Shard,
    open_url,
    read_documents,
)
from reformer_export.serving.corpus.windows import Tokens

TEMPORARY = ".reformer-map-"
"""The beginning of the names of files in the destination that are not complete."""


@dataclass(frozen=True)
class Job:
    """What is done with a corpus; it is the same for all shards.

    Attributes:
        source, destination: paths or URLs.
        result: a name of `RESULTS`.
    """

    artifact: Path
    source: str
    destination: str
    text_field: str
    id_field: str
    tokenizer: str
    result: str
    settings: Settings


@dataclass(frozen=True)
class Counts:
    """The documents with a result, the bad ones, and the tokens of the former."""

    documents: int = 0
    bad: int = 0
    tokens: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.documents + other.documents, self.bad + other.bad, self.tokens + other.tokens
        )


class Mapper:
    """Processes shards with a model that is opened once."""

    def __init__(self, job: Job) -> None:
        self._job = job
        # The hashes were compared when the job began.
        artifact = Artifact.open(job.artifact, check_hashes=False)
        self._vocabulary = require_tokens(artifact.signature, "map").vocab_size
        self._codec = open_codec(artifact, tokenizer=job.tokenizer)
        self._result = RESULTS[job.result](artifact, job.settings, self._codec)

    def run(self, shard: Shard) -> Counts:
        """Process a shard and publish its results.

        Raises:
            InputError: a file of the corpus cannot be read.
            InferenceError: the model failed.
            ExportError: the results cannot be written.
        """
        good: list[Document] = []
        tokens: list[Tokens] = []
        bad: list[Document] = []
        for document in read_documents(
            self._job.source,
            shard,
            text_field=self._job.text_field,
            id_field=self._job.id_field,
        ):
            found = self._tokens(document)
            if isinstance(found, str):
                bad.append(Document(document.id, None, found, document.file, document.row))
            else:
                good.append(document)
                tokens.append(found)
        rows = self._result.compute(tokens, [len(each.text or b"") for each in good])
        # The side file first: when the results are there, the shard is done.
        if bad:
            publish(self._job.destination, bad_file(shard), _json_lines(bad))
        publish(self._job.destination, result_file(shard), self._parquet(good, rows))
        return Counts(len(good), len(bad), sum(map(len, tokens)))

    def close(self) -> None:
        """Free the model."""
        self._result.close()

    def _tokens(self, document: Document) -> Tokens | str:
        """The tokens of a document, or the reason why it is bad."""
        if document.text is None:
            return document.reason or "no text"
        try:
            tokens = self._codec.encode(document.text)
        except InputError as error:
            return str(error)
        if not len(tokens):
            return "the text has no tokens"
        if int(tokens.max()) >= self._vocabulary:
            return f"token {int(tokens.max())} is outside the vocabulary of {self._vocabulary}"
        return tokens

    def _parquet(self, documents: Sequence[Document], rows: Rows) -> bytes:
        pyarrow = require("pyarrow", purpose=PURPOSE, package=EXTRA)
        parquet = require("pyarrow.parquet", purpose=PURPOSE, package=EXTRA)
        columns = {"id": pyarrow.array([each.id for each in documents], pyarrow.string())}
        for name, kind in self._result.columns.items():
            items = kind.removeprefix("list<").removesuffix(">")
            found = pyarrow.type_for_alias(items)
            columns[name] = pyarrow.array(
                [row[name] for row in rows], found if items == kind else pyarrow.list_(found)
            )
        file = io.BytesIO()
        parquet.write_table(pyarrow.table(columns), file)
        return file.getvalue()


def result_file(shard: Shard) -> str:
    """The name of a shard's results in the destination."""
    return f"{shard.name}.parquet"


def bad_file(shard: Shard) -> str:
    """The name of the side file with a shard's bad rows. Readers of Parquet ignore `_` folders."""
    return f"_bad/{shard.name}.jsonl"


def publish(destination: str, name: str, data: bytes) -> None:
    """Write a file of the destination so that it appears completely or not at all.

    Raises:
        ExportError: it cannot be written.
    """
    filesystem, folder = open_url(destination)
    path = f"{folder}/{name}"
    try:
        if "file" not in filesystem.protocol:
            filesystem.pipe_file(path, data)  # an object appears when all of it has arrived
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{folder}/{TEMPORARY}{secrets.token_hex(6)}"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            if os.path.exists(temporary):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from error


def _json_lines(documents: Sequence[Document]) -> bytes:
    lines = (
        {"id": each.id, "file": each.file, "row": each.row, "reason": each.reason}
        for each in documents
    )
    return "".join(json.dumps(line) + "\n" for line in lines).encode()
