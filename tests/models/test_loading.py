"""Loads models for a task from a folder: valid combinations, and the errors for the others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from reformer_models.config import ReformerConfig
from reformer_models.errors import CheckpointError, ConfigError
from reformer_models.layers import heads
from reformer_models.layers.hashing import draw_rotations
from reformer_models.loading import load_model
from reformer_models.tasks import TASKS

from .parity import assert_equal_outputs, run_ours
from .reformers import SMALL, save_small, theirs, token_ids
from .saved_models import SAFETENSORS, assert_one_line, edit_config

CLASSES = {
    "feature-extraction": heads.FeatureExtraction,
    "text-generation": heads.TextGeneration,
    "fill-mask": heads.FillMask,
    "text-classification": heads.TextClassification,
    "question-answering": heads.QuestionAnswering,
}
# The tensor that the error names if the checkpoint lacks the head of the task.
HEADS = {
    "text-generation": "lm_head.bias",
    "fill-mask": "lm_head.bias",
    "text-classification": "classifier.dense.bias",
    "question-answering": "qa_outputs.bias",
}
LANGUAGE_MODELS = {"text-generation", "fill-mask"}


# Tasks


@pytest.mark.parametrize("task", TASKS)
def test_auto_is_the_task_it_was_saved_for(task: str, tmp_path: Path) -> None:
    model = save_small(tmp_path, task)
    loaded = load_model(tmp_path)
    assert loaded.task == task
    assert type(loaded.model) is CLASSES[task]
    assert loaded.checkpoint.architecture == TASKS[task]
    assert not loaded.model.training
    weights = loaded.model.state_dict()
    expected = {
        name if name.startswith(("reformer.", "lm_", "cl", "qa")) else f"reformer.{name}": tensor
        for name, tensor in model.state_dict().items()
    }
    assert weights.keys() == expected.keys()
    for name in weights.keys() - {"lm_head.bias"}:
        assert torch.equal(weights[name], expected[name])


@pytest.mark.parametrize("saved_for", TASKS)
@pytest.mark.parametrize("task", TASKS)
def test_every_task_from_every_architecture(saved_for: str, task: str, tmp_path: Path) -> None:
    model = save_small(tmp_path, saved_for)
    edit_config(tmp_path, is_decoder=task == "text-generation")
    if task == "feature-extraction" or task == saved_for or {task, saved_for} == LANGUAGE_MODELS:
        loaded = load_model(tmp_path, task=task)
        assert loaded.task == task
        assert type(loaded.model) is CLASSES[task]
        base = getattr(model, "reformer", model).state_dict()
        for name, tensor in loaded.model.reformer.state_dict().items():
            assert torch.equal(tensor, base[name])
        return
    with pytest.raises(CheckpointError) as caught:
        load_model(tmp_path, task=task)
    assert_one_line(caught.value, tmp_path, f"lacks {HEADS[task]}", task, TASKS[saved_for])


def test_an_unknown_task(tmp_path: Path) -> None:
    save_small(tmp_path)
    with pytest.raises(ConfigError, match=r"unknown task 'summarization': choose auto or one of"):
        load_model(tmp_path, task="summarization")


def test_an_architecture_that_says_nothing(tmp_path: Path) -> None:
    save_small(tmp_path, "fill-mask")
    edit_config(tmp_path, architectures=["MyReformer"])
    with pytest.raises(ConfigError, match=r"saved as 'MyReformer'.*choose one of .*fill-mask"):
        load_model(tmp_path)
    assert load_model(tmp_path, task="fill-mask").task == "fill-mask"


@pytest.mark.parametrize(
    ("task", "changes", "remedy"),
    [
        ("text-generation", {"is_decoder": False}, "is_decoder false.*--task fill-mask"),
        ("fill-mask", {"is_decoder": True}, "is_decoder true.*--task text-generation"),
        ("text-generation", {"local_num_chunks_after": 1}, "local_num_chunks_after 1.*set it to 0"),
        ("text-generation", {"lsh_num_chunks_after": 2}, "lsh_num_chunks_after 2.*set it to 0"),
        ("question-answering", {"num_labels": 3}, "two labels"),
    ],
)
def test_a_config_that_does_not_fit_the_task(
    task: str, changes: dict[str, Any], remedy: str, tmp_path: Path
) -> None:
    save_small(tmp_path, task)
    edit_config(tmp_path, **{"id2label": None, "label2id": None, **changes})
    with pytest.raises(ConfigError, match=remedy) as caught:
        load_model(tmp_path)
    assert_one_line(caught.value, task)


def test_chunks_after_matter_only_to_layers_that_are_there(tmp_path: Path) -> None:
    save_small(tmp_path, "text-generation", attn_layers=["local"], lsh_num_chunks_after=1)
    assert load_model(tmp_path).task == "text-generation"


@pytest.mark.parametrize("labels", [1, 5])
def test_number_of_classes(labels: int, tmp_path: Path) -> None:
    model = save_small(tmp_path, "text-classification", num_labels=labels)
    loaded = load_model(tmp_path)
    assert_equal_outputs(model, loaded)
    assert loaded.model(token_ids(3, 7, 40))["logits"].shape == (3, labels)


# Hashing


def test_nothing_to_say_about_what_is_set(tmp_path: Path) -> None:
    save_small(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.notes == ()
    assert (loaded.config.num_buckets, loaded.config.hash_seed) == ((4, 6), 3)


def test_what_is_not_set_is_pinned_and_said(tmp_path: Path) -> None:
    save_small(tmp_path, num_buckets=None, hash_seed=None)
    loaded = load_model(tmp_path, sequence_length=24)
    assert (loaded.config.num_buckets, loaded.config.hash_seed) == ((8,), 0)
    buckets, seed = loaded.notes
    assert "num_buckets was not set: pinned to 8" in buckets
    assert "24 tokens" in buckets
    assert "hash_seed was not set: pinned to 0" in seed
    assert loaded.checkpoint.config.num_buckets is None  # as it is in the file


@pytest.mark.parametrize("length", [None, 120, 121, 10**9])
def test_the_longest_sequence_is_what_buckets_are_chosen_for(
    length: int | None, tmp_path: Path
) -> None:
    save_small(tmp_path, num_buckets=None)
    loaded = load_model(tmp_path, sequence_length=length)
    assert loaded.config.num_buckets == (4, 8)  # about twice 20 chunks
    assert "120 tokens" in loaded.notes[0]


def test_what_is_asked_for_takes_the_place(tmp_path: Path) -> None:
    save_small(tmp_path)
    loaded = load_model(tmp_path, num_buckets=[2, 4], hash_seed=9)
    assert (loaded.config.num_buckets, loaded.config.hash_seed) == ((2, 4), 9)
    buckets, seed = loaded.notes
    assert "num_buckets was 4×6: set to 2×4" in buckets
    assert "hash_seed was 3: set to 9" in seed
    model = theirs(**{**SMALL, "is_decoder": False, "num_buckets": [2, 4], "hash_seed": 9})
    assert_equal_outputs(model, loaded)


def test_an_impossible_length(tmp_path: Path) -> None:
    save_small(tmp_path, num_buckets=None)
    with pytest.raises(ConfigError, match=r"sequence_length must be an integer in 1\.\.120"):
        load_model(tmp_path, sequence_length=0)


def test_rotations_by_layer(tmp_path: Path) -> None:
    save_small(tmp_path)
    loaded = load_model(tmp_path)
    assert list(loaded.rotations) == [1, 3]
    expected = draw_rotations(loaded.config)
    for tensor in loaded.rotations.values():
        assert torch.equal(tensor, expected)


def test_no_hash_without_lsh_layers(tmp_path: Path) -> None:
    save_small(tmp_path, attn_layers=["local"], num_buckets=None, hash_seed=None)
    loaded = load_model(tmp_path)
    assert loaded.rotations == {}
    assert loaded.notes == ()
    with pytest.raises(ConfigError, match="hash_seed = 1 was asked for, but the model has no LSH"):
        load_model(tmp_path, hash_seed=1)


# Types and other topics


@pytest.mark.parametrize("saved", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.float16, torch.bfloat16])
def test_types(saved: torch.dtype, wanted: torch.dtype, tmp_path: Path) -> None:
    model = theirs(**SMALL).to(saved)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path, dtype=wanted)
    expected = model.state_dict()
    for name, tensor in loaded.model.reformer.state_dict().items():
        assert tensor.dtype == wanted
        assert torch.equal(tensor, expected[name].to(wanted))
    assert {tensor.dtype for tensor in loaded.rotations.values()} == {torch.float32}


def test_the_weights_are_a_copy(tmp_path: Path) -> None:
    """The checkpoint may be overwritten while the model is in use."""
    save_small(tmp_path)
    loaded = load_model(tmp_path)
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    path = tmp_path / SAFETENSORS
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"\xff" * size)
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_unknown_keys_can_be_put_up_with(tmp_path: Path) -> None:
    model = save_small(tmp_path)
    edit_config(tmp_path, rope_theta=1e4)
    with pytest.raises(ConfigError, match="rope_theta"):
        load_model(tmp_path)
    assert_equal_outputs(model, load_model(tmp_path, ignore_config_keys=["rope_theta"]))


def test_the_config_can_be_written_and_loaded_again(tmp_path: Path) -> None:
    """A pinned config is complete: loading it gives no notes, and the same outputs."""
    save_small(tmp_path, num_buckets=None, hash_seed=None)
    first = load_model(tmp_path, sequence_length=100)
    (tmp_path / "config.json").write_text(json.dumps(first.config.to_hf()))
    second = load_model(tmp_path)
    assert second.notes == ()
    assert second.config == first.config == ReformerConfig.from_hf(first.config.to_hf())
    ids = token_ids(2, 50, 40)
    (expected, _), (found, _) = run_ours(first, ids, None), run_ours(second, ids, None)
    assert torch.equal(found["last_hidden_state"], expected["last_hidden_state"])


def test_transformers_is_not_imported(tmp_path: Path) -> None:
    save_small(tmp_path, "text-generation")
    code = (
        "import sys, torch\n"
        "from reformer_models.loading import load_model\n"
        f"model = load_model({str(tmp_path)!r}).in_fp32().model\n"
        "model(torch.zeros((1, 17), dtype=torch.int64))\n"
        "print(*sorted(sys.modules.keys() & {'transformers', 'onnx', 'onnxruntime', 'onnxscript'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.split()
