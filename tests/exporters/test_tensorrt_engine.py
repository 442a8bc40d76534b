"""Engines that TensorRT-RTX really builds, for which it needs no GPU, and their records.

No engine runs here: the tests cover everything that happens before a GPU is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import reformer_export
from reformer_export import to_tensorrt
from reformer_export.artifact import Artifact
from reformer_export.artifact.engine import ENGINE, RECORD, Engine, EngineRecord, Extent, Profile
from reformer_export.artifact.engine_header import check_header
from reformer_export.artifact.manifest import FileRecord
from reformer_export.errors import (
    ArtifactError,
    ExportError,
    MissingDependencyError,
    ParityError,
    RuntimeUnavailableError,
    UsageError,
)
from reformer_export.exporters.tensorrt import export
from reformer_export.exporters.tensorrt.builder import EngineBuilder
from reformer_export.host.tensorrt_library import load_library, tidy_message
from reformer_export.runtimes import open_runner
from reformer_ops import onnx_bodies
from reformer_ops.core.onnx_writer import OnnxWriter

from ..tools.artifact_fixtures import environment, snapshot
from ..tools.model_fixtures import Fixtures, feeds

TASK = "fill-mask"  # it has the smallest model


@pytest.fixture(scope="module")
def engine(fixtures: Fixtures) -> Engine:
    return fixtures.engine(TASK, dtype="fp16")


@pytest.fixture
def copy(engine: Engine, tmp_path: Path) -> Path:
    return shutil.copytree(engine.path, tmp_path / "engine")


def edit(folder: Path, **changes: Any) -> None:
    path = folder / RECORD
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refresh(folder: Path) -> None:
    """Write the engine's new hash into the record, as a forger would."""
    files = json.loads((folder / RECORD).read_text())["files"]
    found = FileRecord.of(folder / ENGINE)
    edit(folder, files={**files, ENGINE: {"sha256": found.sha256, "bytes": found.bytes}})


@pytest.mark.parametrize(
    ("task", "options"),
    [
        (TASK, {"dtype": "fp16"}),
        ("question-answering", {"dtype": "fp16", "targets": ["sm75", "sm89"]}),
        *(
            pytest.param(*more, marks=pytest.mark.slow)
            for more in (
                ("text-generation", {"dtype": "fp32"}),
                ("text-generation", {"dtype": "fp16"}),
                ("text-generation", {"dtype": "bf16"}),
                ("fill-mask", {"dtype": "bf16"}),
                ("text-generation", {"dtype": "fp16", "targets": ["sm75"]}),
                ("feature-extraction", {}),
                ("text-classification", {"dtype": "fp16"}),
            )
        ),
    ],
)
def test_engine_of_a_verified_graph(fixtures: Fixtures, task: str, options: dict[str, Any]) -> None:
    engine = fixtures.engine(task, **options)
    record = engine.record
    assert sorted(os.listdir(engine.path)) == sorted([RECORD, *record.files])
    assert ENGINE in record.files
    assert Engine.open(engine.path) == engine
    assert EngineRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    assert (record.flavor, record.dtype) == ("rtx", options.get("dtype", "fp32"))
    assert record.targets == tuple(
        options.get("targets", ("sm80", "sm86", "sm89", "sm120", "sm121"))
    )
    artifact = fixtures.artifact(task)
    assert engine.signature.outputs == artifact.signature.outputs
    assert record.source.model_sha256 == artifact.manifest.files["model.onnx"].sha256
    assert record.parity is not None
    assert record.parity["passed"] is True
    assert "portable operators" in record.parity["candidate"]
    assert ("bf16 emulated" in record.parity["candidate"]) == (record.dtype == "bf16")
    assert record.evidence.endswith("built and not run: nothing here ran on a GPU.")
    # Each node of our operators became layers of the network, under its name.
    kinds = {operator.op for operator in record.operators}
    assert kinds == {"LshBucket", "SortedChunkAttention", "ChunkAttention"}
    assert min(operator.layers for operator in record.operators) > 10
    hashing = {operator.form for operator in record.operators if operator.op == "LshBucket"}
    assert hashing == {"convolution" if "sm75" in record.targets else "portable"}
    assert ("convolution" in record.layer_types()) == ("sm75" in record.targets)
    assert sum(layer.node is not None for layer in record.layers) > len(record.layers) / 4


