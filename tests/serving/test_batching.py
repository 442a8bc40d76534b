"""A sequence gets the same bits in a batch of equal padded lengths as alone."""

from __future__ import annotations

import numpy as np
import pytest

from reformer_export import Artifact, open_runner
from reformer_export.serving.batching import Batching

from ..tools.model_fixtures import Fixtures, feeds
from .served import SERVED

LENGTHS = (1, 1, 3, 4, 7, 9, 12, 13, 17, 24, 97, 103, 108)


@pytest.mark.parametrize(
    "task",
    [
        "text-generation",
        pytest.param("feature-extraction", marks=pytest.mark.slow),
        pytest.param("fill-mask", marks=pytest.mark.slow),
        pytest.param("question-answering", marks=pytest.mark.slow),
        pytest.param("text-classification", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("ops", ["native", "portable"])
def test_a_batch_gives_what_each_request_gives_alone(
    fixtures: Fixtures, task: str, ops: str
) -> None:
    artifact = _artifact(fixtures, task)
    batching = Batching.of(artifact)
    runner = open_runner(artifact, ops=ops, threads=1)
    vocabulary = artifact.signature.vocab_size
    requests = [
        feeds(length, batch, vocab_size=vocabulary, seed=batch)
        for length in LENGTHS
        for batch in (1, 2)
    ]
    groups: dict[int, list[dict[str, np.ndarray]]] = {}
    for request in requests:
        length = request["input_ids"].shape[1]
        groups.setdefault(batching.padded_length(length), []).append(request)
    assert any(len({each["input_ids"].shape for each in group}) > 2 for group in groups.values())
    for group in groups.values():
        shapes = [(len(each["input_ids"]), each["input_ids"].shape[1]) for each in group]
        parts = batching.split(runner.run(batching.merge(group)), shapes)
        for request, part in zip(group, parts, strict=True):
            for name, wanted in runner.run(request).items():
                np.testing.assert_array_equal(part[name], wanted)
    runner.close()


def _artifact(fixtures: Fixtures, task: str) -> Artifact:
    return fixtures.decoder(SERVED) if task == "text-generation" else fixtures.artifact(task)


def test_other_padded_lengths_give_other_numbers(fixtures: Fixtures) -> None:
    """The reason for the rule: if this fails, larger batches are possible."""
    artifact = _artifact(fixtures, "text-generation")
    batching = Batching.of(artifact)
    runner = open_runner(artifact, threads=1)
    short, long = feeds(96), feeds(108)
    parts = batching.split(runner.run(batching.merge([short, long])), [(1, 96), (1, 108)])
    alone = runner.run(short)["logits"]
    assert np.abs(parts[0]["logits"] - alone).max() > 1e-2
    runner.close()
