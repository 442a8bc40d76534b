"""`model.pt` equals the model at every length, in Python and in other users of TorchScript."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reformer_export import to_torchscript
from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import write_manifest
from reformer_export.errors import InferenceError, InputError, RuntimeUnavailableError, UsageError
from reformer_export.runtimes import Runner, ShowingRunner, open_runner
from reformer_export.source import load_source
from reformer_export.verification.parity import verify_against
from reformer_models.loading import LoadedModel
from reformer_ops import native_status
from reformer_ops.registry import LINEAR

from ..models.configs import WIDE
from ..tools.model_fixtures import CONFIGS, TINY, Fixtures, feeds, outputs_of, worst_error

# One token, around each chunk length (4 and 6), around their multiple 12, some chunks, the longest.
LENGTHS = (1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 24, 25, 29, 60, 119, 120)
OURS = {"reformer::chunk_attention", "reformer::lsh_bucket", "reformer::sorted_chunk_attention"}
Make = Callable[..., Artifact]


@pytest.fixture(scope="module")
def make(fixtures: Fixtures, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Exports model.pt of a task, once for each set of options, without verification."""
    folder = tmp_path_factory.mktemp("torchscript")

    @cache
    def made(task: str = "text-generation", **options: Any) -> Artifact:
        out = Path(tempfile.mkdtemp(dir=folder)) / "artifact"
        return to_torchscript(fixtures.checkpoint(task), out, verify=False, task=task, **options)

    return made


@pytest.fixture
def opened() -> Iterator[Callable[..., Runner]]:
    runners: list[Runner] = []

    def open_one(artifact: Artifact, **options: Any) -> Runner:
        runners.append(open_runner(artifact, runtime="torchscript", **options))
        return runners[-1]

    yield open_one
    for runner in runners:
        runner.close()


@pytest.mark.parametrize("ops", ["native", "portable"])
@pytest.mark.parametrize("task", CONFIGS)
def test_the_model_at_every_length(
    fixtures: Fixtures, make: Make, opened: Callable[..., Runner], task: str, ops: str
) -> None:
    runner = opened(make(task, ops=ops))
    loaded = load_source(fixtures.checkpoint(task), task=task)
    vocab_size = loaded.config.vocab_size
    for length in LENGTHS:
        for batch in (1, 3):
            inputs = feeds(length, batch, vocab_size=vocab_size, seed=length)
            with torch.inference_mode():
                outputs = loaded.model(*(torch.from_numpy(a) for a in inputs.values()))
            expected = {name: tensor.numpy() for name, tensor in outputs.items()}
            assert worst_error(runner.run(inputs), expected) < 1e-5
            if length in (1, 4, 13, 29):
                theirs = outputs_of(fixtures.model(task), inputs)
                names = [spec.name for spec in runner.signature.outputs]
                assert worst_error(runner.run(inputs), {n: theirs[n] for n in names}) < 1e-5


def kinds(graph: Any) -> set[str]:
    """The kinds of all nodes of a graph, in branches too."""
    found = {node.kind() for node in graph.nodes()}
    for node in graph.nodes():
        for block in node.blocks():
            found |= kinds(block)
    return found


def test_what_is_in_the_graph(make: Make) -> None:
    native, portable = (
        kinds(torch.jit.load(make(ops=ops).path / "model.pt").inlined_graph)
        for ops in ("native", "portable")
    )
    assert {kind for kind in native if kind.startswith("reformer::")} == OURS
    assert not {kind for kind in portable if kind.startswith("reformer::")}
    assert not {"aten::sort", "aten::gather", "aten::softmax", "aten::logsumexp"} & native
    assert portable >= {"aten::sort", "aten::gather", "aten::logsumexp"}
    for kind in native | portable:
        assert not any(chance in kind for chance in ("rand", "dropout", "bernoulli", "Python"))