def test_half_an_engine_is_half_as_heavy(fixtures: Fixtures) -> None:
    whole, half = (
        fixtures.engine(TASK, dtype=dtype, verify=False).record for dtype in ("fp32", "fp16")
    )
    assert half.weights_bytes < 0.7 * whole.weights_bytes
    # The types of the outputs show that the layers compute in half precision.
    products = [layer.outputs for layer in half.layers if layer.type == "matrix_multiply"]
    assert products.count(("half",)) > products.count(("float",)) > 0


def test_several_profiles_and_a_limit(fixtures: Fixtures, tmp_path: Path) -> None:
    said: list[str] = []
    logged: list[str] = []
    engine = reformer_export.to_tensorrt(
        fixtures.artifact(TASK).path,
        tmp_path / "new" / "engine",
        flavor="auto",
        min_shapes=["input_ids:1x7", "input_ids:2x10"],
        max_shapes=["input_ids:1x50", "input_ids:8x20"],
        workspace=64,
        verify=False,
        progress=said.append,
        log=logged.append,
    )
    assert engine.record.profiles == (
        Profile(Extent(1, 7), Extent(1, 50), Extent(1, 50)),
        Profile(Extent(2, 10), Extent(8, 20), Extent(8, 20)),
    )
    assert (engine.signature.min_length, engine.signature.max_length) == (7, 50)
    assert engine.record.build.workspace_bytes == 64 << 20
    assert engine.record.parity is None
    assert engine.record.evidence.startswith("Its graph was not verified")
    assert said[:3] == [
        "checking the artifact",
        f"writing the graph for TensorRT-RTX {engine.record.version}",
        "parsing the graph",
    ]
    assert [message for message in said if message.startswith("building: ")]
    assert any(message.startswith("TensorRT-RTX info: ") for message in logged)


