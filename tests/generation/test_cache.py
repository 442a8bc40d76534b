"""Caches: choosing rows, making room for more tokens, checking files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from reformer_export.errors import ArtifactError, ExportError, InputError
from reformer_export.generation.generator import Generator
from reformer_export.runtimes.decoder_cache import Cache

from .test_generator import prompt

TOKENS = np.array([3, 9])


def made(generator: Generator, capacity: int = 20) -> Cache:
    return generator.decoder.prefill([prompt(5), prompt(14)], capacity=capacity)[1]


def copied(cache: Cache) -> Cache:
    return cache.select(range(cache.batch))


def test_a_step_changes_the_cache(generator: Generator) -> None:
    cache = made(generator)
    before = copied(cache)
    generator.decoder.step(TOKENS, cache)
    assert cache.past_length.tolist() == [6, 15]
    assert cache.prompt_length.tolist() == [5, 14]
    assert before.past_length.tolist() == [5, 14]
    # Only the position of the new token changes, and the order.
    changed = (cache.tensors["key.1"] != before.tensors["key.1"]).any(axis=(2, 3))
    assert np.argwhere(changed).tolist() == [[0, 5], [1, 14]]
    order = cache.tensors["order.1"]
    assert np.sort(order[1, 0, 0, 0, :15]).tolist() == list(range(15))


@pytest.mark.parametrize("ops", ["native", "portable"])
def test_rows_may_be_chosen_as_beams_need(generators: dict[str, Generator], ops: str) -> None:
    decoder = generators[ops].decoder
    cache = decoder.prefill([prompt(5), prompt(14)], capacity=20)[1]
    plain = copied(cache)
    beams = cache.select([1, 0, 1])
    wanted = decoder.step(TOKENS, plain)
    found = decoder.step(np.array([TOKENS[1], TOKENS[0], 7]), beams)
    np.testing.assert_allclose(found[:2], wanted[::-1], atol=1e-6)
    assert np.abs(found[2] - wanted[1]).max() > 1e-3
    assert beams.past_length.tolist() == [15, 6, 15]


def test_room_is_made(generator: Generator) -> None:
    full = made(generator, capacity=14)
    with pytest.raises(InputError, match="room for 14 tokens and is full"):
        generator.decoder.step(TOKENS, full)
    wider = full.with_capacity(40)
    wanted = generator.decoder.step(TOKENS, made(generator))
    np.testing.assert_array_equal(generator.decoder.step(TOKENS, wider), wanted)


def test_a_saved_cache_is_the_same(generator: Generator, tmp_path: Path) -> None:
    cache = made(generator)
    cache.save(tmp_path / "cache.safetensors")
    loaded = Cache.load(generator.decoder.layout, tmp_path / "cache.safetensors")
    for _ in range(3):
        wanted = generator.decoder.step(TOKENS, cache)
        np.testing.assert_array_equal(generator.decoder.step(TOKENS, loaded), wanted)


def test_a_cache_of_another_model_is_refused(generator: Generator, tmp_path: Path) -> None:
    path = tmp_path / "cache.safetensors"
    save_file(dict(made(generator).tensors), path, metadata={"model": "another"})
    with pytest.raises(InputError, match="is a cache of another model"):
        Cache.load(generator.decoder.layout, path)
    other = made(generator)
    other.layout = type(other.layout)("another", other.layout.tensors)
    with pytest.raises(InputError, match="the cache is of another model"):
        generator.decoder.step(TOKENS, other)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("order.1", None),
        ("order.1", lambda a: a.astype(np.int64)),
        ("order.1", lambda a: a.repeat(2, axis=3)),
        ("starts.1", lambda a: a[..., :0]),
        ("key.1", lambda a: a[:, :-1]),
        ("key.0", lambda a: a[:1]),
        ("prompt_length", lambda a: a[:1]),
        ("past_length", lambda a: a + 100),
        ("past_length", lambda a: a.astype(np.float32)),
    ],
)
def test_a_damaged_file_is_refused(
    generator: Generator, tmp_path: Path, name: str, change: Any
) -> None:
    path = tmp_path / "cache.safetensors"
    made(generator).save(path)
    tensors = load_file(path)
    if change is None:
        del tensors[name]
    else:
        tensors[name] = np.ascontiguousarray(change(tensors[name]))
    save_file(tensors, path, metadata={"model": generator.decoder.layout.model})
    with pytest.raises(ArtifactError, match=r"cache\.safetensors"):
        Cache.load(generator.decoder.layout, path)


def test_files_that_are_none(generator: Generator, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no cache")
    for name in ("text", "absent"):
        with pytest.raises(ArtifactError, match="does not load as a cache"):
            Cache.load(generator.decoder.layout, tmp_path / name)
    with pytest.raises(ExportError, match="cannot write"):
        made(generator).save(tmp_path / "no" / "folder")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [(np.array([1]), "one token for each of 2"), (np.array([1, 40]), "not all in the vocabulary")],
)
def test_tokens_that_do_not_fit(generator: Generator, tokens: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        generator.decoder.step(tokens, made(generator))


@pytest.mark.parametrize("ops", ["native", "portable"])
def test_joined_caches_give_what_each_gives(generators: dict[str, Generator], ops: str) -> None:
    decoder = generators[ops].decoder
    parts = [decoder.prefill([prompt(n)], capacity=n + 2)[1] for n in (5, 14, 30)]
    joined = Cache.joined(parts)
    assert (joined.batch, joined.capacity) == (3, 32)
    assert joined.past_length.tolist() == joined.prompt_length.tolist() == [5, 14, 30]
    assert Cache.joined(parts[:1]) is parts[0]
    tokens = np.array([3, 9, 4])
    wanted = [decoder.step(tokens[[row]], part)[0] for row, part in enumerate(parts)]
    np.testing.assert_allclose(decoder.step(tokens, joined), wanted, atol=1e-6)
