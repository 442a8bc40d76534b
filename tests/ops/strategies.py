"""Small random cases of every operator: all combinations of sizes, masks and chunks in reach."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from reformer_ops.chunk_attention.cases import make_case as make_chunk_attention
from reformer_ops.core.cases import Case
from reformer_ops.lsh_bucket.cases import make_case as make_lsh_bucket
from reformer_ops.sorted_chunk_attention.cases import make_case as make_sorted_chunk_attention

MASKS = ("full", "ragged", "holes", "empty")


def _sizes(most: int) -> dict[str, Any]:
    return {
        "batch": st.integers(1, 3),
        "heads": st.integers(1, 3),
        "head_dim": st.integers(1, 9),
        "seed": st.integers(0, most),
    }


def _chunking(draw: st.DrawFn, *, short: bool | None = None, **fixed: Any) -> dict[str, Any]:
    """A chunk length and a length: of one chunk at most if `short`, of several if it is False."""
    chunk_length = draw(st.integers(1, 8))
    few, many = st.integers(1, chunk_length), st.integers(2, 6).map(lambda n: n * chunk_length)
    length = draw(few if short else many if short is False else few | many)
    reach = {"before": st.integers(0, 3), "after": st.integers(0, 2), "causal": st.booleans()}
    drawn = {name: draw(s) for name, s in reach.items() if name not in fixed}
    return {"chunk_length": chunk_length, "length": length, **drawn}


@st.composite
def lsh_bucket(draw: st.DrawFn, **fixed: Any) -> Case:
    strategies = {
        **_sizes(10**6),
        "length": st.integers(1, 40),
        "num_hashes": st.integers(1, 3),
        "factors": st.lists(st.sampled_from((2, 4, 6, 10, 64)), min_size=1, max_size=3).map(tuple),
        "mask": st.sampled_from(MASKS),
    }
    drawn = {name: draw(s) for name, s in strategies.items() if name not in fixed}
    return make_lsh_bucket(**drawn, **fixed)


@st.composite
def chunk_attention(draw: st.DrawFn, *, short: bool | None = None, **fixed: Any) -> Case:
    strategies = {**_sizes(10**6), "mask": st.sampled_from(MASKS)}
    drawn = {name: draw(s) for name, s in strategies.items() if name not in fixed}
    return make_chunk_attention(**{**_chunking(draw, short=short, **fixed), **drawn, **fixed})


@st.composite
def sorted_chunk_attention(draw: st.DrawFn, *, short: bool | None = None, **fixed: Any) -> Case:
    strategies = {
        **_sizes(10**6),
        "num_hashes": st.integers(1, 3),
        "num_buckets": st.integers(1, 20) | st.just(300),
        "mask": st.sampled_from(MASKS),
    }
    drawn = {name: draw(s) for name, s in strategies.items() if name not in fixed}
    return make_sorted_chunk_attention(
        **{**_chunking(draw, short=short, **fixed), **drawn, **fixed}
    )


CASES = {
    "LshBucket": lsh_bucket(),
    "ChunkAttention": chunk_attention(),
    "SortedChunkAttention": sorted_chunk_attention(),
}
