"""`verify --matrix`: the table, the document, the page, and its failures."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from reformer_export import to_torchscript
from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import record_files, write_manifest
from reformer_export.cli.main import main
from reformer_export.errors import UsageError
from reformer_export.host.cpp_program import VARIABLE
from reformer_export.host.optional import installed
from reformer_export.verification.matrix import MatrixReport, verify_matrix, write_matrix
from reformer_export.verification.matrix.page import page

from ...runtimes.programs import built

LENGTHS = (1, 13, 64)
GENERATING = [
    f"{runtime} {ops}, generating"
    for runtime in ("onnxruntime", "torchscript")
    for ops in ("native", "portable")
]
WITHOUT_PYTHON = ["cpp-onnxruntime native", "cpp-onnxruntime portable"]


@pytest.fixture(scope="module", autouse=True)
def no_program() -> Iterator[None]:
    """Hide the C++ runtime, which is slow (a process for each call), except in tests of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "/nowhere")
        yield


@pytest.fixture(scope="module")
def report(no_program: None, artifact: Artifact, portable: Artifact) -> MatrixReport:
    return verify_matrix([artifact.path, portable.path], lengths=LENGTHS)


def test_every_runtime_is_in_it(report: MatrixReport) -> None:
    assert report.passed, report.summary
    optional = ["openvino portable"] if installed("openvino") else []
    assert [contender.name for contender in report.running] == [
        "torch portable",
        "transformers",
        "onnxruntime native",
        "onnxruntime portable",
        "aoti native",
        "torchscript native",
        "torchscript portable",
        *optional,
        *GENERATING,
    ]
    names = ["torch", *(each.name for each in report.running if not each.generates)]
    met = {(pair.first, pair.second, pair.length) for pair in report.pairs}
    assert met == {(*two, n) for two in itertools.combinations(names, 2) for n in LENGTHS}
    for pair in report.pairs:
        assert pair.inputs == 4  # two batches, two seeds
        assert pair.equal == 4
        assert pair.error is not None
        assert pair.error < 2e-6
    ran = 7 + len(optional)
    said = f"{ran} runtimes equal to torch and to each other at 3 lengths, 4 of them generating"
    assert report.summary.startswith(said)
    names = [contender.name for contender in report.contenders if not contender.ran]
    torchscript = [name.replace("onnxruntime", "torchscript") for name in WITHOUT_PYTHON]
    absent = [] if optional else ["openvino portable"]
    assert names == [*absent, "executorch", *WITHOUT_PYTHON, *torchscript]
    said = "no reformer-run that runs onnxruntime is here: there is none at /nowhere"
    assert said in " ".join(report.absent())


def test_what_generates_is_compared_at_every_length(report: MatrixReport) -> None:
    generating = [contender for contender in report.running if contender.generates]
    assert [contender.name for contender in generating] == GENERATING
    for contender in generating:
        assert [row.length for row in contender.rows] == [1, 1, 13, 13, 64, 64]  # two seeds
        assert all(row.decisions > 0 and row.fixed_error < 1e-5 for row in contender.rows)


def check_without_python(report: MatrixReport, names: list[str]) -> None:
    """Assert that these passed, with their hash decisions, and were compared with torch."""
    assert report.passed, report.summary
    found = {contender.name: contender for contender in report.running}
    assert set(names) == {name for name in found if name.startswith("cpp-")}
    for name in names:
        assert sum(row.decisions for row in found[name].rows) > 0
        assert (found[name].description or "").startswith("reformer-run ")
        assert {pair.first for pair in report.pairs if pair.second == name} >= {"torch"}


def test_without_python(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(built() / "reformer-run"))
    check_without_python(verify_matrix([artifact.path], lengths=[13], batches=[1]), WITHOUT_PYTHON)


@pytest.mark.slow
def test_all_without_python(
    artifact: Artifact, portable: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(built("--torch") / "reformer-run"))
    names = [*WITHOUT_PYTHON, *(n.replace("onnxruntime", "torchscript") for n in WITHOUT_PYTHON)]
    check_without_python(verify_matrix([artifact.path, portable.path], lengths=LENGTHS), names)


def test_the_document(report: MatrixReport) -> None:
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert set(document) == {
        *("schema_version", "passed", "summary", "created", "artifacts", "model", "environment"),
        *("tolerance", "lengths", "reference", "contenders", "pairs"),
    }
    described = (Path(__file__).parents[3] / "docs" / "matrix.md").read_text()
    for key in document:
        assert f"`{key}`" in described
    for part in ("contenders", "pairs", "artifacts"):
        for key in document[part][0]:
            assert f"`{key}`" in described, key
    for key in document["contenders"][0]["rows"][0]:
        assert f"`{key}`" in described, key
    assert document["environment"]["packages"]["torch"]
    assert len(document["artifacts"]) == 2


