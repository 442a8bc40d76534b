"""Shuffles, votes and reductions of the emulator, compared lane by lane with plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from .errors import KernelFault
from .snippets import apply

LANE = np.arange(64)
ALL = "0xffffffff"


def shuffled(mode: str, values: list[int], b: int, c: int) -> tuple[list[int], list[bool]]:
    """The manual's pseudo-code, one lane after another."""
    result, inside = [], []
    for lane in range(32):
        segment, clamp, by = c >> 8 & 31, c & 31, b & 31
        high = (lane & segment) | (clamp & ~segment & 31)
        low = lane & segment
        j = {"up": lane - by, "down": lane + by, "bfly": lane ^ by, "idx": low | by & ~segment}[
            mode
        ]
        ok = j >= high if mode == "up" else j <= high
        result.append(values[j if ok else lane])
        inside.append(ok)
    return result, inside


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@settings(max_examples=25)
@given(b=st.integers(0, 40), width=st.sampled_from([1, 2, 4, 8, 16, 32]))
def test_shuffle(mode: str, b: int, width: int) -> None:
    c = (32 - width) << 8 | (0 if mode == "up" else 31)
    values = LANE * 3 + 5
    code = f"shfl.sync.{mode}.b32 %r|%p, %a, {b}, {c}, {ALL};"
    found = apply(code, ("b32", values), result="b32", more=".reg .pred %p;")
    flags = apply(
        f"shfl.sync.{mode}.b32 %t|%r, %a, {b}, {c}, {ALL};",
        ("b32", values),
        result="pred",
        more=".reg .b32 %t;",
    )
    for warp in (slice(0, 32), slice(32, 64)):
        wanted, inside = shuffled(mode, values[warp].tolist(), b, c)
        assert found[warp].tolist() == wanted
        assert flags[warp].tolist() == inside


def test_shuffle_by_a_distance_of_each_lane() -> None:
    found = apply(
        f"shfl.sync.idx.b32 %r, %a, %b, 31, {ALL};",
        ("b32", LANE[:32]),
        ("b32", 31 - LANE[:32]),
        result="b32",
    )
    assert found.tolist() == list(range(31, -1, -1))


def test_vote() -> None:
    voices = [(lane % 3 == 0) if lane < 32 else True for lane in LANE]
    ballot = apply(f"vote.sync.ballot.b32 %r, %a, {ALL};", ("pred", voices), result="b32")
    first = sum(1 << lane for lane in range(32) if lane % 3 == 0)
    assert ballot.tolist() == [first] * 32 + [0xFFFFFFFF] * 32
    for mode, wanted in {"all": (False, True), "any": (True, True), "uni": (False, True)}.items():
        found = apply(f"vote.sync.{mode}.pred %r, %a, {ALL};", ("pred", voices), result="pred")
        assert found.tolist() == [wanted[0]] * 32 + [wanted[1]] * 32


def test_election_and_active_lanes() -> None:
    found = apply(f"elect.sync %t|%r, {ALL};", ("b32", LANE), result="pred", more=".reg .b32 %t;")
    assert np.flatnonzero(found).tolist() == [0, 32]
    assert apply("activemask.b32 %r;", ("b32", LANE), result="b32").tolist() == [0xFFFFFFFF] * 64
    odd = [lane % 2 == 1 for lane in LANE]
    found = apply(
        "mov.b32 %r, 0; @%a bra $odd; bra.uni $end;\n$odd: activemask.b32 %r;\n$end:",
        ("pred", odd),
        result="b32",
    )
    assert found.tolist() == [0xAAAAAAAA if is_odd else 0 for is_odd in odd]


def test_reduction() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(-(2**31), 2**31, 64)
    for name, kind, function in (
        ("add", "s32", lambda row: int(row.sum()) & 0xFFFFFFFF),
        ("min", "s32", lambda row: int(row.min()) & 0xFFFFFFFF),
        ("max", "u32", lambda row: int((row & 0xFFFFFFFF).max())),
        ("or", "b32", lambda row: int(np.bitwise_or.reduce(row)) & 0xFFFFFFFF),
        ("xor", "b32", lambda row: int(np.bitwise_xor.reduce(row)) & 0xFFFFFFFF),
    ):
        found = apply(f"redux.sync.{name}.{kind} %r, %a, {ALL};", ("b32", values), result="b32")
        wanted = [function(values[:32])] * 32 + [function(values[32:])] * 32
        assert found.tolist() == wanted
    floats = rng.standard_normal(32).astype(np.float32)
    floats[5] = np.nan
    found = apply(f"redux.sync.max.f32 %r, %a, {ALL};", ("f32", floats), result="f32")
    assert (found == np.nanmax(floats)).all()
    found = apply(f"redux.sync.max.NaN.f32 %r, %a, {ALL};", ("f32", floats), result="f32")
    assert np.isnan(found).all()


@pytest.mark.parametrize(
    "code",
    [
        "@%a shfl.sync.idx.b32 %r, %b, 0, 31, 0xffffffff;",
        "@%a redux.sync.add.s32 %r, %b, 0xffffffff;",
        "shfl.sync.idx.b32 %r, %b, 0, 31, 0xffff;",
        "@%a bar.warp.sync 0xffffffff;",
    ],
)
def test_a_member_that_does_not_come_is_a_fault(code: str) -> None:
    with pytest.raises(KernelFault, match=r"member mask is not the threads that take part; line"):
        apply(
            f"mov.b32 %r, 0; {code}",
            ("pred", LANE[:32] < 16),
            ("b32", LANE[:32]),
            result="b32",
        )
