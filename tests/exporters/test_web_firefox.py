"""The page in Firefox: its numbers, its generation, and that users can use it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from reformer_export import open_generator, open_runner
from reformer_export.artifact import Artifact
from reformer_export.inference.text import open_codec

from ..tools.firefox import FirefoxTab, firefox_tab, missing
from ..tools.model_fixtures import feeds, worst_error
from ..tools.tokenizer_fixtures import TEXTS, any_texts

REASON = missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]


@pytest.fixture(scope="module")
def firefox(bible: Path) -> Iterator[FirefoxTab]:
    with firefox_tab(bible) as opened:
        yield opened


def test_numbers_are_those_of_python(firefox: FirefoxTab, bible: Path) -> None:
    runner = open_runner(bible, ops="portable")
    for length, batch in [(1, 1), (63, 2), (65, 3), (1024, 1)]:
        given = feeds(length, batch, vocab_size=runner.signature.vocab_size)
        found = {"logits": firefox.logits("wasm", given)}
        assert worst_error(found, runner.run(given)) < 1e-5


def test_greedy_tokens_are_those_of_python(firefox: FirefoxTab, bible: Path) -> None:
    prompt = list(b"And it came to pass in those days, that all the ")
    expected = open_generator(bible).generate([prompt], max_new_tokens=60)
    assert firefox.generate(prompt, maxNewTokens=60) == expected[0].tolist()


def test_text_becomes_the_ids_of_python(pieces_page: Path) -> None:
    texts = [*TEXTS, *any_texts(300), "a" * 5000]
    codec = open_codec(Artifact.open(pieces_page))
    with firefox_tab(pieces_page) as opened:
        found = opened.encode(texts)
    assert found == [codec.encode(text.encode()).tolist() for text in texts]


def test_a_text_is_continued(firefox: FirefoxTab, bible: Path) -> None:
    text, seen = firefox.run(
        """
        const until = async (holds) => {
          while (!holds()) await new Promise((resolve) => setTimeout(resolve, 20));
        };
        const get = (id) => document.getElementById(id);
        const fill = (id, value) => {
          get(id).value = value;
          get(id).dispatchEvent(new Event("input", { bubbles: true }));
          get(id).dispatchEvent(new Event("change", { bubbles: true }));
        };
        await until(() => document.body.dataset.ready);
        fill("text", given.text);
        fill("temperature", "0");
        fill("max-new-tokens", "30");
        await until(() => get("next").children.length === 10);
        get("continue").click();
        await until(() => get("status").textContent.startsWith("30 new tokens: "));
        return [
          get("generated").textContent,
          {
            engine: document.body.dataset.ready,
            isolated: crossOriginIsolated,
            gpu: "gpu" in navigator,
            gpuOffered: !document.querySelector("input[value=webgpu]").disabled,
          },
        ];
        """,
        text="In the beginning ",
    )
    tokens = open_generator(bible).generate([list(b"In the beginning ")], max_new_tokens=30)
    assert text == "In the beginning " + bytes(tokens[0].tolist()).decode()
    assert seen["engine"] == "wasm"
    assert seen["isolated"]
    assert seen["gpu"] or not seen["gpuOffered"]
