"""An artifact opens only if every file matches its manifest and lies inside the folder."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from reformer_export.artifact import Artifact
from reformer_export.artifact.external_data import check_external_data, tensor_bytes
from reformer_export.artifact.manifest import (
    FileRecord,
    FormatRecord,
    Manifest,
    record_files,
    write_manifest,
)
from reformer_export.errors import ArtifactError

from ..tools.artifact_fixtures import (
    edit_manifest,
    make_artifact,
    manifest,
    model,
    older_document,
    snapshot,
)

FORMAT: dict[str, Any] = {
    "files": ["model.pt"],
    "ops": "native",
    "tools": {},
    "machine": {},
    "details": {},
    "parity": None,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "artifact", files={"tokenizer.json": b"{}"})


def refused(folder: Path, said: str) -> None:
    """Opening fails with an error of one line that matches `said`, and changes no file."""
    before = snapshot(folder)
    with pytest.raises(ArtifactError, match=said) as caught:
        Artifact.open(folder)
    assert "\n" not in str(caught.value)
    assert snapshot(folder) == before


def reseal(folder: Path) -> None:
    """Make the manifest agree with the files, as a forger would."""
    write_manifest(folder, manifest(record_files(folder)))


def test_an_artifact_opens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(folder)
    monkeypatch.chdir(folder.parent)
    artifact = Artifact.open("artifact")
    assert artifact.path == folder
    assert artifact.format_path("onnx") == folder / "model.onnx"
    assert artifact.signature.vocab_size == 256
    assert artifact.file("tokenizer.json") == folder / "tokenizer.json"
    assert artifact.file("spiece.model") is None
    assert snapshot(folder) == before


def test_the_manifest_survives_json(folder: Path) -> None:
    original = manifest(record_files(folder))
    document = json.loads(json.dumps(original.to_json()))
    assert Manifest.from_json(document) == original
    assert document["schema_version"] == 3
    assert set(document["files"]) == {"config.json", "model.onnx", "tokenizer.json"}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("external", [False, True])
def test_an_older_manifest(tmp_path: Path, version: int, external: bool) -> None:
    folder = make_artifact(tmp_path / "artifact", external=external, files={"model.pt": b"x"})
    record = FormatRecord(("model.pt",), "portable", {"torch": "2.13"}, {"architecture": "z80"})
    with_onnx = manifest(record_files(folder))
    wanted = dataclasses.replace(with_onnx, formats={**with_onnx.formats, "torchscript": record})
    (folder / "manifest.json").write_text(json.dumps(older_document(wanted, version)))
    artifact = Artifact.open(folder)
    assert artifact.manifest == wanted
    assert artifact.formats == ("onnx", "torchscript")


def test_the_first_manifests_knew_no_other_formats(folder: Path) -> None:
    wanted = manifest(record_files(folder))
    document = older_document(wanted, 1)
    assert document.pop("formats") == {}
    (folder / "manifest.json").write_text(json.dumps(document))
    assert Artifact.open(folder).manifest == wanted


def test_an_artifact_without_onnx(folder: Path) -> None:
    (folder / "model.onnx").rename(folder / "model.pt")
    record = FormatRecord(("model.pt",), "portable", {"torch": "2.13"}, {"architecture": "z80"})
    wanted = dataclasses.replace(manifest(record_files(folder)), formats={"torchscript": record})
    for document in (wanted.to_json(), older_document(wanted, 2)):
        (folder / "manifest.json").write_text(json.dumps(document))
        artifact = Artifact.open(folder)
        assert artifact.manifest == wanted
        assert artifact.formats == ("torchscript",)
        assert artifact.format_path("torchscript") == folder / "model.pt"


def test_unknown_keys_of_the_same_schema_are_left_alone(folder: Path) -> None:
    edit_manifest(folder, later="addition")
    assert Artifact.open(folder)


def test_a_file_the_manifest_does_not_list_is_no_part_of_the_artifact(folder: Path) -> None:
    (folder / "spiece.model").write_bytes(b"x")
    assert Artifact.open(folder).file("spiece.model") is None


def test_a_changed_byte(folder: Path) -> None:
    path = folder / "model.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    refused(folder, r"model\.onnx has sha256 .* and the manifest says .* export the model again")
    assert Artifact.open(folder, check_hashes=False)


@pytest.mark.parametrize("check_hashes", [True, False])
def test_a_truncated_file(folder: Path, check_hashes: bool) -> None:
    path = folder / "model.onnx"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArtifactError, match=r"bytes and the manifest says .* it was cut"):
        Artifact.open(folder, check_hashes=check_hashes)


def test_what_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"there is no artifact at .* to-onnx"):
        Artifact.open(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match="is a file; an artifact is a folder"):
        Artifact.open(tmp_path / "file")
    with pytest.raises(ArtifactError, match=r"has no manifest\.json"):
        Artifact.open(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", r"manifest\.json must be an object, found a list"),
        (b"{}", r"manifest\.json\.schema_version is missing"),
        (b" " * (16 * 2**20 + 1), "is no manifest"),
    ],
)
def test_a_malformed_manifest(folder: Path, content: bytes, said: str) -> None:
    (folder / "manifest.json").write_bytes(content)
    refused(folder, said)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema_version": 4}, r"schema version 4 .* reads up to 3: pip install --upgrade"),
        ({"schema_version": "1"}, "schema_version must be an integer, found a string"),
        ({"schema_version": 0}, "schema_version must be at least 1"),
        ({"task": None}, r"manifest\.json\.task must be a string, found null"),
        ({"ops": {"domain": "reformer"}}, r"ops\.versions is missing"),
        ({"hashing": 3}, r"manifest\.json\.hashing must be an object, found 3"),
        ({"files": {"model.onnx": {"sha256": "x", "bytes": -1}}}, "bytes must be at least 0"),
        ({"files": {"model.onnx": "x"}}, r"files\.model\.onnx must be an object"),
        ({"files": {}}, r"says that onnx is in 'model\.onnx', which it does not list"),
        ({"formats": {}}, "lists no model: export again"),
        ({"formats": []}, "formats must be an object, found a list"),
        ({"formats": {"aoti": {"files": 1}}}, r"aoti\.files must be a list, found 1"),
        ({"formats": {"aoti": {"files": [1]}}}, r"aoti\.files\[0\] must be a string, found 1"),
        ({"formats": {"aoti": {**FORMAT, "files": []}}}, r"aoti\.files must hold at least 1"),
        (
            {"formats": {"aoti": {**FORMAT, "parity": []}}},
            r"aoti\.parity must be an object, found a list",
        ),
        (
            {"formats": {"aoti": {**FORMAT, "tools": {"torch": 2}}}},
            r"aoti\.tools\.torch must be a string, found 2",
        ),
        (
            {"formats": {"aoti": {**FORMAT, "files": ["../outside"]}}},
            r"says that aoti is in '\.\./outside', which it does not list",
        ),
    ],
)
def test_a_manifest_of_the_wrong_shape_names_the_field(
    folder: Path, changes: dict, said: str
) -> None:
    edit_manifest(folder, **changes)
    refused(folder, said)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../secret", "/etc/passwd", "a/b", "a\\b", "..\\b", "c:b", "a\nb", "a\0b"],
)
def test_names_that_leave_the_folder_or_could(folder: Path, name: str) -> None:
    (folder.parent / "secret").write_bytes(b"x")
    files = {n: {"sha256": r.sha256, "bytes": r.bytes} for n, r in record_files(folder).items()}
    edit_manifest(folder, files={**files, name: {"sha256": "x", "bytes": 1}})
    refused(folder, "is not a plain file name")


def test_a_listed_file_that_is_missing(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    refused(folder, r"'tokenizer\.json' is missing")


def test_a_manifest_that_lists_itself(folder: Path) -> None:
    files = {n: FileRecord("x", 1) for n in ("manifest.json", "model.onnx")}
    write_manifest(folder, manifest(files))
    refused(folder, "lists itself")


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "tokenizer.json"])
def test_a_link_that_leaves_the_folder(folder: Path, name: str) -> None:
    (folder / name).rename(folder.parent / "outside")
    (folder / name).symlink_to("../outside")
    refused(folder, "is a link that leaves the folder")


def test_a_link_that_stays_inside(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "kept")
    (folder / "tokenizer.json").symlink_to("kept")
    assert Artifact.open(folder).file("tokenizer.json")


def test_a_link_to_itself_and_a_broken_one(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to("tokenizer.json")
    refused(folder, "cannot be read")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to("absent")
    refused(folder, "is missing")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_regular_file(folder: Path, make: Callable[[Path], None]) -> None:
    (folder / "tokenizer.json").unlink()
    make(folder / "tokenizer.json")
    refused(folder, "is not a regular file")


def test_the_folder_itself_may_be_a_link(folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    assert Artifact.open(folder.parent / "link").path == folder


@pytest.mark.parametrize(
    ("content", "said"), [(b"\xff" * 99, "is not an ONNX model"), (b"", "holds no graph")]
)
def test_a_model_that_is_none(folder: Path, content: bytes, said: str) -> None:
    (folder / "model.onnx").write_bytes(content)
    reseal(folder)
    refused(folder, said)


def test_external_data(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "artifact", external=True)
    size = (folder / "model.onnx_data").stat().st_size
    assert size >= 256 * 256 * 4
    assert check_external_data(folder / "model.onnx") == {"model.onnx_data": size}
    assert "model.onnx_data" in Artifact.open(folder).manifest.files


def external(location: str, *, dims: tuple[int, ...] = (4,), **entries: object) -> TensorProto:
    """A float32 tensor that declares external data."""
    tensor = TensorProto(
        name="weight", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL
    )
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def forge(folder: Path, tensor: TensorProto, place: str = "initializer") -> None:
    """Put `tensor` into the model at `place`, and make the manifest agree."""
    forged = model()
    constant = helper.make_node("Constant", [], ["w"], value=tensor)
    match place:
        case "initializer":
            forged.graph.initializer.append(tensor)
        case "attribute":
            forged.graph.node.append(constant)
        case "function":
            forged.functions[0].node.append(constant)
        case "subgraph":
            branch = helper.make_graph([constant], "b", [], [])
            inner = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
            outer = helper.make_graph([inner], "o", [], [])
            forged.graph.node.add(op_type="Loop").attribute.add(
                name="body", type=onnx.AttributeProto.GRAPH, g=outer
            )
        case "graphs":
            branch = helper.make_graph([], "b", [], [], [tensor])
            forged.graph.node.add(op_type="X").attribute.add(
                name="a", type=onnx.AttributeProto.GRAPHS, graphs=[branch]
            )
        case "tensors":
            forged.graph.node.add(op_type="X").attribute.add(
                name="a", type=onnx.AttributeProto.TENSORS, tensors=[tensor]
            )
        case "sparse":
            indices = numpy_helper.from_array(np.arange(4))
            forged.graph.sparse_initializer.add(values=tensor, indices=indices, dims=[9])
        case "default":
            forged.functions[0].attribute_proto.add(
                name="a", type=onnx.AttributeProto.TENSOR, t=tensor
            )
        case "training":
            forged.training_info.add().algorithm.initializer.append(tensor)
    (folder / "model.onnx").write_bytes(forged.SerializeToString())
    reseal(folder)


PLACES = (
    *("initializer", "attribute", "function", "subgraph", "graphs"),
    *("tensors", "sparse", "default", "training"),
)


@pytest.mark.parametrize("place", PLACES)
def test_external_data_is_found_wherever_it_hides(folder: Path, place: str) -> None:
    (folder / "weights").write_bytes(b"\0" * 16)
    forge(folder, external("weights"), place)
    assert check_external_data(folder / "model.onnx") == {"weights": 16}
    forge(folder, external("../weights"), place)
    refused(folder, r"keeps its data in '\.\./weights', which is no file of this artifact")


@pytest.mark.parametrize(
    "location",
    ["", ".", "..", "../outside", "/etc/passwd", "sub/x", "sub\\x", "*/_ORT_MEM_ADDR_/*", "absent"],
)
def test_external_data_outside_the_folder(folder: Path, location: str) -> None:
    (folder.parent / "outside").write_bytes(b"\0" * 16)
    forge(folder, external(location))
    refused(folder, "which is no file of this artifact")
    # The same check applies to a model without a manifest.
    with pytest.raises(ArtifactError, match=r"plain file name|is missing"):
        check_external_data(folder / "model.onnx")


def test_external_data_in_a_file_that_is_there_but_not_listed(folder: Path) -> None:
    forge(folder, external("weights"))
    (folder / "weights").write_bytes(b"\0" * 16)
    refused(folder, "'weights', which is no file of this artifact")


def test_external_data_through_a_link_that_leaves_the_folder(folder: Path) -> None:
    (folder.parent / "outside").write_bytes(b"\0" * 16)
    (folder / "weights").symlink_to(folder.parent / "outside")
    forge(folder, external("weights"))
    refused(folder, "is a link that leaves the folder")
    with pytest.raises(ArtifactError, match=r"tensor 'weight' of .* link that leaves"):
        check_external_data(folder / "model.onnx")


def test_external_data_without_a_declared_location_type(folder: Path) -> None:
    """A reader that uses only the entries must not open a file outside the folder."""
    tensor = external("../outside")
    tensor.ClearField("data_location")
    forge(folder, tensor)
    refused(folder, "which is no file of this artifact")


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"offset": 0, "length": 16}, ""),
        ({"offset": 4, "length": 16}, "wants bytes 4 to 20 of 'weights', which has 16"),
        ({"offset": 4}, "wants bytes 4 to 20"),
        ({"offset": 2**64}, "wants bytes"),
        ({"length": 17}, "wants bytes 0 to 17"),
        ({"length": 2**63}, "wants bytes"),
        ({"length": 15}, "16 bytes, and declares 15"),
        ({"offset": -4}, "malformed offset, length or type: '-4' is not a count"),
        ({"offset": "1_0"}, "malformed"),
        ({"offset": ""}, "malformed"),
        ({"length": "0x10"}, "malformed"),
        ({"dims": (2**40,)}, "wants bytes 0 to 4398046511104"),
        ({"dims": (-4,)}, r"has shape \[-4\]"),
        ({"dims": (-2, -2)}, r"has shape \[-2, -2\]"),
    ],
)
def test_external_data_beyond_its_file(folder: Path, entries: dict, said: str) -> None:
    (folder / "weights").write_bytes(b"\0" * 16)
    forge(folder, external("weights", **entries))
    if said:
        refused(folder, said)
    else:
        assert Artifact.open(folder)


@pytest.mark.parametrize("kind", [TensorProto.STRING, TensorProto.UNDEFINED, 999])
def test_external_data_of_no_known_size(folder: Path, kind: int) -> None:
    (folder / "weights").write_bytes(b"\0" * 16)
    tensor = external("weights")
    tensor.data_type = kind
    forge(folder, tensor)
    refused(folder, "malformed offset, length or type")


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (TensorProto.FLOAT, 12),
        (TensorProto.BFLOAT16, 6),
        (TensorProto.INT64, 24),
        (TensorProto.BOOL, 3),
        (TensorProto.INT4, 2),
    ],
)
def test_the_size_of_a_tensor_follows_its_type(kind: int, size: int) -> None:
    assert tensor_bytes(TensorProto(data_type=kind, dims=[3])) == size
