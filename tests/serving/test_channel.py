"""The connection between the server and a worker; the tests of the server use two processes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from reformer_export.generation.sampling import Sampling
from reformer_export.serving.server.channel import Channel
from reformer_export.serving.server.messages import Cancel, Generate, Infer, Outputs


def test_arrays_of_batches_are_shared_and_others_are_not() -> None:
    ours, theirs = Channel.pair()
    rng = np.random.default_rng(0)
    received = []
    for size in (3, 0, 100_000, 5, 7):  # the memory grows
        inputs = {"input_ids": rng.integers(0, 9, (2, size)), "attention_mask": np.ones((2, size))}
        ours.send(Infer(inputs))
        assert theirs.has_message()
        found = theirs.receive().inputs
        assert found.keys() == inputs.keys()
        for name, array in inputs.items():
            np.testing.assert_array_equal(found[name], array)
            assert found[name].dtype == array.dtype
        received.append(found["input_ids"])
    # The memory of 100,000 numbers now begins with those of the last message.
    np.testing.assert_array_equal(received[2].ravel()[:14], received[4].ravel())

    ours.send(Generate(5, received[4][0].copy(), 4, Sampling(), 0, None))
    prompt = theirs.receive().prompt
    kept = prompt.copy()
    ours.send(Infer({"input_ids": np.zeros((1, 50), np.int64)}))
    theirs.receive()
    np.testing.assert_array_equal(prompt, kept)


def test_a_batch_stays_while_the_next_one_is_sent() -> None:
    ours, theirs = Channel.pair()
    batches = [{"input_ids": np.full((2, 40), value)} for value in range(6)]
    ours.send(Infer(batches[0]))
    for batch, following in pairwise(batches):
        found = theirs.receive().inputs["input_ids"]
        ours.send(Cancel(1))
        theirs.receive()
        ours.send(Infer(following))
        np.testing.assert_array_equal(found, batch["input_ids"])


def test_both_directions_and_the_end() -> None:
    ours, theirs = Channel.pair()
    logits = np.arange(6, dtype=np.float16).reshape(1, 2, 3)
    theirs.send(Outputs({"logits": logits}))
    np.testing.assert_array_equal(ours.receive().outputs["logits"], logits)
    theirs.send(Outputs(None, "out of memory"))
    assert ours.receive() == Outputs(None, "out of memory")
    theirs.close()
    with pytest.raises(EOFError):
        ours.receive()
