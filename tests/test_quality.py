"""The comparison of a model with fewer bits and the model with all bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reformer_export.errors import InputError
from reformer_export.quality import (
    LONGEST,
    Samples,
    measure_quality,
    own_samples,
    read_samples,
)
from reformer_export.source import load_source

from .models.configs import WIDE
from .tools.model_fixtures import Fixtures

MODEL = {**WIDE, "vocab_size": 256}


def test_a_model_equals_itself(fixtures: Fixtures) -> None:
    artifact = fixtures.artifact("text-generation", MODEL)
    loaded = load_source(fixtures.checkpoint("text-generation", MODEL))
    samples = own_samples(loaded, artifact.signature)
    quality = measure_quality(loaded, loaded, artifact.signature, samples)
    assert (quality.flips, quality.error, quality.agreement, quality.divergence) == (0, 0, 1, 0)
    assert quality.loss == 0
    assert quality.tokens == sum(map(len, samples.sequences))


def test_bits_of_a_text_are_bits_of_its_bytes(fixtures: Fixtures) -> None:
    signature = fixtures.artifact("text-generation", MODEL).signature
    loaded = load_source(fixtures.checkpoint("text-generation", MODEL))
    tokens = np.arange(60) % 256
    each = measure_quality(loaded, loaded, signature, Samples("ids", (tokens,)))
    text = measure_quality(loaded, loaded, signature, Samples("text", (tokens,), text_bytes=120))
    assert each.bits_before is not None
    assert text.bits_before == pytest.approx(each.bits_before / 2)


def test_the_bits_are_those_of_the_logits(fixtures: Fixtures) -> None:
    import torch

    signature = fixtures.artifact("text-generation", MODEL).signature
    loaded = load_source(fixtures.checkpoint("text-generation", MODEL))
    tokens = torch.arange(50)[None] * 5 % 256
    with torch.no_grad():
        logits = loaded.model(tokens)["logits"][0, :-1].double()
    wanted = torch.nn.functional.cross_entropy(logits, tokens[0, 1:]) / np.log(2)
    found = measure_quality(loaded, loaded, signature, Samples("ids", (tokens[0].numpy(),)))
    assert found.bits_before == pytest.approx(float(wanted), rel=1e-6)


def test_own_samples_are_the_models(fixtures: Fixtures) -> None:
    signature = fixtures.artifact("text-generation", MODEL).signature
    loaded = load_source(fixtures.checkpoint("text-generation", MODEL))
    first, second = (own_samples(loaded, signature) for _ in range(2))
    assert first.description == "sequences that the model generated"
    for one, other in zip(first.sequences, second.sequences, strict=True):
        np.testing.assert_array_equal(one, other)
        assert len(one) == 3 * loaded.config.chunk_multiple
    # The model finds its own tokens likelier than random ones.
    random = np.random.default_rng(1).integers(256, size=(4, len(first.sequences[0])))
    own = measure_quality(loaded, loaded, signature, first)
    others = measure_quality(loaded, loaded, signature, Samples("random", tuple(random)))
    assert own.bits_before is not None
    assert others.bits_before is not None
    assert own.bits_before < others.bits_before


def test_a_long_text_is_cut(fixtures: Fixtures, tmp_path: Path) -> None:
    artifact = fixtures.artifact("text-generation", MODEL)
    longest = artifact.signature.max_length
    assert longest < LONGEST
    path = tmp_path / "text.txt"
    path.write_bytes(b"x" * (2 * longest + 1))
    samples = read_samples(path, artifact, tokenizer="bytes")
    # One token alone is not predicted from anything.
    assert [len(sequence) for sequence in samples.sequences] == [longest, longest]
    assert samples.text_bytes == 2 * longest


def test_files_that_cannot_be_used(fixtures: Fixtures, tmp_path: Path) -> None:
    artifact = fixtures.artifact("text-generation", MODEL)
    np.save(tmp_path / "one.npy", np.array([1]))
    np.save(tmp_path / "large.npy", np.array([1, 256]))
    with pytest.raises(InputError, match="holds 1 tokens: the comparison needs at least 2"):
        read_samples(tmp_path / "one.npy", artifact)
    with pytest.raises(InputError, match="256"):
        read_samples(tmp_path / "large.npy", artifact)
    with pytest.raises(InputError, match="cannot read"):
        read_samples(tmp_path / "none.txt", artifact, tokenizer="bytes")
