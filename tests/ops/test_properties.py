"""Compares random cases with the reference, and tests properties that hold for all inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reformer_ops.chunk_attention.spec import CHUNK_ATTENTION
from reformer_ops.core.cases import Case
from reformer_ops.core.spec import OpSpec
from reformer_ops.lsh_bucket.reference import bucket_margins
from reformer_ops.lsh_bucket.spec import LSH_BUCKET
from reformer_ops.registry import OPS
from reformer_ops.sorted_chunk_attention.spec import SORTED_CHUNK_ATTENTION

from . import strategies, tolerances
from .backends import BACKENDS, Backend, by_name

Array = NDArray[Any]

# Cases are small and cheap to draw, so hypothesis may discard many of them.
few = settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much])
many = settings(max_examples=200, suppress_health_check=[HealthCheck.filter_too_much])

# Invariants are tested on one backend of each kind; the tolerances tie the others to these.
SOME = [by_name("torch"), by_name("onnx-function")]
by_backend = pytest.mark.parametrize("backend", SOME, ids=str)
by_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
by_attention = pytest.mark.parametrize(
    "op", [CHUNK_ATTENTION, SORTED_CHUNK_ATTENTION], ids=lambda op: op.name
)


def run(backend: Backend, op: OpSpec, case: Case) -> Array:
    return backend.run(op, case, "float32")


def changed(case: Case, **inputs: Array) -> Case:
    return replace(case, inputs={**case.inputs, **inputs})


def with_attributes(case: Case, **attributes: Any) -> Case:
    return replace(case, attributes={**case.attributes, **attributes})


def assert_close(found: Array, wanted: Array) -> None:
    """Compare two fp32 results: they are the same sums, perhaps in another order."""
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * float(np.abs(wanted).max()))


@by_backend
@by_op
@given(data=st.data())
@few
def test_reference(backend: Backend, op: OpSpec, data: st.DataObject) -> None:
    case = data.draw(strategies.CASES[op.name])
    tolerances.check(op, case, "float32", run(backend, op, case))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "dtype"),
    [
        pytest.param(backend, dtype, id=f"{backend}-{dtype}")
        for backend in BACKENDS
        if not backend.slow
        for dtype in backend.dtypes
    ],
)
@by_op
@given(data=st.data())
@many
def test_reference_at_length(backend: Backend, dtype: str, op: OpSpec, data: st.DataObject) -> None:
    case = tolerances.exact_in(data.draw(strategies.CASES[op.name]), op, dtype)
    tolerances.check(op, case, dtype, backend.run(op, case, dtype))


@by_backend
@by_op
@given(data=st.data())
@few
def test_batches_and_heads_do_not_meet(backend: Backend, op: OpSpec, data: st.DataObject) -> None:
    """Each sequence and each head gives the same result alone and among others."""
    case = data.draw(strategies.CASES[op.name])
    mask = case.inputs["mask"]
    sizes = {"batch": mask.shape[0], "heads": next(iter(case.inputs.values())).shape[2]}
    chosen = {axis: data.draw(st.integers(0, size - 1)) for axis, size in sizes.items()}

    def part(array: Array, axes: tuple[str, ...]) -> Array:
        for place, axis in enumerate(axes):
            if axis in chosen:
                array = array.take([chosen[axis]], axis=place)
        return array

    alone = changed(case, **{o.name: part(case.inputs[o.name], o.axes) for o in op.inputs})
    whole, single = run(backend, op, case), run(backend, op, alone)
    if op is LSH_BUCKET:
        tolerances.check(op, alone, "float32", single)  # a close decision may differ
        tolerances.check(op, case, "float32", whole)
    else:
        assert_close(single, part(whole, op.outputs[0].axes))


# ---- LshBucket


@by_backend
@given(case=strategies.lsh_bucket(), exponent=st.integers(-8, 8))
@few
def test_only_the_direction_is_hashed(backend: Backend, case: Case, exponent: int) -> None:
    """A power of two changes no rounding, so it changes no bucket."""
    scaled = changed(case, query=case.inputs["query"] * np.float32(2.0**exponent))
    assert np.array_equal(run(backend, LSH_BUCKET, scaled), run(backend, LSH_BUCKET, case))


@by_backend
@given(case=strategies.lsh_bucket(mask="full"))
@few
def test_the_opposite_direction(backend: Backend, case: Case) -> None:
    """-x falls into the opposite bucket of every factor."""
    margins = bucket_margins(case.inputs["query"], case.inputs["rotations"], **case.attributes)
    assume((margins > tolerances.CLEAR).all())
    opposite = changed(case, query=-case.inputs["query"])
    found, across = (run(backend, LSH_BUCKET, c).astype(np.int64) for c in (case, opposite))
    for factor in case.attributes["factors"]:
        assert np.array_equal((found % factor + factor // 2) % factor, across % factor)
        found, across = found // factor, across // factor


@by_backend
@given(case=strategies.lsh_bucket(mask="full"))
@few
def test_factors_hash_on_their_own(backend: Backend, case: Case) -> None:
    """Each factor has its own columns; the first factor is the lowest digit of the bucket."""
    factors: tuple[int, ...] = case.attributes["factors"]
    whole = run(backend, LSH_BUCKET, case)
    margins = bucket_margins(case.inputs["query"], case.inputs["rotations"], factors=factors)
    start = 0
    for factor in factors:
        columns = case.inputs["rotations"][..., start : start + factor // 2]
        single = with_attributes(changed(case, rotations=columns), factors=(factor,))
        differs = run(backend, LSH_BUCKET, single) != whole % factor
        assert not (differs & (margins > tolerances.CLEAR)).any()
        start, whole = start + factor // 2, whole // factor


@by_backend
@given(case=strategies.lsh_bucket())
@few
def test_padding_has_a_bucket_to_itself(backend: Backend, case: Case) -> None:
    buckets = run(backend, LSH_BUCKET, case)
    count = int(np.prod(case.attributes["factors"]))
    padding = np.broadcast_to(~case.inputs["mask"][:, None, None, :], buckets.shape)
    assert (buckets[padding] == count).all()
    assert (buckets[~padding] < count).all()
    assert (buckets >= 0).all()


# ---- both attentions


@by_backend
@by_attention
@given(data=st.data())
@few
def test_values_enter_linearly(backend: Backend, op: OpSpec, data: st.DataObject) -> None:
    case = data.draw(strategies.CASES[op.name])
    doubled = changed(case, value=2 * case.inputs["value"])
    assert np.array_equal(run(backend, op, doubled), 2 * run(backend, op, case))


@by_backend
@by_attention
@given(data=st.data())
@few
def test_no_query_sees_the_future(backend: Backend, op: OpSpec, data: st.DataObject) -> None:
    """Later tokens have no effect on earlier ones, even if the chunks wrap around.

    Only a query without any allowed key averages over all keys, including future and padding. In
    ChunkAttention this is a query in padding; in SortedChunkAttention each query sees itself.
    """
    case = data.draw(getattr(strategies, op.torch_name)(causal=True))
    mask = case.inputs["mask"]
    now = data.draw(st.integers(0, mask.shape[1] - 1))
    floats = [operand.name for operand in op.inputs if operand.dtype == "float"]
    later = {name: case.inputs[name].copy() for name in floats}
    for array in later.values():
        array[:, now + 1 :] = 1 - 3 * array[:, now + 1 :]
    seeing = mask if op is CHUNK_ATTENTION else np.ones_like(mask)
    seeing = seeing & (np.arange(mask.shape[1]) <= now)
    found, other = run(backend, op, case), run(backend, op, changed(case, **later))
    assume(seeing.any())
    assert_close(other[seeing], found[seeing])


@by_backend
@by_attention
@given(data=st.data())
@few
def test_no_query_sees_padding(backend: Backend, op: OpSpec, data: st.DataObject) -> None:
    """The values in padding do not change the outputs of the other tokens."""
    case = data.draw(getattr(strategies, op.torch_name)(mask="ragged"))
    mask = case.inputs["mask"]
    other = {
        operand.name: np.where(mask[..., None, None], case.inputs[operand.name], np.float32(7))
        for operand in op.inputs
        if operand.dtype == "float"
    }
    found = run(backend, op, changed(case, **other))
    assert_close(found[mask], run(backend, op, case)[mask])


@by_backend
@by_attention
@given(data=st.data())
@few
def test_weights_sum_to_one(backend: Backend, op: OpSpec, data: st.DataObject) -> None:
    """If all values are equal, so is the output, except for the rounding of the logsumexp.

    A query that sees only itself has the score SELF, near which fp32 numbers are 2**-7 apart.
    """
    case = data.draw(getattr(strategies, op.torch_name)(mask="ragged"))
    case = changed(case, value=np.ones_like(case.inputs["value"]))
    found = run(backend, op, case)[case.inputs["mask"]]
    np.testing.assert_allclose(found, 1, atol=1e-5 if op is CHUNK_ATTENTION else 0.008)


# ---- ChunkAttention


@by_backend
@given(case=strategies.chunk_attention(short=False, mask="empty"))
@few
def test_all_masked_sums_the_values(backend: Backend, case: Case) -> None:
    """In a fully masked window every weight is exp(0): -1e9 plus the logarithm rounds to -1e9."""
    window = case.attributes["num_chunks_before"] + case.attributes["num_chunks_after"] + 1
    ones = changed(case, value=np.ones_like(case.inputs["value"]))
    found = run(backend, CHUNK_ATTENTION, ones)
    np.testing.assert_allclose(found, window * case.attributes["chunk_length"], rtol=1e-6)


@by_backend
@given(
    case=strategies.chunk_attention(mask="ragged", causal=True, after=0), chunks=st.integers(1, 3)
)
@few
def test_more_padding_changes_nothing_when_causal(
    backend: Backend, case: Case, chunks: int
) -> None:
    """The chunks before the first are the last ones, which are in the future at every length.

    This holds if fewer chunks are seen before than the sequence has; otherwise each query sees its
    own chunk once more. Without causality, the first chunk sees the last one. With a chunk after,
    the last chunk sees the first one.
    """
    assert_unchanged_by_padding(backend, CHUNK_ATTENTION, case, chunks)


@by_backend
@given(case=strategies.chunk_attention(mask="ragged", before=0, after=0), chunks=st.integers(1, 3))
@few
def test_more_padding_changes_nothing_without_neighbours(
    backend: Backend, case: Case, chunks: int
) -> None:
    assert_unchanged_by_padding(backend, CHUNK_ATTENTION, case, chunks)


# ---- SortedChunkAttention


@by_backend
@given(case=strategies.sorted_chunk_attention(mask="full"), more=st.integers(1, 5000))
@few
def test_an_empty_padding_bucket_is_no_bucket(backend: Backend, case: Case, more: int) -> None:
    """If nothing is masked, the number of empty buckets for padding has no effect."""
    wider = with_attributes(case, num_buckets=case.attributes["num_buckets"] + more)
    found, other = (run(backend, SORTED_CHUNK_ATTENTION, c) for c in (case, wider))
    assert np.array_equal(found, other)


@by_backend
@given(case=strategies.sorted_chunk_attention(), stride=st.integers(1, 9), start=st.integers(0, 9))
@few
def test_only_the_order_of_buckets_counts(
    backend: Backend, case: Case, stride: int, start: int
) -> None:
    renumbered = start + stride * case.inputs["buckets"]
    other = changed(case, buckets=renumbered.astype(np.int32))
    other = with_attributes(other, num_buckets=int(renumbered.max()) + 1)
    found = run(backend, SORTED_CHUNK_ATTENTION, case)
    assert np.array_equal(found, run(backend, SORTED_CHUNK_ATTENTION, other))


@by_backend
@given(case=strategies.sorted_chunk_attention(short=True), data=st.data())
@few
def test_short_sequences_ignore_buckets_and_reach(
    backend: Backend, case: Case, data: st.DataObject
) -> None:
    seed = data.draw(st.integers(0, 10**6))
    rounds = data.draw(st.integers(1, 3))
    shape = list(case.inputs["buckets"].shape)
    shape[2] = rounds
    count: int = case.attributes["num_buckets"]
    buckets = np.random.default_rng(seed).integers(0, count + 1, shape).astype(np.int32)
    other = changed(case, buckets=buckets)
    other = with_attributes(other, num_chunks_before=0, num_chunks_after=0)
    found = run(backend, SORTED_CHUNK_ATTENTION, case)
    assert_close(run(backend, SORTED_CHUNK_ATTENTION, other), found)


@by_backend
@given(
    case=strategies.sorted_chunk_attention(
        short=True, mask="ragged", before=1, after=0, num_hashes=1
    ),
    chunks=st.integers(1, 3),
)
@few
def test_a_short_sequence_may_be_padded(backend: Backend, case: Case, chunks: int) -> None:
    """It stays in the first chunk of its round, and the chunk before that one is padding.

    With several rounds, the results differ by the rounding of the logsumexp at SELF, because the
    unpadded sequence has one round. Longer sequences may not be padded: the first chunk of a round
    loses a neighbour.
    """
    assert_unchanged_by_padding(backend, SORTED_CHUNK_ATTENTION, case, chunks)


@by_backend
@given(case=strategies.sorted_chunk_attention(before=0, after=0), data=st.data())
@few
def test_rounds_come_in_no_order_without_neighbours(
    backend: Backend, case: Case, data: st.DataObject
) -> None:
    """With neighbours the order counts: a round's first chunk sees the last of the round before."""
    buckets = case.inputs["buckets"]
    order = data.draw(st.permutations(range(buckets.shape[2])))
    other = changed(case, buckets=np.ascontiguousarray(buckets[:, :, order]))
    found = run(backend, SORTED_CHUNK_ATTENTION, case)
    assert_close(run(backend, SORTED_CHUNK_ATTENTION, other), found)


def assert_unchanged_by_padding(backend: Backend, op: OpSpec, case: Case, chunks: int) -> None:
    """Assert that padding to a multiple of the chunk length plus `chunks` chunks has no effect."""
    mask = case.inputs["mask"]
    chunk_length: int = case.attributes["chunk_length"]
    length = mask.shape[1]
    before: int = case.attributes["num_chunks_before"]
    assume(length <= chunk_length or before < length // chunk_length)
    extra = -length % chunk_length + chunks * chunk_length
    fills = {"mask": False, "buckets": case.attributes.get("num_buckets", 0)}
    padded = {}
    for operand in op.inputs:
        widths = [(0, extra if axis == "length" else 0) for axis in operand.axes]
        fill = fills.get(operand.name, 3.0)
        padded[operand.name] = np.pad(case.inputs[operand.name], widths, constant_values=fill)
    found = run(backend, op, changed(case, **padded))[:, :length]
    assert_close(found[mask], run(backend, op, case)[mask])
