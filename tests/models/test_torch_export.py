"""torch.export and torch.compile of the models: each of our operators stays one node."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

from reformer_models.tasks import TASKS
from reformer_ops.core.torch_library import decomposed

from .reformers import SMALL, masks, ours, theirs, token_ids

OURS = {
    "reformer.chunk_attention.default": 2,
    "reformer.lsh_bucket.default": 2,
    "reformer.sorted_chunk_attention.default": 2,
}
# Operators that ours consist of, and random operators, which no graph may contain.
INSIDE_OUR_OPERATORS = ("sort", "gather", "scatter", "logsumexp", "softmax", "matmul", "roll")
CHANCE = ("rand", "dropout", "bernoulli")


def exported(model: torch.nn.Module, length: int, batch: int = 2) -> torch.export.ExportedProgram:
    ids = torch.zeros((batch, length), dtype=torch.int64)
    dynamic = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    return torch.export.export(
        model, (ids, torch.ones_like(ids)), dynamic_shapes=(dynamic, dynamic)
    )


def operators(program: torch.export.ExportedProgram) -> Counter[str]:
    return Counter(str(node.target) for node in program.graph.nodes if node.op == "call_function")


@pytest.mark.parametrize("task", TASKS)
def test_an_exported_program_is_the_model_at_every_length(task: str) -> None:
    model = ours(theirs(task, **{**SMALL, "is_decoder": task == "text-generation"})).model
    program = exported(model, 29)
    found = operators(program)
    assert {name: found[name] for name in found if name.startswith("reformer.")} == OURS
    others = " ".join(found.keys() - OURS.keys())
    assert not [part for part in (*INSIDE_OUR_OPERATORS, *CHANCE) if part in others]

    run = program.module()
    for length in (*range(1, 14), 18, 24, 25, 29, 119, 120):
        batch = 1 + length % 3
        ids = token_ids(batch, length, 40, seed=length)
        for mask in list(masks(batch, length, seed=length))[1:3]:
            assert mask is not None
            with torch.no_grad():
                expected, result = model(ids, mask), run(ids, mask)
            assert result.keys() == expected.keys()
            for name, tensor in expected.items():
                torch.testing.assert_close(result[name], tensor, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("length", "changes"),
    [
        (2, {}),
        (4, {}),
        (12, {}),
        (13, {"attn_layers": ["lsh"], "num_buckets": 4}),
        (3, {"attn_layers": ["local"], "axial_pos_embds": False}),
        (24, {"chunk_size_feed_forward": 3, "local_num_chunks_after": 1}),
    ],
)
def test_the_length_of_the_example_leaves_no_trace(length: int, changes: dict[str, Any]) -> None:
    both = {"attn_layers": ["local", "lsh"], "is_decoder": False}
    model = ours(theirs(**{**SMALL, **both, **changes})).model
    run = exported(model, length).module()
    for other in (1, 3, 4, 5, 12, 13, 30):
        ids = token_ids(1, other, 40)
        with torch.no_grad():
            expected, result = model(ids), run(ids, torch.ones_like(ids))
        torch.testing.assert_close(
            result["last_hidden_state"], expected["last_hidden_state"], rtol=1e-6, atol=1e-6
        )


def test_decomposed_there_is_nothing_of_ours_in_it() -> None:
    """The decomposed program works at every length too."""
    changes = {"is_decoder": False, "num_hashes": 3, "local_num_chunks_before": 4}
    model = ours(theirs(**{**SMALL, **changes, "attn_layers": ["local", "lsh"]})).model
    with decomposed():
        program = exported(model, 2)
    found = operators(program)
    assert not [name for name in found if name.startswith("reformer.")]
    assert not [name for name in found if any(chance in name for chance in CHANCE)]
    run = program.module()
    for length in (*range(1, 14), 24, 29, 120):
        ids = token_ids(3, length, 40, seed=length)
        for mask in list(masks(3, length, seed=length))[1:3]:
            with torch.no_grad():
                expected, result = model(ids, mask), run(ids, mask)
            torch.testing.assert_close(
                result["last_hidden_state"], expected["last_hidden_state"], rtol=1e-5, atol=1e-5
            )
    # Outside `decomposed()`, an export contains our operators again.
    assert any(name.startswith("reformer.") for name in operators(exported(model, 29)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision(dtype: torch.dtype) -> None:
    model = ours(theirs(**{**SMALL, "attn_layers": ["local", "lsh"]}), dtype=dtype).model
    program = exported(model, 29)
    held = {**program.constants, **program.state_dict}
    assert [t.dtype for name, t in held.items() if "rotations" in name] == [torch.float32]
    ids = token_ids(3, 17, 40)
    with torch.no_grad():
        expected, result = model(ids), program.module()(ids, torch.ones_like(ids))
    assert torch.equal(result["last_hidden_state"], expected["last_hidden_state"])


@pytest.mark.slow
def test_compiled() -> None:
    """The backend traces and then runs torch's own kernels, so this tests our operators only."""
    model = ours(theirs("text-generation", **{**SMALL, "attn_layers": ["local", "lsh"]})).model
    torch._dynamo.reset()
    run = torch.compile(model, backend="aot_eager", dynamic=True, fullgraph=True)
    for length in (3, 17, 24):
        ids = token_ids(2, length, 40)
        with torch.no_grad():
            expected, result = model(ids), run(ids)
        torch.testing.assert_close(result["logits"], expected["logits"], rtol=1e-6, atol=1e-6)
