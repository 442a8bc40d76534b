"""Every token counts in exactly one window, and has the context that the rule promises."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from reformer_export.serving.corpus.windows import windows_of


@given(st.integers(0, 300), st.integers(2, 60), st.data())
def test_every_token_counts_once(length: int, size: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(1, size - 1))
    tokens = np.arange(length)
    windows = list(windows_of(7, tokens, size, overlap))
    counted = np.concatenate([tokens[:0], *(window.tokens[window.new :] for window in windows)])
    np.testing.assert_array_equal(counted, tokens)
    for window in windows:
        assert window.document == 7
        np.testing.assert_array_equal(
            window.tokens, tokens[window.start : window.start + len(window.tokens)]
        )
        assert len(window.tokens) == min(size, length)
        assert window.new >= overlap or window.start == 0
