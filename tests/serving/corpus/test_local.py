"""`map --local`: right numbers for every document, and nothing lost or doubled by kills."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reformer_export import open_generator, open_runner
from reformer_export.artifact import Artifact
from reformer_export.cli.main import main
from reformer_export.errors import UsageError
from reformer_export.inference.text import ByteCodec
from reformer_export.serving.corpus.running import map_corpus

from ...tools.artifact_fixtures import environment, snapshot
from ...tools.model_fixtures import TINY, Fixtures
from .conftest import Corpus

parquet = pytest.importorskip(
    "pyarrow.parquet", reason="pyarrow is not installed (pip install '.[map]')"
)

CODEC = ByteCodec(offset=2)  # of a vocabulary of 258


def table(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of all results by id; an id that occurs twice is an error."""
    rows = [
        row
        for path in sorted(folder.glob("*.parquet"))
        for row in parquet.read_table(path).to_pylist()
    ]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row for row in rows}


def bad_rows(folder: Path) -> list[dict[str, Any]]:
    lines = [line for path in sorted(folder.glob("_bad/*")) for line in path.open()]
    return [json.loads(line) for line in lines]


def test_bits_per_byte(model: Artifact, corpus: Callable[[int], Corpus], tmp_path: Path) -> None:
    source, documents = corpus(30)
    out = tmp_path / "out"
    done = map_corpus(
        model.path, str(source), str(out), window=64, overlap=20, shard_rows=7, local=True
    )
    assert (done.result, done.documents, done.bad) == ("bits-per-byte", 30, 2)
    found = table(out)
    assert found.keys() == documents.keys()
    assert [row["row"] for row in bad_rows(out)] == [15, 15]
    runner = open_runner(model)
    for name, text in documents.items():
        tokens = CODEC.encode(text.encode())
        # The rule of the documentation, written down once more.
        bits, counted, start = np.log2(258), 1, 0
        while counted < len(tokens):
            start = min(start, max(len(tokens) - 64, 0))
            window = tokens[start : start + 64]
            logits = runner.run({"input_ids": window[None]})["logits"][0].astype(np.float64)
            costs = (
                np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), np.roll(window, -1)]
            )
            bits += costs[counted - start - 1 : len(window) - 1].sum() / np.log(2)
            counted, start = start + len(window), start + 44
        assert found[name]["bits"] == pytest.approx(bits, rel=1e-9)
        assert found[name]["bits_per_byte"] == pytest.approx(bits / len(text), rel=1e-9)
        assert found[name]["tokens"] == len(tokens)
    runner.close()


def test_a_second_run_does_what_is_missing(
    model: Artifact, corpus: Callable[[int], Corpus], tmp_path: Path
) -> None:
    source, _ = corpus(20)
    out = tmp_path / "out"
    options: Any = {"shard_rows": 4, "local": True}
    first = map_corpus(model.path, str(source), str(out), **options)
    before = snapshot(out)
    (out / "part-000001.parquet").unlink()
    (out / ".reformer-map-rest").touch()
    again = map_corpus(model.path, str(source), str(out), **options)
    assert (first.done_before, again.done_before, again.shards) == (0, 5, 6)
    assert again.documents == 4
    assert snapshot(out) == before


def test_object_stores(model: Artifact, corpus: Callable[[int], Corpus], tmp_path: Path) -> None:
    """Through fsspec's file system in memory, which has no rename, as object stores have none."""
    import fsspec

    source, documents = corpus(12)
    memory = fsspec.filesystem("memory")
    for path in source.iterdir():
        memory.pipe_file(f"/corpus/{path.name}", path.read_bytes())
    options: Any = {"shard_rows": 5, "local": True}
    map_corpus(model.path, "memory://corpus", "memory://out", **options)
    done = map_corpus(model.path, "memory://corpus", "memory://out", **options)
    assert (done.shards, done.done_before) == (4, 4)
    map_corpus(model.path, str(source), str(tmp_path / "out"), **options)
    for name, data in snapshot(tmp_path / "out").items():
        if name != "_plan.json":  # it has the paths of the corpus
            assert memory.cat_file(f"/out/{name}") == data
    assert len(table(tmp_path / "out")) == len(documents)
    memory.rm("/out", recursive=True)
    memory.rm("/corpus", recursive=True)


def test_other_settings_or_another_corpus_are_refused(
    model: Artifact, corpus: Callable[[int], Corpus], tmp_path: Path
) -> None:
    source, _ = corpus(4)
    out = tmp_path / "out"
    map_corpus(model.path, str(source), str(out), local=True)
    before = snapshot(out)
    with pytest.raises(UsageError, match="other values of settings"):
        map_corpus(model.path, str(source), str(out), local=True, window=32)
    with (source / "1.jsonl").open("a") as file:
        file.write('{"text": "more"}\n')
    with pytest.raises(UsageError, match="other values of shards"):
        map_corpus(model.path, str(source), str(out), local=True)
    assert snapshot(out) == before
    with pytest.raises(UsageError, match="is not empty"):
        map_corpus(model.path, str(source), str(source), local=True)
    for options, said in (
        ({"window": 1}, "--window 1: give 2 to 4092"),
        ({"overlap": 0}, "--overlap 0"),
        ({"window": 8, "overlap": 8}, "--overlap 8: give 1 to 7"),
        ({"result": "embeddings"}, "it gives bits-per-byte, generation"),
    ):
        with pytest.raises(UsageError, match=said):
            map_corpus(model.path, str(source), str(tmp_path / "x"), local=True, **options)


