"""Serves a page to browsers on this machine."""

from __future__ import annotations

import os
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import MANIFEST, WEB
from reformer_export.errors import RuntimeUnavailableError, UsageError

_HOST = "127.0.0.1"
_HEADERS = {
    # Both isolate the page from other sites; only then browsers let WebAssembly use threads.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


class PageServer:
    """A server for one page. Only this machine can reach it.

    Attributes:
        url: the address to open in a browser.
    """

    def __init__(self, folder: str | os.PathLike[str], *, port: int = 0) -> None:
        """Open the page in `folder` and reserve the port; 0 takes any free port.

        Raises:
            UsageError: the folder holds no page.
            ArtifactError: the folder is not a valid artifact.
            RuntimeUnavailableError: the port cannot be used.
        """
        page = Artifact.open(folder)
        if WEB not in page.formats:
            raise UsageError(
                f"{page.path} holds no page: make one with reformer-export to-web {page.path} OUT"
            )
        names = {MANIFEST, *page.manifest.files}

        class Handler(_Handler):
            files = frozenset(names)

            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments, directory=str(page.path))

        try:
            self._server = ThreadingHTTPServer((_HOST, port), Handler)
        except OSError as error:
            raise RuntimeUnavailableError(
                f"cannot serve at port {port}: {error.strerror}; choose another one with --port"
            ) from error
        self.url = f"http://{_HOST}:{self._server.server_port}/"

    def serve(self) -> None:
        """Answer requests until `close` is called in another thread, or an exception arrives."""
        with self._server:
            self._server.serve_forever()

    def close(self) -> None:
        """End `serve`."""
        self._server.shutdown()


_TYPES = {
    **SimpleHTTPRequestHandler.extensions_map,
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
}


class _Handler(SimpleHTTPRequestHandler):
    """Answers requests for the files of the manifest, and for no others."""

    files: frozenset[str] = frozenset()
    extensions_map = _TYPES

    def send_head(self) -> Any:
        name = unquote(urlsplit(self.path).path).removeprefix("/") or "index.html"
        if name not in self.files:
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        self.path = f"/{name}"
        return super().send_head()

    def end_headers(self) -> None:
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def copyfile(self, source: Any, outputfile: Any) -> None:
        try:
            super().copyfile(source, outputfile)
        except ConnectionError:  # the browser has closed the page
            self.close_connection = True

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""