def test_linear_layers_are_fused(
    fixtures: Fixtures, opened: Callable[..., Runner], tmp_path: Path
) -> None:
    checkpoint = fixtures.checkpoint(config=WIDE)
    artifact = to_torchscript(checkpoint, tmp_path / "artifact", verify=False)
    module = torch.jit.load(artifact.path / "model.pt")
    fused = {f"reformer::{op.torch_name}" for op in LINEAR if not op.name.startswith("Int")}
    found = kinds(module.inlined_graph)
    assert found >= fused
    assert "aten::linear" in found  # the head
    names = [name for name, _ in module.named_buffers() if name.endswith("weight_panels")]
    assert len(names) == 11 * len(WIDE["attn_layers"]) // 2
    runner = opened(artifact)
    for length in (1, 23, 120):
        inputs = feeds(length, 2, seed=length)
        expected = outputs_of(fixtures.model(config=WIDE), inputs)
        assert worst_error(runner.run(inputs), {"logits": expected["logits"]}) < 1e-5


def test_what_the_manifest_says(make: Make) -> None:
    for ops in ("native", "portable"):
        artifact = make(ops=ops)
        assert artifact.formats == ("torchscript",)
        record = artifact.manifest.formats["torchscript"]
        assert (record.file, record.ops, record.parity) == ("model.pt", ops, None)
        assert set(record.tools) == {"reformer-export", "torch"}
        assert record.details == {}
        assert "model.pt" in artifact.manifest.files


PROGRAM = """
import sys
sys.meta_path.insert(0, type("No", (), {"find_spec": staticmethod(
    lambda name, *rest: sys.exit(f"imported {name}") if name.startswith("reformer") else None)}))
import torch
model = torch.jit.load(sys.argv[1])
ids = torch.arange(29)[None] % 40
torch.save(model(ids), sys.argv[2])
try:
    model(torch.zeros(1, 121, dtype=torch.int64))
except torch.jit.Error as error:
    print(str(error).strip().splitlines()[-1])
"""


def test_portable_needs_nothing_of_ours(
    make: Make, opened: Callable[..., Runner], tmp_path: Path
) -> None:
    """In a process that cannot import our packages, and without a mask."""
    artifact = make(ops="portable")
    arguments = [str(artifact.path / "model.pt"), str(tmp_path / "out.pt")]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("this model takes 1 to 120 tokens; got 121")
    found = {name: tensor.numpy() for name, tensor in torch.load(tmp_path / "out.pt").items()}
    ids = (np.arange(29) % 40)[None]
    expected = opened(artifact).run({"input_ids": ids, "attention_mask": np.ones_like(ids)})
    assert worst_error(found, expected) < 1e-6


def test_half_precision(fixtures: Fixtures, make: Make) -> None:
    loaded = load_source(fixtures.checkpoint(), dtype="fp16")
    for ops in ("native", "portable"):
        artifact = make(dtype="fp16", ops=ops)
        report = verify_against(artifact, loaded, lengths=[1, 4, 13, 29], runtime="torchscript")
        assert report.passed, report.summary()
        assert report.decisions > 0


def test_chunked_feed_forward_has_no_number_of_pieces(fixtures: Fixtures, tmp_path: Path) -> None:
    # One token per piece, because Transformers wants the length to be a multiple of the size.
    config = TINY | {"chunk_size_feed_forward": 1, "chunk_size_lm_head": 1}
    checkpoint = fixtures.checkpoint("text-generation", config)
    to_torchscript(checkpoint, tmp_path / "out")  # verifies itself at many lengths


def test_buckets_are_shown(make: Make, opened: Callable[..., Runner]) -> None:
    runner = opened(make())
    assert isinstance(runner, ShowingRunner)
    inputs = feeds(29, 3)
    probe = runner.show(inputs)
    assert worst_error(probe.outputs, runner.run(inputs)) == 0
    assert [b.shape for b in probe.buckets if b is not None] == [(3, 2, 2, 36)] * 2
    assert all(b.dtype == np.int32 for b in probe.buckets if b is not None)