def test_a_graph_with_other_numbers_is_not_built(
    fixtures: Fixtures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = onnx_bodies._BODIES["ChunkAttention"]

    def body(w: OnnxWriter, *inputs: Any, num_chunks_before: int, **rest: Any) -> Any:
        return original(w, *inputs, num_chunks_before=num_chunks_before + 1, **rest)

    monkeypatch.setitem(onnx_bodies._BODIES, "ChunkAttention", body)
    with pytest.raises(ParityError, match="does not give the model's numbers") as caught:
        to_tensorrt(fixtures.artifact(TASK).path, tmp_path / "new" / "engine", flavor="rtx")
    assert caught.value.report is not None
    assert os.listdir(tmp_path) == []


def test_two_percent_too_much_is_noticed_in_half_precision(
    fixtures: Fixtures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flash-attention rule detects a scale of 1.02 in each cast from fp16 to fp32."""
    original = OnnxWriter.to_float32

    def scaled(self: OnnxWriter, value: Any) -> Any:
        raised = original(self, value)
        low = self.op("Cast", self.op("Mul", raised, self.float32(1.02)), to=self.float_type)
        return original(self, low)

    monkeypatch.setattr(OnnxWriter, "to_float32", scaled)
    with pytest.raises(ParityError):
        to_tensorrt(fixtures.artifact(TASK).path, tmp_path / "engine", flavor="rtx", dtype="fp16")
    assert os.listdir(tmp_path) == []


def test_an_engine_is_replaced_when_that_is_asked_for(fixtures: Fixtures, copy: Path) -> None:
    before = snapshot(copy)
    artifact = fixtures.artifact(TASK).path
    with pytest.raises(UsageError, match="exists: choose another folder, or --force"):
        to_tensorrt(artifact, copy, verify=False)
    assert snapshot(copy) == before
    made = to_tensorrt(artifact, copy, verify=False, force=True)
    assert made.record.dtype == "fp32"
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds 'notes.txt', which its manifest does not list"):
        to_tensorrt(artifact, copy, verify=False, force=True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"targets": ["sm90"]}, "--target sm90: TensorRT-RTX .* knows sm75, sm80"),
        ({"targets": ["sm75"]}, "--target sm75 with fp32: .* choose --dtype fp16"),
        ({"targets": ["sm75"], "dtype": "bf16"}, "--target sm75 with bf16: .* no bf16"),
        ({"dtype": "fp8"}, "unknown dtype 'fp8'"),
        ({"flavor": "lite"}, "unknown flavor 'lite'"),
        ({"ops": "native"}, "unknown ops 'native'"),
        ({"ops": "plugin"}, "TensorRT-RTX takes no plugins"),
        ({"workspace": 0}, "--workspace 0: give at least 1 MB"),
        ({"version_compatible": True}, "--version-compatible is for --flavor standard"),
        ({"max_shapes": ["input_ids:1x100000"]}, "this model takes 1 to "),
    ],
)
def test_what_cannot_be_built_is_refused_first(
    fixtures: Fixtures, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    reported: list[str] = []
    with pytest.raises(UsageError, match=said) as caught:
        to_tensorrt(
            fixtures.artifact(TASK).path, tmp_path / "new" / "out",
            progress=reported.append, **{"flavor": "rtx", **options},
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    assert reported == ["checking the artifact"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("export", "options", "said"),
    [
        ({"dtype": "fp16"}, {"dtype": "fp32"}, "rounded to fp16 already"),
        ({"ops": "portable"}, {"dtype": "fp16"}, "was exported with --ops portable"),
    ],
)
def test_artifacts_that_cannot_become_it(
    fixtures: Fixtures, tmp_path: Path, export: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    artifact = fixtures.artifact("fill-mask", **export)
    with pytest.raises(UsageError, match=said):
        to_tensorrt(artifact.path, tmp_path / "out", flavor="rtx", **options)


@pytest.mark.slow
@pytest.mark.parametrize("export", [{"dtype": "fp16"}, {"ops": "portable"}])
def test_other_artifacts(fixtures: Fixtures, tmp_path: Path, export: dict[str, Any]) -> None:
    """Artifacts that are already in half precision, or have none of our operators."""
    artifact = fixtures.artifact("fill-mask", **export)
    record = to_tensorrt(artifact.path, tmp_path / "out", flavor="rtx").record
    assert record.dtype == export.get("dtype", "fp32")
    assert record.parity is not None
    assert record.signature.outputs == artifact.signature.outputs


def test_a_graph_the_parser_does_not_take(fixtures: Fixtures, tmp_path: Path) -> None:
    source = fixtures.artifact(TASK)
    broken = tmp_path / "model.onnx"
    data = source.format_path("onnx").read_bytes()
    broken.write_bytes(data.replace(b"LayerNormalization", b"LayerNormalisation"))
    builder = EngineBuilder(load_library("rtx", purpose="a test"))
    with pytest.raises(
        ExportError, match=r"does not take the graph at .*LayerNormalisation"
    ) as caught:
        builder.parse(broken, source.signature)
    assert "\n" not in str(caught.value)


def test_messages_of_the_library_are_tidied() -> None:
    message = (
        "IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([pass.cpp:337: check_turing]"
        " Cannot compile operation 'node_of_y' for Turing (SM75): FP32 GEMM is not supported. In "
        "compileGraph at /_src/optimizer/myelin/codeGenerator.cpp:2012)"
    )
    assert tidy_message(message) == (
        "Cannot compile operation 'node_of_y' for Turing (SM75): FP32 GEMM is not supported."
    )


def test_interrupted_builds_leave_nothing(fixtures: Fixtures, tmp_path: Path) -> None:
    """Ctrl-C while TensorRT builds, raised by the progress callback."""

    def stop(message: str) -> None:
        if message.startswith("building: "):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to_tensorrt(
            fixtures.artifact(TASK).path, tmp_path / "new" / "out", verify=False, progress=stop
        )
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("flavor", ["rtx", "standard"])
def test_without_the_library(
    fixtures: Fixtures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flavor: str
) -> None:
    package, module = {"rtx": ("tensorrt-rtx", "tensorrt_rtx"), "standard": ("tensorrt",) * 2}[
        flavor
    ]
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(
        MissingDependencyError, match=f"building an engine .* pip install {package}"
    ):
        to_tensorrt(fixtures.artifact(TASK).path, tmp_path / "out", flavor=flavor)
    assert os.listdir(tmp_path) == []


def test_an_old_library(fixtures: Fixtures, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = load_library("rtx", purpose="a test").trt
    monkeypatch.setattr(trt, "__version__", "1.0.0.2")
    with pytest.raises(
        MissingDependencyError, match=r"needs TensorRT-RTX 1\.2 or later, found 1\.0"
    ):
        load_library("rtx", purpose="a test")


# Damaged folders: the damage is found before any file is used.


def test_a_record_of_a_newer_schema(copy: Path) -> None:
    edit(copy, schema_version=2)
    with pytest.raises(ArtifactError, match=r"schema version 2 .* pip install --upgrade"):
        Engine.open(copy)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_text("{"), "is not valid JSON"),
        (lambda path: path.write_text("[]"), "must be an object"),
        (lambda path: edit(path.parent, profiles=[]), "profiles is empty"),
        (lambda path: edit(path.parent, profiles=[{"min": [1]}]), r"must be \[batch, length\]"),
        (lambda path: edit(path.parent, files={}), "does not list model.engine"),
        (lambda path: edit(path.parent, version="1.7.1.1"), "its record says 1.7.1.1"),
        (lambda path: edit(path.parent, targets=["sm80"]), "was built for .* its record says sm80"),
        (
            lambda path: edit(path.parent, layers=[{"name": 3}]),
            r"layers\[0\].name must be a string",
        ),
    ],
)
def test_a_damaged_record(copy: Path, damage: Any, said: str) -> None:
    damage(copy / RECORD)
    with pytest.raises(ArtifactError, match=said) as caught:
        Engine.open(copy)
    assert "\n" not in str(caught.value)


def test_a_damaged_engine(copy: Path) -> None:
    path = copy / ENGINE
    whole = path.read_bytes()
    for content, said in [
        (whole[:-100], "it was cut or changed, build it again"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "it was changed or damaged, build it again"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=said):
            Engine.open(copy)
    path.unlink()
    with pytest.raises(ArtifactError, match="is missing from"):
        Engine.open(copy)


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (lambda data: data[:-100], "its header says"),
        (lambda data: data[:20], "is not a TensorRT-RTX engine"),
        (lambda data: b"ELF" + data[3:], "is not a TensorRT-RTX engine"),
    ],
)
def test_the_header_is_looked_at_even_where_the_hash_fits(
    copy: Path, forge: Any, said: str
) -> None:
    path = copy / ENGINE
    path.write_bytes(forge(path.read_bytes()))
    refresh(copy)
    with pytest.raises(ArtifactError, match=said):
        Engine.open(copy)


def test_the_header_tells_the_targets(fixtures: Fixtures) -> None:
    turing = fixtures.engine(TASK, dtype="fp16", targets=["sm75"], verify=False)
    version = turing.record.version
    check_header(turing.engine_path, "rtx", version, ["sm75"])
    with pytest.raises(ArtifactError, match="was built for sm75 and its record says sm75, sm80"):
        check_header(turing.engine_path, "rtx", version, ["sm75", "sm80"])


def test_an_artifact_is_no_engine(fixtures: Fixtures) -> None:
    with pytest.raises(ArtifactError, match=r"has no engine\.json"):
        Engine.open(fixtures.artifact(TASK).path)


# Running, up to the point where a GPU is needed.


def test_an_engine_belongs_to_its_release(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    trt = load_library("rtx", purpose="a test").trt
    monkeypatch.setattr(trt, "__version__", "1.9.0.1")
    with pytest.raises(RuntimeUnavailableError, match=r"1\.9\.0\.1 is installed: pip install"):
        open_runner(engine)


@pytest.mark.parametrize("task", ["question-answering", "text-classification", TASK])
def test_outputs_have_the_shapes_that_are_set_aside_for_them(fixtures: Fixtures, task: str) -> None:
    """The runner allocates outputs by the signature, before the engine runs."""
    artifact = fixtures.artifact(task)
    runner = open_runner(artifact)
    found = runner.run(feeds(9, 2))
    runner.close()
    wanted = {spec.name: spec.shape(2, 9) for spec in artifact.signature.outputs}
    assert {name: array.shape for name, array in found.items()} == wanted


def test_each_runtime_takes_its_own_kind(engine: Engine, fixtures: Fixtures) -> None:
    with pytest.raises(UsageError, match="is a TensorRT engine: onnxruntime runs artifacts only"):
        open_runner(engine.path, runtime="onnxruntime")
    with pytest.raises(UsageError, match="build one with reformer-export to-tensorrt"):
        open_runner(fixtures.artifact(TASK), runtime="tensorrt")


def test_a_kill_while_building_leaves_nothing(fixtures: Fixtures, tmp_path: Path) -> None:
    """SIGTERM to the command line, when it reports that it builds."""
    out = tmp_path / "new" / "out"
    child = subprocess.Popen(
        [
            sys.executable, "-m", "reformer_export", "to-tensorrt",
            str(fixtures.artifact(TASK).path), str(out), "--no-verify",
        ],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("building: "):
            child.terminate()
            break
    start = time.monotonic()
    child.communicate(timeout=60)
    assert time.monotonic() - start < 60
    if child.returncode == 0:  # it had finished by then
        assert Engine.open(out)
    else:
        assert child.returncode == 143
        assert os.listdir(tmp_path) == []


def test_the_evidence_says_what_was_done() -> None:
    plan: Any = type("Plan", (), {"dtype": "bf16", "ops": "portable"})
    assert "rounded to bf16" in export._evidence(plan, {"passed": True})
    assert Artifact is reformer_export.Artifact
