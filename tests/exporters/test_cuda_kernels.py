"""model.cuda: its contents for a model, and the artifacts that it can be added to."""

from __future__ import annotations

import json
import shutil
import struct
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx_ir as ir
import pytest

pytest.importorskip("triton", reason="Triton is not installed: it is made for Linux")

from reformer_export import to_torchscript
from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import CUDA
from reformer_export.errors import ArtifactError, UsageError
from reformer_export.exporters.cuda.export import (
    KERNELS,
    KIND,
    SCHEMA_VERSION,
    add_cuda_kernels,
    check_targets,
    write_cuda_kernels,
)
from reformer_ops.core.spec import DOMAIN, OpSpec
from reformer_ops.int4_feed_forward_add.spec import INT4_FEED_FORWARD_ADD
from reformer_ops.int8_feed_forward_add.spec import INT8_FEED_FORWARD_ADD
from reformer_ops.registry import FUSED, LINEAR, OPS, by_onnx_name
from reformer_ops.triton import compile as triton_compile
from reformer_ops.triton.launch import Launch
from reformer_ops.triton_programs import make_program

from ..cuda.emulation import compile_launch
from ..models.configs import WIDE
from ..tools.artifact_fixtures import snapshot
from ..tools.model_fixtures import Fixtures

Json = dict[str, Any]

TASK = "question-answering"
"""A local and an LSH layer, and three rounds of hashing."""


def parts(path: Path) -> tuple[Json, dict[str, bytes]]:
    """The document, and the images by name; read without our own code."""
    data = path.read_bytes()
    end = 8 + struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:end])
    document = json.loads(header.pop("__metadata__")[KIND])
    images = {}
    for name, tensor in header.items():
        first, last = tensor["data_offsets"]
        assert tensor["dtype"] == "U8"
        assert tensor["shape"] == [last - first]
        images[name] = data[end + first : end + last]
    assert sum(map(len, images.values())) == len(data) - end
    return document, images


LINEAR_NAMES = {
    op.name for op in LINEAR if op not in (INT8_FEED_FORWARD_ADD, INT4_FEED_FORWARD_ADD)
}
"""Those with weights of the model's type."""


@pytest.fixture(scope="module")
def model(fixtures: Fixtures) -> Path:
    return fixtures.artifact(TASK).format_path("onnx")


