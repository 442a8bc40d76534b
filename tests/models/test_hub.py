"""Opens checkpoints by their hub name, from a test hub on this machine or from the cache.

Each call opens them in a new process, because huggingface_hub reads its settings at import.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

NOWHERE = "http://127.0.0.1:9"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "someone/reformer"
FILES = {
    "README.md": b"# A Reformer\n",
    "config.json": b'{"model_type": "reformer", "architectures": ["ReformerModel"]}',
    "model.safetensors": b"safe",
    "pytorch_model.bin": b"pickled",
    "tokenizer.json": b"{}",
}

OPEN = """
import json, sys
from reformer_models.checkpoints import open_checkpoint
from reformer_models.errors import CheckpointError
try:
    opened = open_checkpoint(sys.argv[1], revision=sys.argv[2] if len(sys.argv) > 2 else None)
except CheckpointError as error:
    print(json.dumps({"error": str(error)}))
else:
    print(json.dumps({
        "source": opened.source,
        "directory": str(opened.directory),
        "revision": opened.revision,
        "files": [path.name for path in opened.files],
        "held": sorted(path.name for path in opened.directory.iterdir()),
    }))
"""


@dataclass
class Hub:
    """The part of the hub's protocol that a download uses, for one model with one commit."""

    files: dict[str, bytes]
    status: int = 200
    sent: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """The status, headers and body for a path."""
        if self.status != 200:
            return self.status, {}, b""
        api, tree = f"/api/models/{MODEL}/revision/", f"/api/models/{MODEL}/tree/{COMMIT}"
        resolve = f"/{MODEL}/resolve/{COMMIT}/"
        if path.startswith(api) and path.removeprefix(api) in ("main", COMMIT):
            return 200, {}, json.dumps({"id": MODEL, "sha": COMMIT, "siblings": []}).encode()
        if path.startswith(api):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b""
        if path == tree:
            entries = [
                {"type": "file", "path": name, "size": len(held), "oid": self.etag(held)}
                for name, held in self.files.items()
            ]
            return 200, {}, json.dumps(entries).encode()
        held = self.files.get(path.removeprefix(resolve))
        if held is None:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        return 200, {"X-Repo-Commit": COMMIT, "ETag": f'"{self.etag(held)}"'}, held

    @staticmethod
    def etag(held: bytes) -> str:
        """The hub's identifier of a file: the hash of its content that git computes."""
        return hashlib.sha1(b"blob %d\0" % len(held) + held).hexdigest()


@pytest.fixture
def hub() -> Iterator[Hub]:
    state = Hub(dict(FILES))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            status, headers, held = state.answer(path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(held))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(held)
                if "/resolve/" in path:
                    state.sent.append(path.rpartition("/")[2])

        def do_HEAD(self) -> None:
            self.respond(body=False)

        def do_GET(self) -> None:
            self.respond(body=True)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def run(home: Path, *arguments: str, url: str = NOWHERE, **env: str) -> dict[str, object]:
    """Open a checkpoint in a process with the hub at `url` and the cache in `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    direct = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1")
    settings = {"HF_HOME": str(home), "HF_ENDPOINT": url, **direct, **env}
    done = subprocess.run(
        [sys.executable, "-c", OPEN, *arguments],
        env={**kept, **settings},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    if "error" in result:
        assert "\n" not in str(result["error"])
    return result


def test_download(hub: Hub, tmp_path: Path) -> None:
    opened = run(tmp_path, MODEL, url=hub.url)
    assert opened["source"] == MODEL
    assert opened["revision"] == COMMIT
    assert opened["files"] == ["config.json", "model.safetensors"]
    assert opened["held"] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert "pytorch_model.bin" not in hub.sent
    # Now the cache holds the files, so no hub is needed.
    assert run(tmp_path, MODEL, HF_HUB_OFFLINE="1") == opened
    assert run(tmp_path, MODEL, COMMIT) == opened


def test_download_of_pickled_weights_alone(hub: Hub, tmp_path: Path) -> None:
    del hub.files["model.safetensors"]
    opened = run(tmp_path, MODEL, "main", url=hub.url)
    assert opened["files"] == ["config.json", "pytorch_model.bin"]
    assert opened["revision"] == COMMIT
    assert sorted(hub.sent) == ["config.json", "pytorch_model.bin", "tokenizer.json"]
    assert run(tmp_path, MODEL, HF_HUB_OFFLINE="1") == opened


def test_model_without_weights(hub: Hub, tmp_path: Path) -> None:
    del hub.files["model.safetensors"], hub.files["pytorch_model.bin"]
    assert "holds no weights" in str(run(tmp_path, MODEL, url=hub.url)["error"])


@pytest.mark.parametrize(
    ("name", "revision", "message"),
    [
        ("someone/else", None, "neither a folder here nor a model on the hub; check the name"),
        (MODEL, "v9", "the model exists, but not that revision"),
        ("some one/reformer", None, "neither a folder here nor a name on the hub"),
        ("someone/", None, "neither a folder here nor a name on the hub"),
    ],
)
def test_no_such_model(
    name: str, revision: str | None, message: str, hub: Hub, tmp_path: Path
) -> None:
    arguments = [name] if revision is None else [name, revision]
    error = str(run(tmp_path, *arguments, url=hub.url)["error"])
    assert message in error
    assert name in error


def test_offline(tmp_path: Path) -> None:
    error = str(run(tmp_path, MODEL, HF_HUB_OFFLINE="1")["error"])
    assert error == (
        "someone/reformer is neither a folder here nor in the hub's cache, and the hub is out of "
        "reach (HF_HUB_OFFLINE is set); name a folder, or download it first"
    )


def test_hub_out_of_reach(hub: Hub, tmp_path: Path) -> None:
    assert "the hub is out of reach" in str(run(tmp_path, MODEL)["error"])
    hub.status = 418
    assert "the hub is out of reach" in str(run(tmp_path, MODEL, url=hub.url)["error"])
