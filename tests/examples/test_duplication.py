"""The duplication task, small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from duplication import FULL_SIZE, QUICK, Recipe, duplicated, main


def test_a_sequence_is_zero_and_a_word_twice() -> None:
    ids = duplicated(QUICK, 3, torch.Generator().manual_seed(0))
    half = QUICK.length // 2
    assert ids.shape == (3, QUICK.length)
    assert torch.equal(ids[:, :half], ids[:, half:])
    assert (ids[:, 0] == 0).all()
    assert ids[:, 1:half].min() >= 1
    assert ids[:, 1:half].max() <= QUICK.symbols
    assert not torch.equal(ids[0], ids[1])


@pytest.mark.parametrize("recipe", [FULL_SIZE, QUICK])
def test_lsh_attention_leaves_most_keys_out(recipe: Recipe) -> None:
    config = recipe.config("1")
    seen = config.lsh_attn_chunk_length * (1 + config.lsh_num_chunks_before)
    assert 4 * seen <= recipe.length
    assert recipe.config("full").lsh_attn_chunk_length == recipe.length


@pytest.mark.slow
def test_models_learn_and_more_rounds_help(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    done = CliRunner().invoke(main, ["--quick", "--json", str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    accuracy = json.loads(out.read_text())["accuracy"]
    full, lsh = accuracy["full"], accuracy["2"]
    assert full["full"] > 99
    assert min(lsh["2"], lsh["4"], lsh["8"]) > 99  # as many rounds as it was trained with, or more
    assert full["1"] < full["8"]  # more rounds help
    assert lsh["1"] < lsh["8"]
    assert "LSH-2" in done.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--length", "100"], "multiple"),
        (["--train", "half"], "found 'half'"),
        (["--eval", "0"], "found '0'"),
    ],
)
def test_wrong_arguments_are_refused(words: list[str], expected: str) -> None:
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert expected in done.output
