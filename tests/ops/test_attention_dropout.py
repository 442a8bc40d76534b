"""Dropout of attention probabilities: which weights are dropped, and by which seed."""

from __future__ import annotations

import pytest
import torch

from reformer_ops.core.dropout_masks import keep
from reformer_ops.core.errors import OpError
from reformer_ops.core.spec import OpSpec
from reformer_ops.core.torch_library import PORTABLE

from ..tools.operator_calls import Calls
from .examples import EXAMPLES
from .gradients import ATTENTIONS, DROPOUT, bits, differentiate, python_function, with_dropout
from .tolerances import torch_arguments

by_attention = pytest.mark.parametrize("op", ATTENTIONS, ids=lambda op: op.name)


@by_attention
def test_dropout_of_nothing_changes_no_bit(op: OpSpec) -> None:
    case = EXAMPLES[op.name]
    assert bits(op, with_dropout(case, 0.0), "float32") == bits(op, case, "float32")
    state = torch.get_rng_state()
    differentiate(python_function(op, case, dropout=0.0), op, case, "float32")
    assert torch.equal(torch.get_rng_state(), state)


@by_attention
def test_a_seed_tells_what_is_dropped(op: OpSpec) -> None:
    case = EXAMPLES[op.name]
    seeds = (0, 1, -1, 2**63 - 1)
    results = {bits(op, with_dropout(case, DROPOUT, seed), "float32") for seed in seeds * 2}
    assert len(results) == len(seeds)


@by_attention
def test_the_generator_tells_the_seed(op: OpSpec) -> None:
    """The outputs are the same with and without gradients; a reversible layer runs both."""
    case = EXAMPLES[op.name]
    function, given = (
        python_function(op, case, dropout=DROPOUT),
        torch_arguments(op, case, "float32"),
    )
    outputs = []
    for seed in (3, 4, 3):
        torch.manual_seed(seed)
        with Calls() as calls:
            output = function(*given)
        assert calls.names == [op.with_lse.torch_name]
        outputs.append(output)
        given[0].requires_grad_()
    assert torch.equal(outputs[0], outputs[2])
    assert not torch.equal(outputs[0], outputs[1])
    assert not torch.equal(function(*given), outputs[2])
    with Calls() as calls:
        outputs[2].sum().backward()
    assert calls.names == [op.backward.torch_name]


@pytest.mark.parametrize("rounds", [0, 1, 2])
def test_the_weights_that_are_dropped(rounds: int) -> None:
    """Scores are equal and values are one-hot, so the output shows the weight of each key.

    With two rounds, each has a weight of one half. `rounds == 0` means `ChunkAttention`.
    """
    batch, length, heads = 2, 64, 3
    seed, share = torch.tensor(5), 0.25
    zeros = torch.zeros(batch, length, heads, length)
    value = torch.eye(length)[None, :, None, :].expand_as(zeros)
    mask = torch.ones(batch, length, dtype=torch.bool)
    chunks = (32, 1, 0, False)  # two chunks, so each query sees all keys
    if rounds:
        buckets = torch.zeros(batch, heads, rounds, length, dtype=torch.int32)
        taken = (zeros, value, buckets, mask, seed, 1, *chunks, share)
        op = torch.ops.reformer.sorted_chunk_attention_with_lse
    else:
        taken = (zeros, zeros, value, mask, seed, *chunks, share)
        op = torch.ops.reformer.chunk_attention_with_lse
    output, lse = op(*taken)
    # In the ring of all rounds, the first chunk of a round sees the last chunk of the one before.
    count = max(rounds, 1)
    rows = torch.arange(count * batch * heads * length).reshape(count, batch, heads, length, 1)
    keys = torch.arange(length)
    kept = torch.zeros(batch, heads, length, length)
    for number in range(count):
        before = torch.where(keys < 32, number, number - 1) % count  # for queries of chunk 0
        own = torch.full_like(keys, number)
        from_round = torch.where(keys[:, None] < 32, before, own)
        columns = from_round * length + keys
        kept += keep(seed, rows[number], columns, share)
    if rounds:  # the weight of a query's own key is almost zero
        kept.diagonal(dim1=-2, dim2=-1).zero_()
    seen = length - 1 if rounds else length
    wanted = kept / (count * seen * (1 - share))
    torch.testing.assert_close(output.transpose(1, 2), wanted, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(lse, torch.full_like(lse, count * seen).log())


@by_attention
@pytest.mark.parametrize("dropout", [1.0, 1.5, -0.1, float("nan")])
def test_shares_that_are_refused(op: OpSpec, dropout: float) -> None:
    case = EXAMPLES[op.name]
    message = f"^{op.torch_name} takes dropout >= 0 and < 1; got {dropout:g}"
    with pytest.raises(OpError, match=message):
        python_function(op, case, dropout=dropout)(*torch_arguments(op, case, "float32"))
    given = torch_arguments(op.with_lse, with_dropout(case, dropout), "float32")
    with pytest.raises(OpError, match=message):
        PORTABLE[op.with_lse.torch_name](*given)
