"""Pages without a browser: refusals, graphs and weights, the server."""

from __future__ import annotations

import dataclasses
import http.client
import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import onnx
import pytest

from reformer_export import open_generator, open_runner, to_web
from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import WEB, FormatRecord, record_files, write_manifest
from reformer_export.cli.main import main
from reformer_export.errors import MissingDependencyError, UsageError
from reformer_export.exporters.web import onnxruntime_web
from reformer_export.exporters.web.graphs import write_portable_graphs
from reformer_export.exporters.web.server import PageServer

from ..cli.invocation import error_line
from ..models.configs import WIDE
from ..tools.artifact_fixtures import edit_manifest, environment, make_artifact
from ..tools.model_fixtures import Fixtures, feeds, worst_error


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A folder that the server takes; nothing runs it."""
    folder = make_artifact(
        tmp_path / "page",
        files={"index.html": b"<p>page", "model.js": b"1", "a.wasm": b"2", "b.mjs": b"3"},
    )
    manifest = Artifact.open(folder).manifest
    formats = {**manifest.formats, WEB: FormatRecord(("index.html", "model.js"), "portable", {})}
    write_manifest(
        folder,
        dataclasses.replace(manifest, formats=formats, files=record_files(folder)),
    )
    return folder


@pytest.fixture
def server(page: Path) -> Iterator[PageServer]:
    made = PageServer(page)
    thread = threading.Thread(target=made.serve)
    thread.start()
    yield made
    made.close()
    thread.join()


def get(server: PageServer, path: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=10)
    connection.request("GET", path)
    return connection.getresponse()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/model.js", "text/javascript"),
        ("/b.mjs?version=1", "text/javascript"),
        ("/a.wasm", "application/wasm"),
        ("/manifest.json", "application/json"),
        ("/model.onnx", "application/octet-stream"),
    ],
)
def test_the_server_sends_the_files(server: PageServer, page: Path, path: str, kind: str) -> None:
    answer = get(server, path)
    assert (answer.status, answer.headers.get_content_type()) == (200, kind)
    assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    name = path.strip("/").partition("?")[0] or "index.html"
    assert answer.read() == (page / name).read_bytes()


@pytest.mark.parametrize(
    "path", ["/notes.txt", "/../secret.txt", "/%2e%2e/secret.txt", "//etc/passwd", "/.", "/./"]
)
def test_the_server_sends_nothing_else(server: PageServer, page: Path, path: str) -> None:
    (page / "notes.txt").write_text("not in the manifest")
    (page.parent / "secret.txt").write_text("secret")
    assert get(server, path).status == 404


def test_a_folder_that_is_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_artifact(tmp_path / "artifact")
    assert main(["serve-web", str(folder)]) == 2
    assert "holds no page: make one with reformer-export to-web" in error_line(capsys)


def test_a_port_that_is_taken(
    server: PageServer, page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = str(urlsplit(server.url).port)
    assert main(["serve-web", str(page), "--port", port]) == 1
    assert f"cannot serve at port {port}" in error_line(capsys)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "question-answering"}, "is for question-answering, and a page shows predicted"),
        ({"dtype": "bf16"}, "does not run bf16"),
    ],
)
def test_models_without_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, object], said: str
) -> None:
    folder = make_artifact(tmp_path / "artifact")
    edit_manifest(folder, **changes)
    assert main(["to-web", str(folder), str(tmp_path / "out")]) == 2
    assert said in error_line(capsys)
    assert not (tmp_path / "out").exists()


def test_a_page_of_a_page(page: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a page already"):
        to_web(page, tmp_path / "out")


def test_another_package(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = tmp_path / "onnxruntime-web.tgz"
    package.write_bytes(b"something else")
    artifact = make_artifact(tmp_path / "artifact")
    arguments = [str(artifact), str(tmp_path / "out"), "--onnxruntime-web", str(package)]
    assert main(["to-web", *arguments]) == 2
    printed = error_line(capsys)
    assert "is not the npm package onnxruntime-web 1.30.0: its hash is sha512-" in printed
    assert sorted(tmp_path.iterdir()) == [artifact, package]


def test_without_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match="npm is not installed: install npm, or give"):
        onnxruntime_web.find_package()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("options", "bound"),
    [
        ({}, 1e-6),
        pytest.param({"dtype": "fp16"}, 1e-2, marks=pytest.mark.slow),
        pytest.param({"weights": "int8"}, 1e-6, marks=pytest.mark.slow),
    ],
)
def test_graphs_share_their_weights(
    fixtures: Fixtures, tmp_path: Path, options: dict[str, Any], bound: float
) -> None:
    artifact = fixtures.decoder(WIDE if options else None, **options)
    folder = tmp_path / "page"
    folder.mkdir()
    formats = write_portable_graphs(artifact, folder)
    assert {name: record.files for name, record in formats.items()} == {
        "onnx": ("model.onnx", "model.onnx_data"),
        "decoder": (
            "decoder_model.onnx",
            "decoder_with_past_model.onnx",
            "model.onnx_data",
        ),
    }
    for name in ("model.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx"):
        model = onnx.load(folder / name, load_external_data=False)
        assert not model.functions
        assert {node.domain for node in model.graph.node} == {""}
    shared = (folder / "model.onnx_data").stat().st_size
    # The decoder needs the weights of the whole model, and nothing more.
    assert shared < 1.1 * (artifact.path / "decoder_model.onnx_data").stat().st_size

    manifest = artifact.manifest
    write_manifest(
        folder,
        dataclasses.replace(manifest, formats=formats, files=record_files(folder)),
    )
    given = feeds(50, 2)
    expected = open_runner(artifact, ops="portable").run(given)
    found = open_runner(folder, ops="portable").run(given)
    assert worst_error(found, expected) < bound
    prompt = given["input_ids"][:1]
    tokens = [open_generator(a, ops="portable").generate(prompt) for a in (artifact, folder)]
    np.testing.assert_array_equal(*tokens)


@pytest.mark.slow
def test_the_command_serves_until_it_is_interrupted(page: Path) -> None:
    command = [sys.executable, "-m", "reformer_export", "serve-web", str(page), "--port", "0"]
    started = subprocess.Popen(
        [*command, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()
    )
    assert started.stdout is not None
    lines = iter(started.stdout.readline, b"}\n")
    url = json.loads(b"".join([*lines, b"}"]))["url"]
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.read() == b"<p>page"
    started.send_signal(signal.SIGINT)
    assert started.wait(timeout=10) == 0
    assert started.communicate()[1] == b""