class Page(HTMLParser):
    """Checks that tags are balanced, and collects the tags and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._open: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_stands_alone(report: MatrixReport, tmp_path: Path) -> None:
    document, html = write_matrix(tmp_path, report)
    assert (document.name, html.name) == ("matrix.json", "matrix.html")
    assert json.loads(document.read_text()) == json.loads(json.dumps(report.to_json()))
    found = Page(html.read_text())
    tags = [tag for tag, _ in found.found]
    assert not {"script", "link", "img", "iframe"} & set(tags)
    for _, attributes in found.found:
        assert not {"src", "href"} & set(attributes)
    assert "url(" not in html.read_text()
    assert "@import" not in html.read_text()
    assert tags.count("svg") == len(report.running)
    circles = [a for tag, a in found.found if tag == "circle"]
    assert len(circles) == sum(len(contender.rows) for contender in report.contenders)
    for circle in circles:
        assert 0 < float(circle["cx"] or 0) < 320
        assert 0 < float(circle["cy"] or 0) < 190
    text = " ".join(found.text)
    for contender in report.contenders:
        assert contender.name in text
    assert report.summary in text
    assert report.environment["cpu"] in text


def test_names_are_not_markup(report: MatrixReport) -> None:
    odd = dataclasses.replace(
        report.contenders[0], name="<script>alert('x')</script>", description='"><b>'
    )
    changed = dataclasses.replace(report, contenders=(odd, *report.contenders[1:]))
    found = Page(page(changed))
    assert not {"script", "b"} & {tag for tag, _ in found.found}
    assert "<script>alert('x')</script>" in found.text


def test_what_does_not_run_says_why(portable: Artifact) -> None:
    report = verify_matrix([portable.path], lengths=[5], batches=[1])
    assert report.passed
    absent = " ".join(report.absent())
    assert "onnxruntime did not run: there is no onnx here: reformer-export to-onnx adds" in absent
    assert "aoti did not run: there is no aoti here: reformer-export to-aoti adds it" in absent
    assert {c.name for c in report.running} == {
        "torch portable",
        "transformers",
        "torchscript portable",
        "torchscript portable, generating",
    }
    assert "did not run" in page(report)


@pytest.fixture(scope="module")
def wrong(source: Path, artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """TorchScript of another model, with a manifest that claims that it is this model."""
    folder = tmp_path_factory.mktemp("wrong")
    other = to_torchscript(source, folder / "out", verify=False, hash_seed=99)
    manifest = dataclasses.replace(
        other.manifest, hashing=artifact.manifest.hashing, files=record_files(other.path)
    )
    write_manifest(other.path, manifest)
    return Artifact.open(other.path)


def test_a_miss(wrong: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["verify", str(wrong.path), "--matrix", "--lengths", "13", "--batch", "1"]
    assert main([*arguments, "--out", str(tmp_path / "new" / "matrix")]) == 3
    printed = capsys.readouterr().out
    assert "MISS" in printed
    assert "parity miss: torchscript native: a bucket differs although" in printed
    document = json.loads((tmp_path / "new" / "matrix" / "matrix.json").read_text())
    assert document["passed"] is False
    bad = [c for c in document["contenders"] if c["passed"] is False]
    assert [c["name"] for c in bad] == ["torchscript native"]
    assert {p["passed"] for p in document["pairs"] if "torchscript native" in p.values()} == {False}
    assert {p["passed"] for p in document["pairs"] if "torchscript native" not in p.values()} == {
        True
    }
    found = Page((tmp_path / "new" / "matrix" / "matrix.html").read_text())
    assert any((a.get("class") or "") == "dot miss" for _, a in found.found)
    assert any((a.get("class") or "") == "verdict bad" for _, a in found.found)


def test_numbers_that_are_none(report: MatrixReport) -> None:
    """An infinite error is drawn at the top and written as null."""
    contender = report.contenders[0]
    row = dataclasses.replace(contender.rows[0], fixed_error=math.inf, misses=("it broke",))
    changed = dataclasses.replace(contender, rows=(row, *contender.rows[1:]))
    broken = dataclasses.replace(report, contenders=(changed, *report.contenders[1:]))
    assert json.loads(json.dumps(broken.to_json(), allow_nan=False))
    assert not broken.passed
    Page(page(broken))


def test_models_are_not_mixed(source: Path, artifact: Artifact, tmp_path: Path) -> None:
    other = to_torchscript(source, tmp_path / "out", verify=False, dtype="fp16")
    with pytest.raises(UsageError, match="an artifact with another dtype"):
        verify_matrix([artifact.path, other.path])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--out", "x"], "--out go with --matrix"),
        (["--matrix", "--runtime", "torch"], "--matrix takes every runtime"),
        (["--matrix", "--ops", "native"], "--matrix takes every runtime"),
    ],
)
def test_usage(
    portable: Artifact, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["verify", str(portable.path), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_json_and_table(portable: Artifact, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["verify", str(portable.path), "--matrix", "--lengths", "1,13", "--batch", "1"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    for name in ("torchscript portable", "transformers", "3 runtimes equal to torch"):
        assert name in printed
    assert main([*arguments, "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["passed"] is True
    assert re.fullmatch(r"[0-9a-f]{64}", document["artifacts"][0]["manifest_sha256"])


def test_a_folder_that_cannot_be(
    portable: Artifact, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    out = str(tmp_path / "file" / "under")
    assert main(["verify", str(portable.path), "--matrix", "--out", out]) == 2
    assert "name a folder" in capsys.readouterr().err
