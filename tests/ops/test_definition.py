"""The reference against plain loops that were written from docs/ops.md."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reformer_ops.cases import Case
from reformer_ops.registry import OPS
from reformer_ops.spec import OpSpec

from . import law, naive, strategies
from .examples import EXAMPLES

by_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)


@by_op
def test_example(op: OpSpec) -> None:
    check(op, EXAMPLES[op.name])


@by_op
@given(data=st.data())
@settings(max_examples=40)
def test_random_cases(op: OpSpec, data: st.DataObject) -> None:
    check(op, data.draw(strategies.CASES[op.name]))


def check(op: OpSpec, case: Case) -> None:
    loops = getattr(naive, op.torch_name)(**case.inputs, **case.attributes)
    wanted = law.expected(op, case)
    assert loops.dtype == wanted.dtype
    np.testing.assert_allclose(loops, wanted, rtol=0, atol=1e-11)
