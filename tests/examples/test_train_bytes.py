"""Training that was stopped and killed continues with the results of an undisturbed run."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.numpy import load_file
from train_bytes import CONFIG, Recipe, main, spread_positions

from reformer_models.loading import load_model
from reformer_models.training.creating import create_model

ROOT = Path(__file__).resolve().parents[2]
TEXT = ROOT / "LICENSE"
STEPS = 100

# Dropout and rotations draw from the global generator, the pieces of the text from another one.
TINY = replace(
    CONFIG,
    attn_layers=("local", "lsh"),
    hidden_size=16,
    num_attention_heads=2,
    attention_head_size=8,
    feed_forward_size=16,
    local_attn_chunk_length=8,
    lsh_attn_chunk_length=8,
    hash_seed=None,
    axial_pos_shape=(4, 16),
    axial_pos_embds_dim=(4, 12),
    max_position_embeddings=64,
    hidden_dropout_prob=0.1,
    local_attention_probs_dropout_prob=0.1,
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "config.json"
    path.write_text(json.dumps(TINY.to_hf()))
    return path


def words(config: Path, out: Path, *more: object) -> list[str]:
    given = [
        "--out", out, "--config", config, "--data", TEXT, "--steps", STEPS, "--held-out", 1000,
        "--save-every", 5, "--evaluate-every", 50, "--json", out.with_suffix(".json"), *more,
    ]  # fmt: skip
    return [str(word) for word in given]


def invoke(config: Path, out: Path, *more: object) -> Result:
    return CliRunner().invoke(main, words(config, out, *more))


def interrupt(config: Path, out: Path, number: signal.Signals) -> int:
    """Start or continue the run, send a signal after its next save, and return the exit code."""
    state = out / "state.pt"
    before = state.stat().st_mtime_ns if state.exists() else 0
    command = [sys.executable, str(ROOT / "examples/train_bytes.py"), *words(config, out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not state.exists() or state.stat().st_mtime_ns == before:
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(number)
    process.communicate()
    return process.returncode


def done(out: Path) -> int:
    return len(torch.load(out / "state.pt", weights_only=True)["losses"])


@pytest.mark.slow
def test_stopped_and_killed_it_ends_where_an_undisturbed_run_does(
    config: Path, tmp_path: Path
) -> None:
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    assert interrupt(config, broken, signal.SIGTERM) == 128 + signal.SIGTERM
    stopped = done(broken)
    assert interrupt(config, broken, signal.SIGKILL) == -signal.SIGKILL
    assert stopped <= done(broken) < STEPS
    assert not (broken / "model.safetensors").exists()

    for out in (broken, whole):
        result = invoke(config, out)
        assert result.exit_code == 0, result.output
    ours, theirs = (json.loads(out.with_suffix(".json").read_text()) for out in (broken, whole))
    assert len(ours["losses"]) == STEPS
    for name in ("losses", "held_out", "excerpt"):
        assert ours[name] == theirs[name]
    weights = [(out / "model.safetensors").read_bytes() for out in (broken, whole)]
    assert weights[0] == weights[1]
    assert ours["losses"][-1] < ours["losses"][0]
    card = (whole / "README.md").read_text()
    assert f"{theirs['held_out'][-1][1]:.4f}" in card
    assert "LICENSE" in card
    names = {"README.md", "config.json", "held_out.txt", "model.safetensors", "state.pt"}
    assert {path.name for path in whole.iterdir()} == names


def test_what_is_saved_hashes_as_was_evaluated(config: Path, tmp_path: Path) -> None:
    """Training uses new rotations at every step; the saved model uses those of one seed."""
    result = invoke(config, tmp_path / "model", "--steps", 2)
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "model/config.json").read_text())
    assert (written["hash_seed"], written["num_buckets"]) == (0, 16)
    assert load_model(tmp_path / "model").notes == ()


def test_another_seed_draws_other_weights_and_other_pieces(config: Path, tmp_path: Path) -> None:
    losses = []
    for seed in (0, 1):
        out = tmp_path / str(seed)
        assert invoke(config, out, "--steps", 2, "--seed", seed).exit_code == 0
        losses.append(json.loads(out.with_suffix(".json").read_text())["losses"])
        assert load_file(out / "model.safetensors")
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("changed", "named"),
    [(("--steps", 3), "steps 2, not 3"), (("--seed", 5), "seed 0, not 5"), (("--fp32",), "bf16")],
)
def test_a_run_goes_on_as_it_began(
    config: Path, tmp_path: Path, changed: tuple[object, ...], named: str
) -> None:
    out = tmp_path / "run"
    assert invoke(config, out, "--steps", 2).exit_code == 0
    before = (out / "state.pt").read_bytes()
    result = invoke(config, out, "--steps", 2, *changed)
    assert result.exit_code == 2
    assert re.search(rf"error: the run in \S+ was begun with {named}", result.output), result.output
    assert (out / "state.pt").read_bytes() == before


def test_errors_are_a_line(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "state.pt").write_bytes(b"no state")
    short = tmp_path / "short.txt"
    short.write_bytes(b"x" * 100)
    cases = [
        (invoke(config, out), 2, "no saved run"),
        (invoke(config, out, "--data", "nowhere.txt"), 1, "cannot read nowhere.txt"),
        (invoke(config, out, "--held-out", 8000), 1, "--held-out"),
        (invoke(TEXT, out), 2, "not a Reformer's configuration"),
        (invoke(config, out, "--data", short, "--held-out", 50), 1, "50 bytes are left"),
    ]
    other = tmp_path / "other.json"
    other.write_text(json.dumps(replace(TINY, vocab_size=320).to_hf()))
    cases.append((invoke(other, out), 2, "vocab_size 256, found 320"))
    for result, code, message in cases:
        assert result.exit_code == code, result.output
        assert message in result.output
        assert len(result.output.splitlines()) == 1


def test_the_rate_warms_up_and_falls() -> None:
    recipe = Recipe(steps=1000, batch=1, learning_rate=2.0, seed=0, bf16=False, held_out=1)
    rates = np.array([recipe.rate(step) for step in range(1000)])
    assert rates.argmax() in range(45, 55)
    assert rates[0] < 0.1
    assert rates[-1] == pytest.approx(0.04, rel=1e-3)
    assert (np.diff(rates[50:]) < 0).all()


def test_positions_begin_so_that_a_distance_is_one_rotation() -> None:
    """The product of two positions on an axis depends only on their circular distance."""
    model = create_model(CONFIG)
    spread_positions(model)
    embeddings = model.reformer.embeddings.position_embeddings
    rows = embeddings.weights[1].detach().view(64, -1)[:, :64].double()
    products = rows @ rows.T
    for distance in range(64):
        along = torch.stack([products[i, (i + distance) % 64] for i in range(64)])
        torch.testing.assert_close(along, along[:1].expand(64), atol=1e-5, rtol=0)
