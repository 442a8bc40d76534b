"""Models with weights of 8 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reformer_models.errors import ConfigError
from reformer_models.layers.quantised import Int8Embedding, Int8Linear
from reformer_models.loading import LoadedModel, load_model
from reformer_models.quantisation import GROUPS

from ..tools.model_fixtures import Fixtures
from .configs import WIDE

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
    return {n: m for n, m in modules if isinstance(m, (Int8Linear, Int8Embedding))}


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


def test_the_reference_does_not_round_its_input(fixtures: Fixtures) -> None:
    small = load_model(checkpoint(fixtures), weights="int8")
    exact = small.in_fp32()
    assert 0 < error(outputs(small, 16), outputs(exact, 16)) < 0.1
    assert all(m.rounds_input for m in quantised(small).values() if isinstance(m, Int8Linear))


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


def test_weights_that_do_not_fit_are_kept(fixtures: Fixtures) -> None:
    small = load_model(fixtures.checkpoint("text-generation"), weights="int8")
    assert not [m for m in quantised(small).values() if isinstance(m, Int8Linear)]
    assert "attention_output, feed_forward, head" in small.notes[-1]
    assert "keep their type" in small.notes[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "int3"}, "unknown type of weights 'int3': choose int8"),
        ({"weights": "int8", "keep": ["norms"]}, "there are no weights 'norms' to keep: choose of"),
    ],
)
def test_what_is_refused(options: dict[str, Any], message: str, fixtures: Fixtures) -> None:
    with pytest.raises(ConfigError, match=message):
        load_model(checkpoint(fixtures), **options)
