"""The check of inputs before a runtime: which inputs pass, and the errors for the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from reformer_export.artifact.signature import read_signature
from reformer_export.errors import ArtifactError, InputError

from ..tools.artifact_fixtures import signature

SIGNATURE = signature(vocab_size=10, max_length=5)
IDS = np.array([[1, 2, 3], [4, 5, 9]])


def test_the_mask_becomes_ones_and_both_are_int64_in_the_declared_order() -> None:
    checked = SIGNATURE.check({"input_ids": IDS.astype(np.uint8)})
    assert list(checked) == ["input_ids", "attention_mask"]
    for array in checked.values():
        assert array.dtype == np.int64
        assert array.flags.c_contiguous
    np.testing.assert_array_equal(checked["input_ids"], IDS)
    np.testing.assert_array_equal(checked["attention_mask"], np.ones((2, 3)))


@pytest.mark.parametrize("dtype", [np.bool_, np.int32, np.uint8, np.int64])
def test_a_mask_of_any_integer_or_boolean_type_passes(dtype: type) -> None:
    mask = np.array([[1, 1, 0], [1, 0, 0]], dtype=dtype)
    checked = SIGNATURE.check({"input_ids": IDS, "attention_mask": mask})["attention_mask"]
    assert checked.dtype == np.int64
    np.testing.assert_array_equal(checked, mask)


def test_lists_and_views_pass_and_the_input_stays_as_it_was() -> None:
    ids = np.asfortranarray(IDS)
    ids.flags.writeable = False
    np.testing.assert_array_equal(SIGNATURE.check({"input_ids": ids})["input_ids"], IDS)
    np.testing.assert_array_equal(SIGNATURE.check({"input_ids": IDS.tolist()})["input_ids"], IDS)


@pytest.mark.parametrize("length", [1, 5])
def test_the_bounds_themselves_pass(length: int) -> None:
    assert (
        SIGNATURE.check({"input_ids": np.zeros((1, length), int)})["input_ids"].shape[1] == length
    )


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "input_ids is missing"),
        ({"input_ids": IDS, "position_ids": IDS}, "no input 'position_ids'"),
        ({"input_ids": IDS[0]}, r"found shape \[3\]: add the batch axis"),
        ({"input_ids": IDS[None]}, r"must be \[batch, sequence\], found shape \[1, 2, 3\]"),
        ({"input_ids": 3}, r"found shape \[\]"),
        ({"input_ids": IDS[:0]}, "an empty batch"),
        ({"input_ids": IDS[:, :0]}, "an empty sequence; the model takes 1 to 5"),
        ({"input_ids": [[]]}, "an empty sequence"),
        ({"input_ids": np.zeros((1, 6), int)}, "a sequence of 6 tokens; the model takes 1 to 5"),
        ({"input_ids": IDS.astype(float)}, "must be integers, found float64"),
        ({"input_ids": IDS.astype(bool)}, "must be integers, found bool"),
        ({"input_ids": np.zeros((1, 0), np.float32)}, "must be integers, found float32"),
        ({"input_ids": [["a"]]}, "must be integers"),
        ({"input_ids": [[1], [1, 2]]}, "not an array of integers"),
        (
            {"input_ids": IDS + 1},
            r"input_ids\[1, 2\] is 10, outside the vocabulary 0\.\.9 \(1 such",
        ),
        ({"input_ids": IDS - 2}, r"input_ids\[0, 0\] is -1, outside"),
        ({"input_ids": np.full((1, 2), 2**64 - 1, np.uint64)}, "is 18446744073709551615, outside"),
        ({"input_ids": IDS, "attention_mask": IDS[:1]}, r"shape \[1, 3\] and input_ids \[2, 3\]"),
        ({"input_ids": IDS, "attention_mask": IDS[0]}, r"shape \[3\] and input_ids \[2, 3\]"),
        ({"input_ids": IDS, "attention_mask": IDS}, r"attention_mask\[0, 1\] is 2: use 1"),
        ({"input_ids": IDS, "attention_mask": IDS * 0.0}, "must be integers, found float64"),
    ],
)
def test_what_a_model_does_not_take_is_refused_in_one_line(inputs: dict, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        SIGNATURE.check(inputs)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 1


def test_json_and_back() -> None:
    assert read_signature(SIGNATURE.to_json()) == SIGNATURE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vocab_size": 0}, "signature.vocab_size must be at least 1, found 0"),
        ({"vocab_size": True}, "signature.vocab_size must be an integer, found a boolean"),
        ({"max_length": 0}, "signature.max_length must be at least 1"),
        ({"inputs": []}, "found none"),
        ({"inputs": SIGNATURE.to_json()["inputs"][:1]}, "must be input_ids and attention_mask"),
        ({"inputs": SIGNATURE.to_json()["inputs"][:1] * 2}, "must be input_ids and attention_mask"),
        ({"outputs": []}, "signature.outputs is empty"),
        ({"outputs": [{"name": "x", "dtype": "O", "axes": []}]}, r"outputs\[0\].dtype must be one"),
        ({"outputs": [{"name": "x", "dtype": "int64", "axes": [-1]}]}, r"axes\[0\] must be"),
        ({"outputs": [{"dtype": "int64", "axes": []}]}, r"outputs\[0\].name is missing"),
        ({"outputs": {}}, "outputs must be a list, found an object"),
    ],
)
def test_a_malformed_signature_names_the_field(changes: dict, said: str) -> None:
    with pytest.raises(ArtifactError, match=said):
        read_signature({**SIGNATURE.to_json(), **changes})


def test_a_minimum_above_one_is_kept() -> None:
    with pytest.raises(InputError, match="takes 2 to 5"):
        replace(SIGNATURE, min_length=2).check({"input_ids": [[1]]})
