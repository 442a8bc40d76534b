"""A page in Firefox, for tests, by WebDriver BiDi: https://www.w3.org/TR/webdriver-bidi.

Playwright needs a Firefox of its own. WebDriver BiDi works with the Firefox of the system.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reformer_export.host.optional import installed

from .browser import OpenPage, missing_package, served

_SECONDS = 120.0
"""How long one answer of Firefox may take: a machine may be busy."""


def missing() -> str | None:
    """Why pages cannot be tested in Firefox here; None if they can."""
    if _program() is None:
        return "there is no firefox: apt-get install firefox-esr"
    if not installed("websockets"):
        return "websockets is not installed: make test-browser installs it"
    return missing_package()


class FirefoxTab(OpenPage):
    """A page that is open in Firefox; `socket` is the connection to the browser."""

    def __init__(self, socket: Any, url: str) -> None:
        super().__init__()
        self._socket = socket
        self._url = url
        self._sent = 0
        self._send("session.new", capabilities={})
        self._context = self._send("browsingContext.create", type="tab")["context"]
        events = ["log.entryAdded", "network.beforeRequestSent"]
        self._send("session.subscribe", events=events, contexts=[self._context])
        self._send("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def run(self, body: str, **values: Any) -> Any:
        answer = self._send(
            "script.callFunction",
            # JSON in both directions: BiDi has its own notation of objects.
            functionDeclaration=f"""async (text) => {{
                const call = async (given) => {{ {body} }};
                return JSON.stringify((await call(JSON.parse(text))) ?? null);
            }}""",
            arguments=[{"type": "string", "value": json.dumps(values)}],
            awaitPromise=True,
            target={"context": self._context},
        )
        if answer["type"] == "exception":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        return json.loads(answer["result"]["value"])

    def close(self) -> None:
        """End Firefox."""
        self._send("browser.close")

    def _send(self, method: str, **params: Any) -> Any:
        """Send a command; returns its result, and reads the events that come before it."""
        self._sent += 1
        self._socket.send(json.dumps({"id": self._sent, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(timeout=_SECONDS))
            if message["type"] == "event":
                self._read_event(message["method"], message["params"])
            elif message["type"] == "error":
                raise RuntimeError(f"{method}: {message['error']}: {message['message']}")
            else:
                return message["result"]

    def _read_event(self, name: str, params: Any) -> None:
        if name == "log.entryAdded":
            if params["level"] in ("error", "warn"):
                self.problems.append(f"{params['level']}: {params['text']}")
        elif name == "network.beforeRequestSent":
            url = params["request"]["url"]
            if not url.startswith((self._url, "data:")):
                self.problems.append(f"request to {url}")


@contextmanager
def firefox_tab(folder: Path) -> Iterator[FirefoxTab]:
    """The page in a folder, served and opened in a new Firefox without a window.

    Raises:
        AssertionError: the page had an error or sent a request to another place.
    """
    from websockets.sync.client import connect

    with served(folder) as url, _firefox() as address, connect(address, max_size=None) as socket:
        opened = FirefoxTab(socket, url)
        yield opened
        opened.close()  # reads the events that came last, too
        assert opened.problems == []


@contextmanager
def _firefox() -> Iterator[str]:
    """Start Firefox with an empty profile; gives the address of its WebDriver BiDi."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                str(_program()),
                "--headless",
                "--no-remote",
                *("--profile", profile),
                *("--remote-debugging-port", "0"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield _address(process, Path(profile) / "WebDriverBiDiServer.json")
            process.wait(_SECONDS)
        finally:
            process.kill()  # does nothing after a process has ended
            process.wait()


def _address(process: subprocess.Popen[bytes], file: Path) -> str:
    """Wait until Firefox has written its port to a file."""
    end = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            server = json.loads(file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):  # not written, or a part only
            time.sleep(0.05)
        else:
            return f"ws://{server['ws_host']}:{server['ws_port']}/session"
    raise RuntimeError(f"Firefox did not start: exit code {process.returncode}")


def _program() -> str | None:
    return shutil.which("firefox-esr") or shutil.which("firefox")
