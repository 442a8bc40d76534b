"""Models of reformer-pytorch: our numbers beside those of the package itself."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from reformer_models.layers.decoding import DecodeStep, Prefill, cache_tensors
from reformer_models.layers.heads import TextGeneration
from reformer_models.loading import load_model

from ..tools.lucidrains import (
    BASE,
    BUCKET,
    VECTORS,
    build,
    inject,
    inputs,
    redraw,
    save,
)

VARIANTS: Mapping[str, Mapping[str, object]] = {
    "causal": {},
    "both directions": {"causal": False},
    "wide heads": {"dim_head": 64, "n_hashes": 4},
    "axial positions": {"absolute_position_emb": False, "axial_position_emb": True},
    "axial positions of three axes": {
        "absolute_position_emb": False,
        "axial_position_emb": True,
        "axial_position_shape": [4, 2, 8],
    },
    "fixed positions": {"absolute_position_emb": False, "fixed_position_emb": True},
    "rotary positions": {"absolute_position_emb": False},
    "rotary positions, not causal": {"absolute_position_emb": False, "causal": False},
    "another activation": {"ff_activation": "ReLU"},
    "gated feed-forward": {"ff_glu": True},
    "gated feed-forward with another activation": {"ff_glu": True, "ff_activation": "SiLU"},
    "ScaleNorm": {"use_scale_norm": True},
    "ReZero": {"use_rezero": True},
    "local heads": {"n_local_attn_heads": 1},
    "local heads, not causal": {"n_local_attn_heads": 1, "causal": False},
    "local heads, rotary positions": {"n_local_attn_heads": 1, "absolute_position_emb": False},
    "memory": {"num_mem_kv": BUCKET},
    "memory, not causal": {"num_mem_kv": BUCKET, "causal": False},
    "memory, one value head": {"num_mem_kv": BUCKET, "one_value_head": True},
    "memory, rotary positions": {"num_mem_kv": BUCKET, "absolute_position_emb": False},
    "embeddings of another size": {"emb_dim": 16},
    "embeddings of another size, axial positions": {
        "emb_dim": 16,
        "absolute_position_emb": False,
        "axial_position_emb": True,
    },
    "embeddings of another size, tied head": {"emb_dim": 64, "weight_tie_embedding": True},
    "embeddings of another size, no head": {"emb_dim": 16, "return_embeddings": True},
    "embeddings of another size, rotary positions": {
        "emb_dim": 16,
        "absolute_position_emb": False,
    },
    "tied layers": {"weight_tie": True},
    "tied head": {"weight_tie_embedding": True},
    "one value head": {"one_value_head": True},
    "no head": {"return_embeddings": True},
    "rotations of each head": {"random_rotations_per_head": True},
}


VARIANTS_OF_VECTORS: Mapping[str, Mapping[str, object]] = {
    "both directions": {},
    "causal": {"causal": True},
    "head size": {"dim_head": 64, "n_hashes": 1},
    "gated feed-forward": {"ff_glu": True, "ff_activation": "SiLU"},
    "ScaleNorm": {"use_scale_norm": True},
    "ReZero": {"use_rezero": True},
    "local heads": {"n_local_attn_heads": 1},
    "memory": {"num_mem_kv": BUCKET, "causal": True},
    "tied layers": {"weight_tie": True},
    "one value head": {"one_value_head": True},
    "rotations of each head": {"random_rotations_per_head": True},
}


def difference(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Mapping[str, object],
    buckets: int,
    *,
    queries: float = 1.0,
) -> float:
    """The largest difference between both models' outputs, as a share of the largest output.

    The package computes `buckets` from the number of tokens and memory vectors.
    """
    model = build(arguments)
    for block in getattr(model, "reformer", model).layers.blocks:
        block.f.net.fn.toqk.weight.data.mul_(queries)
    loaded = load_model(save(folder, model, arguments), num_buckets=buckets)
    given = inputs(model, buckets)
    per_head = bool(arguments.get("random_rotations_per_head"))
    redraw(loaded, per_head=per_head)
    inject(loaded, monkeypatch, per_head=per_head)
    with torch.no_grad():
        expected = model(given)
        (found,) = loaded.model(given).values()
    share = ((found - expected).abs().max() / expected.abs().max()).item()
    print(f"{buckets} buckets: {share:.1e} of the scale")
    return share


@pytest.mark.parametrize("buckets", [2, 6, 8])
@pytest.mark.parametrize("variant", VARIANTS)
def test_outputs_are_those_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, buckets: int
) -> None:
    # The score of a token with itself. It matters only to tokens that see no other token in any
    # round: the sum over the rounds is rounded at this size. The next tests keep the package's.
    package = importlib.import_module("reformer_pytorch.reformer_pytorch")
    monkeypatch.setattr(package, "TOKEN_SELF_ATTN_VALUE", -1e5)
    arguments = {**BASE, **VARIANTS[variant]}
    assert difference(tmp_path / "model", monkeypatch, arguments, buckets) <= 1e-4


@pytest.mark.parametrize("buckets", [2, 8])
@pytest.mark.parametrize("variant", VARIANTS_OF_VECTORS)
def test_hidden_states_are_those_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str, buckets: int
) -> None:
    package = importlib.import_module("reformer_pytorch.reformer_pytorch")
    monkeypatch.setattr(package, "TOKEN_SELF_ATTN_VALUE", -1e5)  # as above
    arguments = {**VECTORS, **VARIANTS_OF_VECTORS[variant]}
    assert difference(tmp_path / "model", monkeypatch, arguments, buckets) <= 1e-4


@pytest.mark.parametrize(
    ("options", "length"),
    [
        ({"use_full_attn": True}, 1),
        ({"use_full_attn": True, "num_mem_kv": 3}, 6 * BUCKET + 3),
        ({"full_attn_thres": BUCKET}, 1),
        ({"full_attn_thres": BUCKET, "causal": True}, BUCKET - 1),
        ({"full_attn_thres": BUCKET}, BUCKET),
    ],
    ids=str,
)
def test_full_attention_to_vectors(
    tmp_path: Path, options: Mapping[str, object], length: int
) -> None:
    arguments = {**VECTORS, **options}
    model = build(arguments)
    loaded = load_model(save(tmp_path / "model", model, arguments))
    series = torch.randn(3, length, 32)
    with torch.no_grad():
        expected, found = model(series), loaded.model(series)["last_hidden_state"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("buckets", [2, 4, 6, 8])
@pytest.mark.parametrize("options", [{"n_hashes": 1}, {"causal": False}], ids=str)
def test_outputs_are_those_of_the_unchanged_package(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: Mapping[str, object],
    buckets: int,
) -> None:
    arguments = {**BASE, **options}
    assert difference(tmp_path / "model", monkeypatch, arguments, buckets) <= 1e-4


@pytest.mark.parametrize("buckets", [2, 8])
@pytest.mark.parametrize("hashes", [2, 4, 8])
def test_tokens_that_see_only_themselves_are_rounded_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashes: int, buckets: int
) -> None:
    """Both libraries weigh the rounds of such a token in fp32, at scores of -5e4 and -1e5.

    The weights should add up to one. Half a unit in the last place is 0.002 and 0.004 there.
    """
    arguments = {**BASE, "n_hashes": hashes}
    assert difference(tmp_path / "model", monkeypatch, arguments, buckets) <= 0.006


@pytest.mark.parametrize("length", [1, 5, BUCKET])
@pytest.mark.parametrize("causal", [True, False])
def test_short_sequences_have_full_attention(tmp_path: Path, length: int, causal: bool) -> None:
    arguments = {**BASE, "full_attn_thres": BUCKET, "causal": causal}
    model = build(arguments)
    loaded = load_model(save(tmp_path / "model", model, arguments))
    ids = torch.randint(0, 50, (3, length))
    with torch.no_grad():
        expected, found = model(ids), loaded.model(ids)["logits"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("length", [1, 5, BUCKET, 6 * BUCKET + 3])
@pytest.mark.parametrize(
    "options",
    [
        {"use_full_attn": True},
        {"full_attn_thres": 8 * BUCKET},
        {"use_full_attn": True, "causal": False},
        {"use_full_attn": True, "num_mem_kv": 3},
        {"use_full_attn": True, "absolute_position_emb": False},
    ],
    ids=str,
)
def test_full_attention_at_every_length(
    tmp_path: Path, options: Mapping[str, object], length: int
) -> None:
    arguments = {**BASE, **options}
    model = build(arguments)
    loaded = load_model(save(tmp_path / "model", model, arguments))
    assert not loaded.rotations
    ids = torch.randint(0, 50, (3, length))
    mask = torch.arange(length) < torch.tensor([[length], [length], [1 + length // 2]])
    with torch.no_grad():
        expected, found = model(ids, input_mask=mask), loaded.model(ids, mask)["logits"]
    difference = (found - expected)[mask].abs().max()
    assert difference <= 1e-4 * expected[mask].abs().max()


@pytest.mark.parametrize(
    ("options", "in_place"),
    [
        ({"absolute_position_emb": False}, False),
        ({"use_full_attn": True}, True),
        ({"n_local_attn_heads": 1}, True),
    ],
    ids=str,
)
def test_steps_with_a_cache_give_what_the_whole_sequence_gives(
    tmp_path: Path, options: Mapping[str, object], in_place: bool
) -> None:
    """Up to one chunk nothing is hashed."""
    arguments = {**BASE, **options}
    model = load_model(save(tmp_path / "model", build(arguments), arguments)).model
    assert isinstance(model, TextGeneration)
    ids = torch.randint(0, 50, (2, BUCKET))
    prompt = torch.tensor([3, 3])
    with torch.no_grad():
        expected = model(ids)["logits"]
        outputs = Prefill(model)(ids[:, :3])
        for length in range(3, BUCKET):
            past = []
            for tensor in cache_tensors(model.config):
                present = outputs[tensor.present]
                held = tensor.zeros(2, BUCKET, present.dtype)
                held[tuple(slice(size) for size in present.shape)] = present
                past.append(held)
            found = outputs["logits"][:, 0]
            torch.testing.assert_close(found, expected[:, length - 1], rtol=0, atol=1e-4)
            at = torch.full((2,), length)
            outputs = DecodeStep(model, in_place=in_place)(
                ids[:, length : length + 1], at, prompt, *past
            )
    torch.testing.assert_close(outputs["logits"][:, 0], expected[:, -1], rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [0.1, 0.01])
def test_small_queries_have_the_scores_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: float
) -> None:
    """Our norm of the keys adds 1e-6 to the mean square, which the package does not."""
    arguments = {**BASE, "causal": False, "dim_head": 64}
    assert difference(tmp_path / "model", monkeypatch, arguments, 8, queries=size) <= 1e-4