def test_generation(model: Artifact, tmp_path: Path) -> None:
    source = tmp_path / "texts"
    source.mkdir()
    texts = {"short.txt": "In the beginning", "long.txt": "and the earth was without form " * 4}
    for name, text in texts.items():
        (source / name).write_text(text)
    out = tmp_path / "out"
    arguments = ["map", str(model.path), str(source), str(out), "--local", "--output", "generation"]
    arguments += ["--max-new-tokens", "6", "--window", "40", "--temperature", "1", "--seed", "4"]
    assert main(arguments) == 0
    generator = open_generator(model)
    for name, row in table(out).items():
        prompt = CODEC.encode(texts[name].encode())[-34:]
        wanted = generator.generate(prompt, max_new_tokens=6, temperature=1.0, seed=4)[0]
        assert row["new_tokens"] == wanted.tolist()
        assert row["tokens"] == len(texts[name])
    generator.close()


@pytest.mark.slow
def test_embeddings_and_classification_from_parquet(fixtures: Fixtures, tmp_path: Path) -> None:
    import pyarrow

    texts = ["a", "b" * 50, None, "c" * 130]
    rows = pyarrow.table({"name": [1, 2, 3, 4], "body": texts})
    source = tmp_path / "in.parquet"
    parquet.write_table(rows, source, row_group_size=3)
    config = TINY | {"is_decoder": False, "lsh_num_chunks_after": 1}
    options: Any = {"text_field": "body", "id_field": "name", "shard_rows": 3, "local": True}
    artifact = fixtures.artifact("feature-extraction", config)
    map_corpus(artifact.path, str(source), str(tmp_path / "e"), **options)
    found = table(tmp_path / "e")
    assert list(found) == ["1", "2", "4"]
    assert bad_rows(tmp_path / "e")[0]["id"] == "3"
    runner = open_runner(artifact)
    states = runner.run({"input_ids": CODEC.encode(b"b" * 50)[None]})["last_hidden_state"][0]
    np.testing.assert_allclose(found["2"]["embedding"], states.mean(0), atol=1e-6)
    # 130 tokens are two windows of 120; the second counts its last 10.
    longest = artifact.signature.max_length
    tokens = CODEC.encode(b"c" * 130)
    windows = np.stack([tokens[:longest], tokens[-longest:]])
    states = runner.run({"input_ids": windows})["last_hidden_state"]
    wanted = np.concatenate([states[0], states[1, 2 * longest - 130 :]]).mean(0)
    np.testing.assert_allclose(found["4"]["embedding"], wanted, atol=1e-6)

    config = TINY | {"is_decoder": False, "num_labels": 3}
    artifact = fixtures.artifact("text-classification", config)
    map_corpus(artifact.path, str(source), str(tmp_path / "c"), **options)
    found = table(tmp_path / "c")
    logits = open_runner(artifact).run({"input_ids": CODEC.encode(b"b" * 50)[None]})["logits"][0]
    assert found["2"]["label"] == int(logits.argmax())
    np.testing.assert_allclose(
        found["2"]["scores"], np.exp(logits) / np.exp(logits).sum(), atol=1e-6
    )
    assert sum(found["4"]["scores"]) == pytest.approx(1)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_kills_lose_and_double_nothing(
    model: Artifact, corpus: Callable[[int], Corpus], tmp_path: Path, workers: int
) -> None:
    source, documents = corpus(600)
    out, calm = tmp_path / "out", tmp_path / "calm"
    map_corpus(model.path, str(source), str(calm), window=300, shard_rows=9, local=True)
    command = [
        sys.executable,
        "-m",
        "reformer_export",
        "map",
        str(model.path),
        str(source),
        str(out),
    ]
    command += ["--local", "--window", "300", "--shard-rows", "9", "--workers", str(workers)]
    choose = random.Random(workers)
    interrupted = 0
    for kill in (True, True, True, True, False):
        with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL) as process:
            parts = len(list(out.glob("part-*")))
            while kill and process.poll() is None and len(list(out.glob("part-*"))) == parts:
                time.sleep(0.01)
            if kill:
                time.sleep(choose.uniform(0, 0.2))
                process.send_signal(choose.choice([signal.SIGKILL, signal.SIGTERM]))
            interrupted += process.wait() != 0
    assert process.returncode == 0
    assert interrupted >= 2
    assert table(out) == table(calm)
    assert table(out).keys() == documents.keys()
    assert snapshot(out) == snapshot(calm)
    assert len(bad_rows(out)) == 2
