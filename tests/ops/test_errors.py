"""Operators refuse invalid arguments with a message that names the argument."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from reformer_ops import torch_ops  # noqa: F401  (registers the operators)
from reformer_ops.core.cases import Case
from reformer_ops.core.errors import OpError
from reformer_ops.core.spec import OpSpec
from reformer_ops.core.torch_library import PORTABLE
from reformer_ops.registry import OPS, by_onnx_name

from .examples import EXAMPLES
from .onnx_models import make_model, make_session

LSH, SORTED, CHUNK = (op.name for op in OPS)

AXES = r"\[batch, length, heads, head_dim\]"

# Operator, input, change of the input, message.
OPERANDS = [
    (LSH, "query", lambda t: t[0], rf"takes query as {AXES}; got shape \[12, 3, 5\]"),
    (LSH, "query", lambda t: t[..., :4], r"takes rotations .* with head_dim = 4 as in"),
    (LSH, "query", lambda t: t.double(), r"takes float32, float16 or bfloat16.* for query"),
    (LSH, "query", lambda t: t.int(), r"takes float32, float16 or bfloat16.* for query"),
    (LSH, "rotations", lambda t: t.half(), r"takes float32 for rotations"),
    (LSH, "rotations", lambda t: t[..., :4], r"takes rotations with 5 columns .*\[4, 6\].*2, 4\]"),
    (LSH, "rotations", lambda t: t[:1], r"takes rotations .* with heads = 3 as in"),
    (LSH, "mask", lambda t: t.long(), r"takes bool for mask"),
    (LSH, "mask", lambda t: t[:, :8], r"takes mask as \[batch, length\] with length = 12"),
    (SORTED, "query_key", lambda t: t[:0], r"takes query_key .*\[0, 12, 3, 5\]"),
    (SORTED, "value", lambda t: t[..., None], rf"takes value as {AXES}; got .*12, 3, 5, 1\]"),
    (
        SORTED,
        "value",
        lambda t: t.half(),
        r"takes float32, .*, the same for all its float inputs, for value",
    ),
    (SORTED, "value", lambda t: t[..., :2], r"takes value .* with head_dim = 5 as in"),
    (SORTED, "buckets", lambda t: t.long(), r"takes int32 for buckets"),
    (SORTED, "buckets", lambda t: t[:, :2], r"takes buckets .* with heads = 3 as in"),
    (SORTED, "buckets", lambda t: t[:, :, :0], r"takes buckets .*\[2, 3, 0, 12\]"),
    (SORTED, "mask", lambda t: t[:1], r"takes mask .* with batch = 2 as in"),
    (CHUNK, "query", lambda t: t[:, :, :0], r"takes query .*\[2, 12, 0, 5\]"),
    (
        CHUNK,
        "key",
        lambda t: t.bfloat16(),
        r"takes float32, .*, the same for all its float inputs, for key",
    ),
    (CHUNK, "key", lambda t: t[:, :8], r"takes key .* with length = 12 as in"),
    (CHUNK, "value", lambda t: t[:, :, :2], r"takes value .* with heads = 3 as in"),
    (CHUNK, "mask", lambda t: t[0], r"takes mask as \[batch, length\]; got shape \[12\]"),
    (CHUNK, "mask", lambda t: t.float(), r"takes bool for mask"),
]

ATTRIBUTES = [
    (LSH, {"factors": ()}, r"takes one or more factors, even and >= 2; got"),
    (LSH, {"factors": (4, 5)}, r"takes one or more factors, even and >= 2; got .*4, 5"),
    (LSH, {"factors": (0, 10)}, r"takes one or more factors, even and >= 2; got .*0, 10"),
    (LSH, {"factors": (-2, 12)}, r"takes one or more factors, even and >= 2; got .*-2, 12"),
    (SORTED, {"num_buckets": 0}, r"takes num_buckets >= 1; got 0"),
    (SORTED, {"chunk_length": 0}, r"takes chunk_length >= 1; got 0"),
    (SORTED, {"num_chunks_before": -1}, r"takes num_chunks_before >= 0; got -1"),
    (SORTED, {"num_chunks_after": -2}, r"takes num_chunks_after >= 0; got -2"),
    (CHUNK, {"chunk_length": -3}, r"takes chunk_length >= 1; got -3"),
    (CHUNK, {"num_chunks_before": -1}, r"takes num_chunks_before >= 0; got -1"),
    (CHUNK, {"num_chunks_after": -1}, r"takes num_chunks_after >= 0; got -1"),
]

TOO_MANY = (65536, 32768)
UNEVEN = r"length of at most chunk_length or a multiple of it; got length 12 with chunk_length 5"


def refused(op: OpSpec, message: str, tensors: dict[str, Any], case: Case) -> None:
    """Assert that both the dispatcher's implementation and the portable one refuse these."""
    given = [*tensors.values(), *case.attributes.values()]
    with pytest.raises(ValueError, match=f"{op.torch_name} {message}"):
        getattr(torch.ops.reformer, op.torch_name)(*given)
    with pytest.raises(OpError, match=f"^{op.torch_name} {message}"):
        PORTABLE[op.torch_name](*given)


def tensors_of(case: Case) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in case.inputs.items()}


@pytest.mark.parametrize(("name", "operand", "change", "message"), OPERANDS)
def test_operands(name: str, operand: str, change: Any, message: str) -> None:
    case = EXAMPLES[name]
    tensors = tensors_of(case)
    tensors[operand] = change(tensors[operand])
    refused(by_onnx_name(name), message, tensors, case)


@pytest.mark.parametrize(("name", "attributes", "message"), ATTRIBUTES)
def test_attributes(name: str, attributes: dict[str, Any], message: str) -> None:
    case = EXAMPLES[name]
    case = replace(case, attributes={**case.attributes, **attributes})
    refused(by_onnx_name(name), message, tensors_of(case), case)
    with pytest.raises(OpError, match=message):
        make_model(by_onnx_name(name), case.attributes, "float32", "function")


def test_more_buckets_than_int32_can_number() -> None:
    case = replace(EXAMPLES[LSH], attributes={"factors": TOO_MANY})
    tensors = tensors_of(case)
    tensors["rotations"] = torch.zeros(3, 5, 1, sum(TOO_MANY) // 2)
    message = r"takes factors whose product is below 2\*\*31; got"
    refused(by_onnx_name(LSH), message, tensors, case)
    with pytest.raises(OpError, match=message):
        make_model(by_onnx_name(LSH), case.attributes, "float32", "function")


@pytest.mark.parametrize("name", [SORTED, CHUNK])
def test_a_length_that_is_no_multiple(name: str) -> None:
    case = EXAMPLES[name]
    case = replace(case, attributes={**case.attributes, "chunk_length": 5})
    refused(by_onnx_name(name), f"takes a {UNEVEN}", tensors_of(case), case)


@pytest.mark.parametrize("chunk_length", [5, 8])  # two rounds of 12 are three chunks of 8
@pytest.mark.parametrize("name", [SORTED, CHUNK])
def test_the_body_refuses_such_a_length_too(name: str, chunk_length: int) -> None:
    """A graph has no messages of its own, but it must fail and not return numbers."""
    case = EXAMPLES[name]
    attributes = {**case.attributes, "chunk_length": chunk_length}
    session = make_session(make_model(by_onnx_name(name), attributes, "float32", "function"))
    with pytest.raises(Exception, match="Reshape"):
        session.run(None, case.inputs)
