"""Compares decoders with the checkpoint's own modules: right ones pass, and wrong ones fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from reformer_export.errors import InferenceError
from reformer_export.runtimes.base import RunnerOptions
from reformer_export.runtimes.decoder_cache import Cache
from reformer_export.runtimes.onnx_decoder import OnnxDecoder
from reformer_export.runtimes.torch_decoder import TorchDecoder
from reformer_export.source import load_original
from reformer_export.verification.parity import verify_artifact
from reformer_export.verification.parity.decoding import STEPS, compare_decoding
from reformer_export.verification.parity.report import tolerance_for

from ...tools.model_fixtures import Fixtures

LENGTHS = (1, 5, 13, 24)


@pytest.fixture(scope="module")
def reference(fixtures: Fixtures) -> TorchDecoder:
    artifact = fixtures.decoder()
    return TorchDecoder(load_original(artifact.manifest), artifact.signature)


@pytest.fixture
def candidate(fixtures: Fixtures) -> Iterator[OnnxDecoder]:
    decoder = OnnxDecoder(fixtures.decoder(), RunnerOptions(1))
    yield decoder
    decoder.close()


@pytest.mark.parametrize("ops", ["native", "portable"])
def test_a_right_decoder_passes(fixtures: Fixtures, reference: TorchDecoder, ops: Any) -> None:
    decoder = OnnxDecoder(fixtures.decoder(), RunnerOptions(1, ops))
    row = compare_decoding(decoder, reference, LENGTHS, tolerance_for("fp32"))
    assert row.passed, row.misses
    assert row.reference == "torch, generating"
    assert (row.length, row.batch) == (24, 4)
    # Two LSH layers, two heads, two rounds: for all tokens of the prompts, then for each new one.
    assert row.decisions == 8 * (sum(LENGTHS) + STEPS * len(LENGTHS))
    assert row.flips == 0
    assert 0 < row.fixed_error < 1e-5
    assert 0 < row.free_error < 1e-5


class Wrong:
    """Changes the results of a decoder's step."""

    def __init__(self, decoder: OnnxDecoder, monkeypatch: pytest.MonkeyPatch) -> None:
        self.original = decoder._run_step
        monkeypatch.setattr(decoder, "_run_step", self)
        self.calls = 0

    def __call__(self, tokens: NDArray[np.int64], cache: Cache) -> NDArray[np.float32]:
        self.calls += 1
        return self.original(tokens, cache)


class Scaled(Wrong):
    def __call__(self, tokens: NDArray[np.int64], cache: Cache) -> NDArray[np.float32]:
        return super().__call__(tokens, cache) * np.float32(1.01)


class NotANumber(Wrong):
    def __call__(self, tokens: NDArray[np.int64], cache: Cache) -> NDArray[np.float32]:
        return super().__call__(tokens, cache) * np.float32(np.nan)


class Unsteady(Wrong):
    def __call__(self, tokens: NDArray[np.int64], cache: Cache) -> NDArray[np.float32]:
        return super().__call__(tokens, cache) + np.float32(1e-6 * self.calls)


class OtherBuckets(Wrong):
    def __call__(self, tokens: NDArray[np.int64], cache: Cache) -> NDArray[np.float32]:
        logits = super().__call__(tokens, cache)
        cache.tensors["buckets.1"] += 1
        return logits


class OtherPositions(Wrong):
    def __call__(self, tokens: NDArray[np.int64], cache: Cache) -> NDArray[np.float32]:
        cache.past_length -= 1
        logits = super().__call__(tokens, cache)
        cache.past_length += 1
        return logits


class Broken(Wrong):
    def __call__(self, tokens: NDArray[np.int64], cache: Cache) -> NDArray[np.float32]:
        raise InferenceError("the runtime failed")


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Scaled, "logits differ by 1.0e-02 of their scale while generating"),
        (NotANumber, "logits differ by inf of their scale while generating"),
        (Unsteady, "two steps with the same input gave different logits"),
        (OtherBuckets, "hash decisions differ while generating"),
        (OtherPositions, "the cache is damaged"),
        (Broken, "the runtime failed"),
    ],
)
def test_a_wrong_decoder_fails(
    candidate: OnnxDecoder,
    reference: TorchDecoder,
    monkeypatch: pytest.MonkeyPatch,
    kind: type[Wrong],
    message: str,
) -> None:
    kind(candidate, monkeypatch)
    row = compare_decoding(candidate, reference, LENGTHS[1:], tolerance_for("fp32"))
    assert not row.passed
    assert any(message in miss for miss in row.misses), row.misses


def test_verify_compares_the_decoder(fixtures: Fixtures) -> None:
    report = verify_artifact(fixtures.decoder().path, lengths=[5, 13], batches=[1])
    assert report.passed
    rows = [row for row in report.rows if row.reference == "torch, generating"]
    assert [(row.length, row.batch, row.seed) for row in rows] == [(13, 2, 0), (13, 2, 1)]
    without = verify_artifact(
        fixtures.artifact().path, lengths=[5], batches=[1], runtime="onnxruntime"
    )
    assert {row.reference for row in without.rows} == {"torch", "transformers"}
