"""Models with weights of fewer bits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from reformer_models.errors import ConfigError
from reformer_models.layers.quantised import (
    Int4Linear,
    Int8Embedding,
    Int8Linear,
    QuantisedLinear,
)
from reformer_models.loading import LoadedModel, load_model
from reformer_models.quantisation import GROUPS

from ..tools.model_fixtures import Fixtures
from .configs import WIDE
from .saved_models import SAFETENSORS

MODEL = {**WIDE, "vocab_size": 48}
"""All its sizes are multiples of 16."""

TASKS = {
    "text-generation": {},
    "feature-extraction": {},
    "fill-mask": {"is_decoder": False},
    "text-classification": {"is_decoder": False, "num_labels": 3},
    "question-answering": {"is_decoder": False, "num_labels": 2},
}


def checkpoint(fixtures: Fixtures, task: str = "text-generation", **changes: Any) -> Path:
    return fixtures.checkpoint(task, {**MODEL, **TASKS[task], **changes})


def quantised(loaded: LoadedModel) -> dict[str, torch.nn.Module]:
    modules = loaded.model.named_modules()
    return {n: m for n, m in modules if isinstance(m, (QuantisedLinear, Int8Embedding))}


def outputs(loaded: LoadedModel, length: int = 70) -> dict[str, torch.Tensor]:
    ids = torch.randint(loaded.config.vocab_size, (2, length), generator=torch.manual_seed(length))
    with torch.inference_mode():
        found: dict[str, torch.Tensor] = loaded.model(ids)
    return found


def error(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    """The root mean square of the difference, relative to that of the outputs."""
    return max(
        float((found[name].float() - w.float()).norm() / w.float().norm())
        for name, w in wanted.items()
    )


@pytest.mark.parametrize("task", TASKS)
def test_every_task(task: str, fixtures: Fixtures) -> None:
    source = checkpoint(fixtures, task)
    full = load_model(source, task=task)
    small = load_model(source, task=task, weights="int8")
    assert small.rounds
    assert not full.rounds
    # One chunk is not hashed, so no decision can flip.
    assert 0 < error(outputs(small, 16), outputs(full, 16)) < 0.1
    linear = [m for m in quantised(small).values() if isinstance(m, Int8Linear)]
    projections = sum(3 if kind == "local" else 2 for kind in full.config.attn_layers)
    has_head = task in ("text-generation", "fill-mask")
    assert len(linear) == projections + 3 * len(full.config.attn_layers) + has_head


def test_4_bits(fixtures: Fixtures) -> None:
    """The same layers as with 8 bits, and the same embeddings."""
    source = checkpoint(fixtures, feed_forward_size=64)
    small, other = (load_model(source, weights=weights) for weights in ("int4", "int8"))
    assert small.rounds
    assert small.notes == other.notes
    assert quantised(small).keys() == quantised(other).keys()
    kinds = {type(module) for module in quantised(small).values()}
    assert kinds == {Int4Linear, Int8Embedding}
    full = outputs(load_model(source), 16)
    assert error(outputs(other, 16), full) < error(outputs(small, 16), full) < 0.5


@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_the_reference_does_not_round_its_input(weights: str, fixtures: Fixtures) -> None:
    small = load_model(checkpoint(fixtures), weights=weights)
    exact = small.in_fp32()
    assert 0 < error(outputs(small, 16), outputs(exact, 16)) < 0.1
    assert all(m.rounds_input for m in quantised(small).values() if isinstance(m, QuantisedLinear))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype, fixtures: Fixtures) -> None:
    source = checkpoint(fixtures)
    small = load_model(source, dtype=dtype, weights="int8")
    for module in quantised(small).values():
        assert module.scale.dtype == torch.float32
        assert module.weight.dtype in (torch.uint8, torch.int8)
    found = outputs(small, 16)
    assert found["logits"].dtype == dtype
    assert error(found, outputs(load_model(source), 16)) < 0.1


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_is_kept(group: str, fixtures: Fixtures) -> None:
    source = checkpoint(fixtures)
    every = quantised(load_model(source, weights="int8"))
    rest = quantised(load_model(source, weights="int8", keep=[group]))
    left_out = every.keys() - rest.keys()
    assert rest.keys() <= every.keys()
    places = {
        "query_key": ".query_key",
        "query": ".query",
        "key": ".key",
        "value": ".value",
        "attention_output": ".attention.output.dense",
        "feed_forward": ".feed_forward.",
        "head": "lm_head.decoder",
        "embeddings": "embeddings.",
    }
    assert left_out
    assert all(places[group] in name for name in left_out)
    assert not any(
        places[group] in name and not name.endswith("_key") for name in rest
    ) or group in ("query", "key")


@pytest.mark.parametrize(("weights", "needed"), [("int8", "4"), ("int4", "32")])
def test_weights_that_do_not_fit_are_kept(weights: str, needed: str, fixtures: Fixtures) -> None:
    small = load_model(fixtures.checkpoint("text-generation"), weights=weights)
    assert not [m for m in quantised(small).values() if isinstance(m, QuantisedLinear)]
    assert "attention_output, feed_forward, head" in small.notes[-1]
    assert f"needs inputs in a multiple of {needed} and" in small.notes[-1]


def test_fp16_is_the_checkpoint_rounded(fixtures: Fixtures) -> None:
    source = checkpoint(fixtures)
    half = load_model(source, weights="fp16")
    rounded = load_model(source)
    with torch.no_grad():
        for parameter in rounded.model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(parameter.half())
    assert not half.rounds
    found, wanted = outputs(half), outputs(rounded)
    assert torch.equal(found["logits"], wanted["logits"])
    assert 0 < error(found, outputs(load_model(source))) < 0.01


def test_fp16_takes_every_size_and_keeps_groups(fixtures: Fixtures) -> None:
    source = fixtures.checkpoint("text-generation")
    full, half = load_model(source), load_model(source, weights="fp16", keep=["head", "embeddings"])
    assert half.notes == full.notes
    for (name, found), wanted in zip(
        half.model.named_parameters(), full.model.parameters(), strict=True
    ):
        kept = found.dim() == 1 or "embeddings" in name or "lm_head" in name
        assert torch.equal(found, wanted) == kept, name


def test_a_model_that_stores_fp16_computes_the_same(fixtures: Fixtures) -> None:
    half = load_model(checkpoint(fixtures), weights="fp16", keep=["value"])
    stored = half.stored_as_fp16()
    assert stored.dtype == torch.float32
    assert torch.equal(outputs(stored)["logits"], outputs(half)["logits"])
    types = {name: tensor.dtype for name, tensor in stored.model.state_dict().items()}
    matrices = {name for name, tensor in half.model.named_parameters() if tensor.dim() > 1}
    assert sum(dtype == torch.float16 for dtype in types.values()) == len(matrices) - 4
    assert all(types[name] == torch.float32 for name in matrices if ".value." in name)


def test_a_weight_that_fp16_does_not_have(fixtures: Fixtures, tmp_path: Path) -> None:
    source = checkpoint(fixtures)
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    name = "reformer.encoder.layers.1.feed_forward.dense.dense.weight"
    path = tmp_path / SAFETENSORS
    save_file({**load_file(path), name: torch.full((48, 32), 7e4)}, path, {"format": "pt"})
    with pytest.raises(ConfigError, match="a weight of feed_forward is 70000, and fp16 ends at"):
        load_model(tmp_path, weights="fp16")
    load_model(tmp_path, weights="fp16", keep=["feed_forward"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "int3"}, "unknown type of weights 'int3': choose int8 or int4 or fp16"),
        (
            {"weights": "int8", "keep": ["norms"]},
            "there are no weights 'norms' to keep: choose one of",
        ),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str, fixtures: Fixtures) -> None:
    with pytest.raises(ConfigError, match=message):
        load_model(checkpoint(fixtures), **options)
