"""`SeriesSignature`: what a model of series accepts, and its record in a manifest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reformer_export.artifact.signature import (
    SeriesSignature,
    TensorSpec,
    read_signature,
    require_tokens,
)
from reformer_export.errors import ArtifactError, InputError, UsageError


def signature(**changes: Any) -> SeriesSignature:
    fields: dict[str, Any] = {
        "channels": 2,
        "time_features": 3,
        "outputs": (TensorSpec("forecast", "float32", ("batch", 4, 1)),),
        "horizon": 4,
        "time_tables": (),
        "max_length": 10,
    }
    return SeriesSignature.of(**{**fields, **changes})


SIGNATURE = signature()
TABLES = signature(time_tables=(13, 7, 24))
WITHOUT_TIMES = signature(time_features=0)


@pytest.mark.parametrize("kind", [SIGNATURE, TABLES, WITHOUT_TIMES], ids=["real", "tables", "none"])
def test_random_inputs_are_accepted_unchanged(kind: SeriesSignature) -> None:
    inputs = kind.random_inputs(np.random.default_rng(0), 3, 10)
    checked = kind.check(inputs)
    assert list(checked) == [spec.name for spec in kind.inputs]
    for spec in kind.inputs:
        assert checked[spec.name].shape == spec.shape(3, 10)
        assert checked[spec.name].dtype == np.float32
        np.testing.assert_array_equal(checked[spec.name], inputs[spec.name])
    assert kind.extent(checked) == (3, 10)
    assert kind.described_extent(checked) == "3 x 10 steps"


def test_any_real_numbers_become_contiguous_fp32() -> None:
    given = np.arange(12, dtype=">i2").reshape(2, 6).T[None]
    checked = WITHOUT_TIMES.check({"series": given})["series"]
    np.testing.assert_array_equal(checked, given)
    assert checked.dtype == np.float32
    assert checked.flags.c_contiguous
    assert WITHOUT_TIMES.check({"series": [[[1, 2.5]]]})["series"].tolist() == [[[1.0, 2.5]]]


SERIES = np.zeros((1, 5, 2), np.float32)
TIMES = np.zeros((1, 9, 3), np.float32)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"input_ids": [[1]]}, "no input 'input_ids': it takes series, time_features"),
        ({"time_features": TIMES}, r"series is missing: give numbers as \[batch, sequence, 2\]"),
        (
            {"series": SERIES},
            r"time_features is missing: give numbers as \[batch, sequence \+ 4, 3",
        ),
        (
            {"series": SERIES[0]},
            r"must be \[batch, sequence, 2\], found shape \[5, 2\]: add the ba",
        ),
        ({"series": SERIES[:0]}, "empty batch"),
        ({"series": SERIES[..., :1]}, "series has 1 channels, and the model takes 2"),
        ({"series": SERIES[:, :0]}, "series holds 0 steps; the model takes 1 to 10 steps"),
        ({"series": np.zeros((1, 11, 2))}, "series holds 11 steps; the model takes 1 to 10 steps"),
        ({"series": SERIES > 0}, "series must be real numbers, found bool"),
        ({"series": [[["a", "b"]]]}, "series must be real numbers, found <U1"),
        ({"series": [[[1, 2]], [[3]]]}, "series is not an array of numbers"),
        ({"series": SERIES + np.nan}, r"series\[0, 0, 0\] is nan, not a finite number"),
        ({"series": np.full((1, 5, 2), 1e39)}, r"series\[0, 0, 0\] is 1e\+39, not a finite number"),
        (
            {"time_features": TIMES[:, :5]},
            r"shape \[1, 5, 3\].*needs \[1, 9, 3\], of the series and",
        ),
    ],
)
def test_what_the_model_does_not_take_is_refused(inputs: dict[str, Any], said: str) -> None:
    complete = {"series": SERIES, "time_features": TIMES}
    given = inputs if len(inputs) == 1 and "is missing" in said else {**complete, **inputs}
    with pytest.raises(InputError, match=said) as caught:
        SIGNATURE.check(given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [-1, 7, 0.5])
def test_times_outside_their_table_are_refused(value: float) -> None:
    times = TIMES.copy()
    times[0, 8, 1] = value
    with pytest.raises(InputError, match=rf"\[0, 8, 1\] is {value}, not a whole number in 0..6"):
        TABLES.check({"series": SERIES, "time_features": times})


@pytest.mark.parametrize("kind", [SIGNATURE, TABLES, WITHOUT_TIMES], ids=["real", "tables", "none"])
def test_json_and_back(kind: SeriesSignature) -> None:
    assert read_signature(kind.to_json()) == kind


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": []},
        {"inputs": SIGNATURE.to_json()["inputs"][1:]},
        {"inputs": SIGNATURE.to_json()["inputs"] * 2},
        {"inputs": [{"name": "series", "dtype": "float64", "axes": ["batch", "sequence", 2]}]},
        {"inputs": [{"name": "series", "dtype": "float32", "axes": ["batch", "sequence", "x"]}]},
        {"horizon": 5},
        {"time_tables": [3]},
    ],
)
def test_a_malformed_signature_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match=r"signature\.inputs must be series, float32"):
        read_signature({**SIGNATURE.to_json(), **changes})


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"signature\.kind must be one of tokens, series"):
        read_signature({**SIGNATURE.to_json(), "kind": "images"})


def test_what_is_for_tokens_is_refused() -> None:
    with pytest.raises(UsageError, match="serve is for models of tokens, and this model takes ser"):
        require_tokens(SIGNATURE, "serve")
