"""The shapes that an engine is built for: given shapes, defaults, and refused shapes."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from reformer_export.artifact.engine import Extent, Profile
from reformer_export.errors import InputError, UsageError
from reformer_export.exporters.tensorrt.profiles import check_volumes, make_profiles
from reformer_export.runtimes.tensorrt import choose_profile

from ..tools.artifact_fixtures import signature
from ..tools.model_fixtures import Fixtures

SIGNATURE = signature(max_length=5000)


def profile(*sizes: tuple[int, int]) -> Profile:
    return Profile(*(Extent(*size) for size in sizes))


@pytest.mark.parametrize(
    ("smallest", "usual", "largest", "expected"),
    [
        ([], [], [], profile((1, 1), (1, 1024), (1, 5000))),
        ([], [], ["input_ids:2x300"], profile((1, 1), (2, 300), (2, 300))),
        (["input_ids:2x1100"], [], [], profile((2, 1100), (2, 1100), (2, 5000))),
        ([], ["input_ids:3x7"], [], profile((1, 1), (3, 7), (3, 5000))),
        (
            ["input_ids:1x64,attention_mask:1x64"],
            ["attention_mask:1x100"],
            ["input_ids:4x200, attention_mask:4x200"],
            profile((1, 64), (1, 100), (4, 200)),
        ),
    ],
)
def test_what_is_left_out(
    smallest: list[str], usual: list[str], largest: list[str], expected: Profile
) -> None:
    assert make_profiles(SIGNATURE, smallest, usual, largest) == (expected,)


def test_the_nth_of_each_belong_together() -> None:
    made = make_profiles(
        SIGNATURE, ["input_ids:1x1", "input_ids:8x10"], [], ["input_ids:1x9", "input_ids:8x20"]
    )
    assert made == (profile((1, 1), (1, 9), (1, 9)), profile((8, 10), (8, 20), (8, 20)))


@pytest.mark.parametrize(
    ("smallest", "usual", "largest", "said"),
    [
        (["64"], [], [], "--minShapes 64: '64' is not a shape such as input_ids:1x64"),
        (["input_ids:1x64x2"], [], [], "is not a shape"),
        (["input_ids:-1x64"], [], [], "is not a shape"),
        (["ids:1x64"], [], [], "the model has no input 'ids'"),
        (["input_ids:1x4,input_ids:1x4"], [], [], "input_ids is given twice"),
        (["input_ids:1x4,attention_mask:1x5"], [], [], "same shape, found 1x4 and 1x5"),
        (["input_ids:0x4"], [], [], "a batch has at least one sequence"),
        (["input_ids:1x0"], [], [], "this model takes 1 to 5000 tokens"),
        ([], [], ["input_ids:1x5001"], "--maxShapes input_ids:1x5001: this model takes 1 to 5000"),
        (["input_ids:1x9"], [], ["input_ids:1x8"], "must not decrease in length"),
        (["input_ids:2x1"], ["input_ids:1x9"], [], "must not decrease in batch"),
        (["input_ids:1x1"] * 2, [], ["input_ids:1x9"], "--maxShapes is given 1 times and another"),
    ],
)
def test_what_is_refused(
    smallest: list[str], usual: list[str], largest: list[str], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        make_profiles(SIGNATURE, smallest, usual, largest)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_profile_tuned_for_the_nearest_length_runs() -> None:
    profiles = (
        profile((1, 1), (1, 64), (1, 1000)),
        profile((1, 1), (1, 900), (1, 1000)),
        profile((2, 1), (4, 10), (4, 10)),
    )
    assert choose_profile(profiles, 1, 5) == 0
    assert choose_profile(profiles, 1, 800) == 1
    assert choose_profile(profiles, 3, 7) == 2
    for batch, length in [(1, 1001), (3, 11), (5, 1)]:
        with pytest.raises(InputError, match=f"not built for {batch}x{length} tokens"):
            choose_profile(profiles, batch, length)


def test_tensors_that_tensorrt_does_not_take(fixtures: Fixtures) -> None:
    """Scores are batch x heads x rounds x tokens x keys, and must stay below 2**31."""
    model = ir.load(fixtures.artifact("fill-mask").format_path("onnx"))
    check_volumes(model, [profile((1, 1), (1, 9), (1000, 96))])
    for node in model.graph:
        if node.op_type == "SortedChunkAttention":
            heads, rounds = node.inputs[2].shape[1:3]
            chunk = node.attributes["chunk_length"].as_int()
            keys = chunk * (2 + node.attributes["num_chunks_after"].as_int())
            assert node.attributes["num_chunks_before"].as_int() == 1
    tokens = (2**31 - 1) // (heads * rounds * keys)
    batch = tokens // (8 * chunk)
    check_volumes(model, [profile((1, 1), (1, 1), (batch, 8 * chunk))])
    with pytest.raises(UsageError, match=f"ask for at most {tokens:,} tokens in a batch"):
        check_volumes(model, [profile((1, 1), (1, 1), (2 * batch, 8 * chunk))])