@pytest.fixture(scope="module")
def written(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kernels")
    with mock.patch.object(triton_compile, "compile_launch", compile_launch):
        write_cuda_kernels(model, folder, ["sm80", "sm90"])
    return folder / KERNELS


def test_the_document(written: Path) -> None:
    document, _ = parts(written)
    assert document["schema_version"] == SCHEMA_VERSION == 1
    assert document["domain"] == DOMAIN
    assert document["tools"].keys() == {"reformer-export", "triton"}
    assert document.keys() == {"schema_version", "domain", "tools", "programs"}


def test_every_node_has_a_program_for_every_target(model: Path, written: Path) -> None:
    document, _ = parts(written)
    wanted: Counter[tuple[str, str]] = Counter()
    for node in ir.load(model).graph:
        if node.domain == DOMAIN:
            attributes = {
                name: int(np.float32(a.value).view(np.uint32)) if name == "epsilon" else a.value
                for name, a in node.attributes.items()
            }
            wanted[node.op_type, json.dumps(attributes, sort_keys=True)] = 1
    assert {op for op, _ in wanted} == {op.name for op in (*OPS, *FUSED)}
    for target in (80, 90):
        found = Counter(
            (each["operator"], json.dumps(each["attributes"], sort_keys=True))
            for each in document["programs"]
            if each["target"] == target
        )
        assert found == wanted


def test_linear_layers_run_by_their_bodies(fixtures: Fixtures, tmp_path: Path) -> None:
    """A file that was exported for CPUs has nodes for which there are no GPU kernels."""
    source = fixtures.artifact(config=WIDE).format_path("onnx")
    assert {node.op_type for node in ir.load(source).graph} >= LINEAR_NAMES
    with mock.patch.object(triton_compile, "compile_launch", compile_launch):
        write_cuda_kernels(source, tmp_path, ["sm90"])
    document, _ = parts(tmp_path / KERNELS)
    assert {each["operator"] for each in document["programs"]} == {op.name for op in OPS}


def as_given(op: OpSpec, attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes, with floats in place of the bits of their fp32 values."""
    numbers = [attribute.name for attribute in op.attributes if attribute.kind == "float"]
    return attributes | {
        name: float(np.uint32(attributes[name]).view(np.float32)) for name in numbers
    }


def test_programs_are_those_that_operators_have(written: Path) -> None:
    """Entries, grids, arguments and scratch, as the library must read them."""
    document, images = parts(written)
    for each in document["programs"]:
        op = by_onnx_name(each["operator"])
        program = make_program(
            op,
            dtype=each["dtype"],
            attributes=as_given(op, each["attributes"]),
            sizes=each["sizes"],
            target=each["target"],
        )
        assert each["version"] == op.version
        assert each["dtype"] == "float32"
        assert each["scratch"] == {name: amount(grid) for name, grid in program.scratch.items()}
        assert len(each["launches"]) == len(program.steps)
        for launch, step in zip(each["launches"], program.steps, strict=True):
            assert launch["entry"] == step.launch.name
            assert launch["programs"] == amount(step.launch.grid)
            assert launch["threads"] == 32 * step.launch.num_warps
            assert 0 <= launch["shared_bytes"] <= 48 * 1024
            assert (launch["shortest"], launch["longest"]) == (step.shortest, step.longest)
            assert launch["arguments"] == [*step.arguments(), None, None]
            assert parameters(images[f"{launch['image']}.ptx"]) == types_of(step.launch)


def amount(grid: Any) -> Json:
    return {"times": grid.times, "multiplier": grid.multiplier, "divisor": grid.divisor}


def parameters(ptx: bytes) -> list[bool]:
    """For each parameter of the entry, whether it is a pointer."""
    declared = [line for line in ptx.decode().splitlines() if line.lstrip().startswith(".param")]
    return [".u64" in line or ".b64" in line for line in declared]


def types_of(launch: Launch) -> list[bool]:
    return [True] * len(launch.inputs) + [False] + [True] * (len(launch.outputs) + 2)


def test_images_are_there_once_and_all_are_used(written: Path) -> None:
    document, images = parts(written)
    used = {
        (each["target"], launch["image"], launch["entry"])
        for each in document["programs"]
        for launch in each["launches"]
    }
    assert {f"{name}.{kind}" for _, name, _ in used for kind in ("cubin", "ptx")} == set(images)
    assert len(set(images.values())) == len(images)
    for target, name, entry in used:
        assert name.startswith(f"sm{target}.{entry}.")
        assert images[f"{name}.cubin"].startswith(b"\x7fELF")
        assert f".text.{entry}\0".encode() in images[f"{name}.cubin"]
        ptx = images[f"{name}.ptx"].decode()
        assert f".entry {entry}(" in ptx
        assert f"\n.target sm_{target}" in ptx


def test_what_runs_on_one_gpu_alone_is_not_portable(written: Path) -> None:
    document, images = parts(written)
    for each in document["programs"]:
        targets = {
            line
            for launch in each["launches"]
            for line in images[f"{launch['image']}.ptx"].decode().splitlines()
            if line.startswith(".target")
        }
        assert each["portable"] == (targets == {f".target sm_{each['target']}"})
        assert each["portable"] == (each["target"] == 80)


def test_nothing_of_this_machine_is_in_it(written: Path) -> None:
    data = written.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in data
    assert b"/tmp" not in data


@pytest.mark.slow
def test_the_same_request_gives_the_same_bytes(
    model: Path, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    record = write_cuda_kernels(model, tmp_path, ["sm80", "sm90"])
    assert (tmp_path / KERNELS).read_bytes() == written.read_bytes()
    assert record.file == KERNELS
    assert record.machine == {"targets": "sm80, sm90"}


# -- adding it to an artifact ----------------------------------------------------------------------


@pytest.fixture
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiles each kernel only once for all tests that use this fixture."""
    monkeypatch.setattr(triton_compile, "compile_launch", compile_launch)


@pytest.fixture
def artifact(fixtures: Fixtures, tmp_path: Path) -> Artifact:
    """A copy of an artifact, which a test may change."""
    return copy_of(fixtures.artifact(TASK), tmp_path / "artifact")


def copy_of(artifact: Artifact, path: Path) -> Artifact:
    shutil.copytree(artifact.path, path)
    return Artifact.open(path)


@pytest.mark.usefixtures("compiled_once")
def test_it_joins_what_is_there(artifact: Artifact) -> None:
    before = artifact.manifest
    said: list[str] = []
    after = add_cuda_kernels(artifact.path, targets=["sm80"], progress=said.append)
    assert sorted(said) == sorted(f"compiling {op.name} for sm80" for op in (*OPS, *FUSED))
    assert after.formats == (*artifact.formats, CUDA)
    files = dict(after.manifest.files)
    assert files.pop(KERNELS).bytes == (after.path / KERNELS).stat().st_size
    assert files == before.files
    assert after.manifest.formats[CUDA].machine == {"targets": "sm80"}


@pytest.mark.usefixtures("compiled_once")
def test_it_is_replaced_by_force_alone(artifact: Artifact) -> None:
    add_cuda_kernels(artifact.path, targets=["sm80"])
    before = snapshot(artifact.path)
    with pytest.raises(UsageError, match=f"--force to replace its {CUDA}"):
        add_cuda_kernels(artifact.path, targets=["sm75"])
    assert snapshot(artifact.path) == before
    after = add_cuda_kernels(artifact.path, targets=["sm90"], force=True)
    document, _ = parts(after.path / KERNELS)
    assert {each["target"] for each in document["programs"]} == {90}
    assert after.formats == (*artifact.formats, CUDA)


@pytest.mark.parametrize(
    ("targets", "printed"),
    [
        ([], "name at least one GPU to compile kernels for, such as sm90"),
        (["sm80", "sm81"], "unknown target sm81: choose one of sm75, sm80, sm86, sm89, sm90, "),
        (["h100"], "h100"),
    ],
)
def test_targets_that_there_are_not(targets: list[str], printed: str, artifact: Artifact) -> None:
    before = snapshot(artifact.path)
    with pytest.raises(UsageError, match=printed):
        add_cuda_kernels(artifact.path, targets=targets)
    with pytest.raises(UsageError, match=printed):
        check_targets(targets)
    assert snapshot(artifact.path) == before


def test_a_model_without_operators_of_ours(fixtures: Fixtures, tmp_path: Path) -> None:
    artifact = copy_of(fixtures.artifact(TASK, ops="portable"), tmp_path / "artifact")
    before = snapshot(artifact.path)
    with pytest.raises(UsageError, match="export it without --ops portable"):
        add_cuda_kernels(artifact.path, targets=["sm80"])
    assert snapshot(artifact.path) == before


@pytest.mark.slow
def test_bf16_on_a_gpu_that_has_none(fixtures: Fixtures, tmp_path: Path) -> None:
    artifact = copy_of(fixtures.artifact(TASK, dtype="bf16"), tmp_path / "artifact")
    before = snapshot(artifact.path)
    with pytest.raises(UsageError, match="sm75 does not compute in bf16: use fp16 there"):
        add_cuda_kernels(artifact.path, targets=["sm75"])
    assert snapshot(artifact.path) == before
    after = add_cuda_kernels(artifact.path, targets=["sm80"])
    document, _ = parts(after.path / KERNELS)
    assert {each["dtype"] for each in document["programs"]} == {"bfloat16"}


def test_an_artifact_without_onnx(fixtures: Fixtures, tmp_path: Path) -> None:
    out = tmp_path / "artifact"
    to_torchscript(fixtures.checkpoint(TASK), out, verify=False, ops="portable")
    before = snapshot(out)
    with pytest.raises(ArtifactError, match=r"has no model\.onnx, which the kernels are for"):
        add_cuda_kernels(out, targets=["sm80"])
    assert snapshot(out) == before


def test_an_artifact_that_is_damaged(artifact: Artifact) -> None:
    artifact.format_path("onnx").write_bytes(artifact.format_path("onnx").read_bytes()[:-1])
    before = snapshot(artifact.path)
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        add_cuda_kernels(artifact.path, targets=["sm80"])
    assert snapshot(artifact.path) == before
