"""A page in a browser, for tests: what all browsers share, and Chromium by Playwright."""

from __future__ import annotations

import base64
import shutil
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from reformer_export.exporters.web.onnxruntime_web import cached_package
from reformer_export.exporters.web.server import PageServer
from reformer_export.host.optional import installed

GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan")
"""Arguments of Chromium for WebGPU without a GPU."""


def missing() -> str | None:
    """Why pages cannot be tested in Chromium here; None if they can."""
    if shutil.which("chromium") is None:
        return "there is no chromium: apt-get install chromium"
    if not installed("playwright"):
        return "playwright is not installed: make test-browser installs it"
    return missing_package()


def missing_package() -> str | None:
    """Why no page can be made for a test here; None if it can."""
    if not cached_package().is_file():
        return "the npm package onnxruntime-web is not in the cache: make test-browser downloads it"
    return None


class OpenPage(ABC):
    """A page that is open in a browser.

    Attributes:
        problems: everything that went wrong in the page: errors, warnings, requests to other sites.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []

    @abstractmethod
    def run(self, body: str, **values: Any) -> Any:
        """Run the body of an async function in the page; `given` holds the values."""

    def logits(self, engine: str, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
        """Run the model on `[batch, length]` token ids and a mask; returns its logits."""
        batch, length = feeds["input_ids"].shape
        found = self.run(
            """
            const { LanguageModel } = await import(new URL("model.js", location.href).href);
            window.models ??= {};
            const model = (window.models[given.engine] ??= await LanguageModel.open(given.engine));
            const { ids, mask, batch } = given;
            const { logits, shape } = await model.predict(ids, { mask, batch });
            const bytes = new Uint8Array(logits.buffer, logits.byteOffset, logits.byteLength);
            let text = "";
            for (let i = 0; i < bytes.length; i += 8192) {
              text += String.fromCharCode(...bytes.subarray(i, i + 8192));
            }
            return { shape: [...shape], data: btoa(text) };
            """,
            engine=engine,
            ids=feeds["input_ids"].ravel().tolist(),
            mask=feeds["attention_mask"].ravel().tolist(),
            batch=batch,
        )
        data = np.frombuffer(base64.b64decode(found["data"]), np.float32)
        array: np.ndarray = data.reshape(found["shape"])
        assert array.shape[:2] == (batch, length)
        return array

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The token ids of texts."""
        found: list[list[int]] = self.run(
            """
            const { Description } = await import(new URL("model.js", location.href).href);
            const { openCodec } = await import(new URL("text.js", location.href).href);
            const codec = await openCodec(await Description.read());
            return given.texts.map((text) => codec.encode(new TextEncoder().encode(text)));
            """,
            texts=texts,
        )
        return found

    def generate(self, prompt: list[int], engine: str = "wasm", **settings: float) -> list[int]:
        """The tokens that follow a prompt; the greedy ones without settings."""
        found: list[int] = self.run(
            """
            const { LanguageModel } = await import(new URL("model.js", location.href).href);
            window.models ??= {};
            const model = (window.models[given.engine] ??= await LanguageModel.open(given.engine));
            const tokens = [];
            for await (const token of model.generate(given.prompt, given.settings)) {
              tokens.push(token);
            }
            return tokens;
            """,
            engine=engine,
            prompt=prompt,
            settings={"maxNewTokens": 20, "temperature": 0, "topK": 0, "seed": 0, **settings},
        )
        return found


class Tab(OpenPage):
    """A page that is open in Chromium; `page` is that of Playwright."""

    def __init__(self, page: Any, url: str) -> None:
        super().__init__()
        self.page = page
        page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        page.on("console", self._read_console)

        def check(route: Any) -> None:
            if route.request.url.startswith(url):
                route.continue_()
            else:
                self.problems.append(f"request to {route.request.url}")
                route.abort()

        page.context.route(lambda address: not address.startswith("data:"), check)
        page.goto(url)

    def run(self, body: str, **values: Any) -> Any:
        return self.page.evaluate(f"async (given) => {{ {body} }}", values)

    def _read_console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"{message.type}: {message.text}")


@contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """Chromium without a window, as an object of Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", *arguments]
        )
        yield browser
        browser.close()


@contextmanager
def tab(browser: Any, folder: Path, **options: Any) -> Iterator[Tab]:
    """The page in a folder, served and opened; `options` are those of a context of Playwright.

    Raises:
        AssertionError: the page had an error or sent a request to another place.
    """
    with served(folder) as url, closing(browser.new_context(**options)) as context:
        opened = Tab(context.new_page(), url)
        yield opened
        assert opened.problems == []


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of the page in a folder, which is served meanwhile."""
    server = PageServer(folder)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server.url
    finally:
        server.close()
        thread.join()