def test_which_operators_may_run(make: Make, opened: Callable[..., Runner]) -> None:
    assert opened(make(ops="portable"), ops="portable").description.endswith("portable operators")
    with pytest.raises(UsageError, match="it was exported with --ops portable"):
        opened(make(ops="portable"), ops="native")
    runner = opened(make(ops="native"))
    assert runner.description.endswith(str(native_status("torch")))
    if native_status("torch").available:
        with pytest.raises(UsageError, match="by whatever this process has"):
            opened(make(ops="native"), ops="portable")


def test_operators_of_another_version(make: Make, tmp_path: Path) -> None:
    def newer(ops: str) -> Artifact:
        folder = tmp_path / ops
        folder.mkdir()
        for file in make(ops=ops).path.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        old = Artifact.open(folder).manifest
        versions = {**old.ops.versions, "LshBucket": 2}
        write_manifest(
            folder, dataclasses.replace(old, ops=dataclasses.replace(old.ops, versions=versions))
        )
        return Artifact.open(folder)

    with pytest.raises(RuntimeUnavailableError, match="has LshBucket version 2, which this"):
        open_runner(newer("native"))
    open_runner(newer("portable")).close()


def test_what_is_no_torchscript(make: Make, tmp_path: Path) -> None:
    """The manifest agrees with the damaged file, as if the file had been made so."""
    from reformer_export.artifact.manifest import record_files

    for name, content in (("none", b""), ("text", b"hello"), ("cut", None)):
        folder = tmp_path / name
        folder.mkdir()
        for file in make().path.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        path = folder / "model.pt"
        path.write_bytes(path.read_bytes()[:-2000] if content is None else content)
        old = make().manifest
        write_manifest(folder, dataclasses.replace(old, files=record_files(folder)))
        with pytest.raises(RuntimeUnavailableError, match=r"cannot load .*model\.pt") as caught:
            open_runner(folder)
        assert "\n" not in str(caught.value)


def test_an_input_that_does_not_fit(make: Make, opened: Callable[..., Runner]) -> None:
    ids = np.full((1, 5), 4000)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    runner = opened(make())
    with pytest.raises(InputError, match="outside the vocabulary"):
        runner.run(inputs)
    assert isinstance(runner, ShowingRunner)
    with pytest.raises(InferenceError, match="torchscript failed on 1 x 5 tokens"):
        runner.show(inputs)


def test_what_the_file_itself_refuses(make: Make) -> None:
    model = torch.jit.load(make(ops="portable").format_path("torchscript"))
    ids = torch.arange(5)[None]
    assert model(ids, torch.ones(1, 5, dtype=torch.bool))["logits"].shape == (1, 5, 40)
    with pytest.raises(torch.jit.Error, match="attention_mask must be integers or booleans"):
        model(ids, torch.ones(1, 5))
    with pytest.raises(torch.jit.Error, match=r"cannot be converted by half\(\)"):
        model.half()(ids)


def test_a_wrong_model_is_found(
    fixtures: Fixtures, make: Make, loaded: LoadedModel, tmp_path: Path
) -> None:
    """The file of another model in the artifact: the verification finds it."""
    from reformer_export.artifact.manifest import record_files

    other = make(hash_seed=99)
    folder = tmp_path / "wrong"
    folder.mkdir()
    for file in make().path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "model.pt").write_bytes((other.path / "model.pt").read_bytes())
    write_manifest(folder, dataclasses.replace(make().manifest, files=record_files(folder)))
    report = verify_against(Artifact.open(folder), loaded, lengths=[29], batches=[1])
    assert not report.passed
    assert "a bucket differs although the decision was clear" in report.first_miss


@pytest.fixture(scope="module")
def loaded(fixtures: Fixtures) -> LoadedModel:
    return load_source(fixtures.checkpoint())
