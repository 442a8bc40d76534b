"""`model.pte` equals the model at every length and in batches of every size."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reformer_export import to_executorch, verify_artifact
from reformer_export.artifact import Artifact
from reformer_export.errors import (
    ExportError,
    MissingDependencyError,
    RuntimeUnavailableError,
    UsageError,
)
from reformer_export.exporters.torch import executorch, modules
from reformer_export.exporters.torch.executorch_operators import DECOMPOSITIONS
from reformer_export.host.optional import installed
from reformer_export.runtimes import ShowingRunner, open_runner
from reformer_export.source import load_source
from reformer_export.verification.matrix import verify_matrix

from ..tools.model_fixtures import CONFIGS, TINY, Fixtures, feeds, worst_error
from ..tools.threads import assert_threads_share

needs_executorch = pytest.mark.skipif(
    not installed("executorch"), reason="executorch is not installed: make test-executorch"
)
# One token, around each chunk length (4 and 6), around their multiple 12, some chunks, the longest.
LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 24, 25, 29, 60, 119, 120)
Make = Callable[..., Artifact]


@pytest.fixture(scope="module")
def make(fixtures: Fixtures, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Exports model.pte of a task, once for each set of options, without verification."""
    folder = tmp_path_factory.mktemp("executorch")

    @cache
    def made(task: str = "fill-mask", **options: Any) -> Artifact:
        out = folder / f"artifact-{len(list(folder.iterdir()))}"
        return to_executorch(fixtures.checkpoint(task), out, verify=False, task=task, **options)

    return made


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "fp16"}, "cannot export fp16: this format has fp32 only; choose fp32"),
        ({"weights": "int8"}, "--weights int8 is not for to-executorch"),
        ({"max_batch": 0}, "--max-batch 0: a batch has at least one sequence"),
        ({"task": "text-generation-with-past"}, "give text-generation"),
    ],
)
def test_options_that_it_refuses(
    fixtures: Fixtures, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        to_executorch(fixtures.checkpoint(), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(installed("executorch"), reason="executorch is installed")
def test_without_executorch(fixtures: Fixtures, tmp_path: Path) -> None:
    for verify in (True, False):
        with pytest.raises(MissingDependencyError, match="not installed: pip install executorch"):
            to_executorch(fixtures.checkpoint(), tmp_path / "out", verify=verify)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("task", ["text-generation", "fill-mask"])
def test_the_padding(fixtures: Fixtures, task: str) -> None:
    """The module that is exported equals the model, in torch."""
    loaded = load_source(fixtures.checkpoint(task), task=task)
    bounded, flat = modules.Bounded(loaded, LENGTHS[-1]), modules.Flat(loaded.model)
    for length in LENGTHS:
        inputs = feeds(length, 3, vocab_size=loaded.config.vocab_size, seed=length)
        inputs["attention_mask"][2] = 0
        given = [torch.from_numpy(array) for array in inputs.values()]
        with torch.inference_mode():
            torch.testing.assert_close(bounded(*given), flat(*given))


def test_operators_in_another_form() -> None:
    values = torch.randint(-3, 9, (2, 50), generator=torch.Generator().manual_seed(0))
    aten, forms = torch.ops.aten, DECOMPOSITIONS
    for descending in (False, True):
        found = forms[aten.sort.stable](values, stable=True, dim=1, descending=descending)
        expected = torch.sort(values, dim=1, stable=True, descending=descending)
        torch.testing.assert_close(found, tuple(expected))
    divisor = torch.tensor([4, -4]).repeat(25)
    torch.testing.assert_close(forms[aten.remainder.Scalar](values, 4), values % 4)
    torch.testing.assert_close(forms[aten.remainder.Tensor](values, divisor), values % divisor)


@needs_executorch
@pytest.mark.slow
@pytest.mark.parametrize("task", CONFIGS)
def test_the_model_at_every_length(fixtures: Fixtures, make: Make, task: str) -> None:
    runner = open_runner(make(task))
    assert isinstance(runner, ShowingRunner)
    loaded = load_source(fixtures.checkpoint(task), task=task)
    for length in LENGTHS:
        for batch in (1, 4):
            inputs = feeds(length, batch, vocab_size=loaded.config.vocab_size, seed=length)
            if batch > 1:  # one row starts with padding, one is padding only
                inputs["attention_mask"][1, : length // 2] = 0
                inputs["attention_mask"][2] = 0
            with torch.inference_mode():
                outputs = loaded.model(*(torch.from_numpy(a) for a in inputs.values()))
            expected = {name: tensor.numpy() for name, tensor in outputs.items()}
            assert worst_error(runner.run(inputs), expected) < 1e-5
    runner.close()


@needs_executorch
@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "options"),
    [
        (TINY, {"logits": "last", "max_batch": 3}),
        (TINY | {"attn_layers": ["local", "local"]}, {}),
        (TINY | {"attn_layers": ["lsh", "lsh"], "num_hashes": 3}, {"max_length": 50}),
    ],
)
def test_it_is_verified(
    fixtures: Fixtures, tmp_path: Path, config: dict[str, Any], options: dict[str, Any]
) -> None:
    artifact = to_executorch(
        fixtures.checkpoint(config=config), tmp_path / "out", task="text-generation", **options
    )
    record = artifact.manifest.formats["executorch"]
    assert (record.file, record.ops) == ("model.pte", "portable")
    assert set(record.tools) == {"reformer-export", "torch", "executorch"}
    assert record.details["max_batch"] == options.get("max_batch", 1)
    assert record.details["memory_bytes"] > 0
    assert record.parity is not None
    assert record.parity["passed"] is True
    report = verify_artifact(artifact.path, lengths=[1, 29, 50])
    assert report.passed, report.first_miss


@needs_executorch
@pytest.mark.slow
def test_it_is_in_the_matrix(make: Make) -> None:
    report = verify_matrix([make().path], lengths=[13], batches=[2])
    (entry,) = (c for c in report.contenders if c.name.startswith("executorch"))
    assert (entry.name, entry.reason) == ("executorch portable", None)
    assert report.passed


@needs_executorch
@pytest.mark.slow
def test_requests_that_it_refuses(make: Make) -> None:
    open_runner(make()).close()
    with pytest.raises(UsageError, match="our kernels are for ONNX Runtime and torch"):
        open_runner(make(), ops="native")
    with pytest.raises(UsageError, match="give the same number to all models"):
        open_runner(make(), threads=77)


@needs_executorch
@pytest.mark.slow
def test_a_program_that_is_too_large(
    fixtures: Fixtures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executorch, "total", lambda: 10_000)
    with pytest.raises(ExportError, match=r"would need .* for --max-batch 1 and --max-length 20"):
        to_executorch(
            fixtures.checkpoint(config=TINY), tmp_path / "out", max_batch=1, max_length=20
        )
    assert not (tmp_path / "out").exists()


@needs_executorch
@pytest.mark.slow
def test_a_damaged_file(make: Make, tmp_path: Path) -> None:
    path = make().path / "model.pte"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:1000])
        with pytest.raises(RuntimeUnavailableError, match=r"cannot load .*model\.pte"):
            open_runner(Artifact(make().path, make().manifest))
    finally:
        path.write_bytes(whole)


@needs_executorch
@pytest.mark.slow
def test_threads_share_a_runner(make: Make) -> None:
    cases = [feeds(length) for length in (1, 5, 13, 64)]
    assert_threads_share(open_runner(make()), cases)


PROGRAM = """
import sys
sys.meta_path.insert(0, type("No", (), {"find_spec": staticmethod(
    lambda name, *rest: sys.exit(f"imported {name}") if name.startswith("reformer") else None)}))
import numpy, torch
from executorch.runtime import Runtime
method = Runtime.get().load_program(sys.argv[1]).load_method("forward")
ids = torch.arange(13)[None] % 40
logits = method.execute((ids, torch.ones_like(ids)))[0]
numpy.save(sys.argv[2], logits.numpy())
"""


@needs_executorch
@pytest.mark.slow
def test_it_runs_without_this_package(make: Make, tmp_path: Path) -> None:
    """As docs/runtimes.md shows it."""
    out = tmp_path / "logits.npy"
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(make().path / "model.pte"), str(out)], check=True
    )
    expected = open_runner(make()).run({"input_ids": np.arange(13)[None] % 40})["logits"]
    np.testing.assert_allclose(np.load(out), expected, rtol=0, atol=1e-6)
