"""Checkpoints of other libraries and of Transformers, written in our layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from reformer_export import import_checkpoint
from reformer_export.cli.main import main
from reformer_export.errors import UsageError
from reformer_models.errors import CheckpointError
from reformer_models.loading import LoadedModel, load_model

from ..cli.invocation import document, error_line
from ..models.reformers import SMALL
from ..tools.lucidrains import BASE, build, save
from ..tools.model_fixtures import Fixtures


def outputs(loaded: LoadedModel) -> torch.Tensor:
    ids = torch.arange(80).reshape(2, 40) % loaded.config.vocab_size
    with torch.no_grad():
        (found,) = loaded.model(ids).values()
    return found


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return save(tmp_path / "original", build(BASE), BASE)


def test_a_model_beyond_transformers_keeps_its_numbers(original: Path, tmp_path: Path) -> None:
    (original / "tokenizer_config.json").write_text("{}")
    imported = import_checkpoint(original, tmp_path / "out")
    assert (imported.library, imported.task) == ("lucidrains", "text-generation")
    assert imported.beyond_transformers == ("attention_output_bias", "stream_merge")
    files = {path.name for path in imported.path.iterdir()}
    assert files == {"config.json", "model.safetensors", "tokenizer_config.json"}
    after = load_model(imported.path)
    assert after.checkpoint.written_by.name == "huggingface"
    assert torch.equal(outputs(after), outputs(load_model(original)))


def test_settings_that_a_checkpoint_leaves_open_stay_open(
    fixtures: Fixtures, tmp_path: Path
) -> None:
    config: dict[str, Any] = SMALL | {"num_buckets": None, "hash_seed": None}
    original = fixtures.checkpoint("text-generation", config)
    imported = import_checkpoint(original, tmp_path / "out")
    assert not any("pinned" in note for note in imported.notes)
    written = json.loads((imported.path / "config.json").read_text())
    assert written["hash_seed"] is None
    assert "num_buckets" not in written
    assert torch.equal(outputs(load_model(imported.path)), outputs(load_model(original)))


def test_transformers_reads_what_it_can_compute(fixtures: Fixtures, tmp_path: Path) -> None:
    from transformers import ReformerModelWithLMHead

    original = fixtures.checkpoint("text-generation")
    imported = import_checkpoint(original, tmp_path / "out")
    assert imported.beyond_transformers == ()
    ids = torch.arange(40)[None] % 20
    with torch.no_grad():
        before, after = (
            ReformerModelWithLMHead.from_pretrained(path).eval()(ids).logits
            for path in (original, imported.path)
        )
    assert torch.equal(before, after)


def test_a_failure_leaves_no_folder(original: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    weights = original / "pytorch_model.bin"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin is cut short"):
        import_checkpoint(original, out)
    assert not out.parent.exists()
    out.mkdir(parents=True)
    with pytest.raises(UsageError, match="exists: choose another folder"):
        import_checkpoint(original, out)
    assert list(out.iterdir()) == []


def test_the_verb(original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["import", "-m", str(original), str(tmp_path / "out")]
    assert main([*arguments, "--source", "lucidrains"]) == 0
    printed = capsys.readouterr()
    assert "note: reformer_pytorch.json was found" in printed.err
    rows = dict(line.split(maxsplit=1) for line in printed.out.splitlines())
    assert rows["source"] == "lucidrains"
    assert rows["model"] == "ReformerModelWithLMHead, text-generation"
    assert rows["transformers"].startswith("does not read it: config.json has attention_output")
    assert main(arguments) == 2
    assert "exists" in error_line(capsys)
    found = document(capsys, "import", "-m", original, tmp_path / "other")
    assert found["library"] == "lucidrains"
