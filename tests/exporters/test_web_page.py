"""The page in Chromium: its numbers, its generation, and what users see."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from examples.bits_per_byte import bits_per_byte
from reformer_export import open_generator, open_runner, to_web, verify_artifact
from reformer_export.artifact import Artifact
from reformer_export.cli.main import main
from reformer_export.errors import ParityError
from reformer_export.exporters.web.onnxruntime_web import FILES, cached_package
from reformer_export.inference.text import open_codec
from reformer_ops import onnx_bodies
from reformer_ops.core.onnx_writer import OnnxWriter

from ..models.configs import SMALL, WIDE
from ..tools.browser import GPU, Tab, chromium, missing, tab
from ..tools.model_fixtures import Fixtures, feeds, worst_error
from ..tools.tokenizer_fixtures import TEXTS, any_texts

ROOT = Path(__file__).resolve().parents[2]
REASON = missing()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]

LONG = SMALL | {
    "axial_pos_shape": (64, 64),
    "lsh_attn_chunk_length": 8,
    "max_position_embeddings": 4096,
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium(*GPU) as opened:
        yield opened


@pytest.fixture(scope="module")
def long_page(fixtures: Fixtures, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small model that takes 4,096 tokens."""
    out = tmp_path_factory.mktemp("long") / "page"
    return to_web(
        fixtures.decoder(LONG).path, out, onnxruntime_web=cached_package(), verify=False
    ).path


@pytest.fixture
def bible_tab(browser: Any, bible: Path) -> Iterator[Tab]:
    with tab(browser, bible) as opened:
        opened.page.wait_for_selector("body[data-ready]")
        opened.page.wait_for_selector("#next li:nth-child(10)")
        yield opened


def numbers(
    opened: Tab, page: Path, engine: str, sizes: list[tuple[int, int]], *, share: float = 1.0
) -> float:
    """The largest difference in a `share` of the numbers from Python's, relative to their scale."""
    runner = open_runner(page, ops="portable")
    worst = 0.0
    for length, batch in sizes:
        given = feeds(length, batch, vocab_size=runner.signature.vocab_size)
        found = {"logits": opened.logits(engine, given)}
        worst = max(worst, worst_error(found, runner.run(given), share=share))
    return worst


def test_numbers_are_those_of_python(browser: Any, bible: Path, long_page: Path) -> None:
    with tab(browser, bible, bypass_csp=True) as opened:
        sizes = [(1, 1), (63, 1), (64, 2), (65, 3), (500, 2), (1023, 1), (1024, 2)]
        assert numbers(opened, bible, "wasm", sizes) < 1e-5
    with tab(browser, long_page, bypass_csp=True) as opened:
        assert numbers(opened, long_page, "wasm", [(1, 2), (777, 3), (4095, 2), (4096, 1)]) < 1e-5


def test_numbers_on_webgpu(browser: Any, bible: Path) -> None:
    with tab(browser, bible, bypass_csp=True) as opened:
        if opened.run("return (await navigator.gpu?.requestAdapter()) == null"):
            pytest.skip("this Chromium has no WebGPU, not even in software")
        assert numbers(opened, bible, "webgpu", [(1, 1), (65, 2), (130, 1)]) < 1e-5
        prompt = list(b"And it came to pass")
        expected = open_generator(bible).generate([prompt], max_new_tokens=5)
        assert opened.generate(prompt, "webgpu", maxNewTokens=5) == expected[0].tolist()


@pytest.mark.parametrize("length", [1, 15, 64, 65, 700])
def test_greedy_tokens_are_those_of_python(browser: Any, bible: Path, length: int) -> None:
    text = (ROOT / "examples/bible-reformer/held_out.txt").read_bytes()
    prompt = list(text[3000 : 3000 + length])
    expected = open_generator(bible).generate([prompt], max_new_tokens=60)
    with tab(browser, bible, bypass_csp=True) as opened:
        assert opened.generate(prompt, maxNewTokens=60) == expected[0].tolist()


def test_fp16(browser: Any, fixtures: Fixtures, tmp_path: Path) -> None:
    artifact = fixtures.decoder(WIDE, dtype="fp16")
    made = to_web(
        artifact.path, tmp_path / "page", onnxruntime_web=cached_package(), verify=False
    ).path
    prompt = feeds(30)["input_ids"][0].tolist()
    expected = open_generator(made).generate([prompt], max_new_tokens=10)
    with tab(browser, made, bypass_csp=True) as opened:
        assert numbers(opened, made, "wasm", [(1, 1), (50, 2)]) < 1e-2
        assert opened.generate(prompt, maxNewTokens=10) == expected[0].tolist()


def test_weights_of_8_bits(browser: Any, fixtures: Fixtures, tmp_path: Path) -> None:
    """Activations are rounded to 8 bits: where rounding differs, numbers do, too."""
    artifact = fixtures.decoder(WIDE, weights="int8")
    made = to_web(
        artifact.path, tmp_path / "page", onnxruntime_web=cached_package(), verify=False
    ).path
    with tab(browser, made, bypass_csp=True) as opened:
        assert numbers(opened, made, "wasm", [(1, 1), (50, 2)], share=0.5) < 2e-2
        assert len(opened.generate([1, 2, 3], maxNewTokens=10)) == 10


def test_generation_beyond_a_block_of_the_order(browser: Any, long_page: Path) -> None:
    prompt = feeds(1030)["input_ids"][0].tolist()
    expected = open_generator(long_page).generate([prompt], max_new_tokens=30)
    with tab(browser, long_page, bypass_csp=True) as opened:
        assert opened.generate(prompt, maxNewTokens=30) == expected[0].tolist()


def test_sampling(browser: Any, bible: Path) -> None:
    prompt = list(b"And the LORD said unto ")
    with tab(browser, bible, bypass_csp=True) as opened:
        greedy = opened.generate(prompt)
        assert opened.generate(prompt, temperature=0.9, topK=1) == greedy
        first, again, other = (
            opened.generate(prompt, temperature=1.0, seed=seed) for seed in (1, 1, 2)
        )
        assert first == again != other


def test_the_end_of_the_model(browser: Any, bible: Path) -> None:
    with tab(browser, bible, bypass_csp=True) as opened:
        with pytest.raises(Exception, match="The model takes 1024 tokens, the text among them"):
            opened.generate([65] * 1023, maxNewTokens=9)
        with pytest.raises(Exception, match="1025 tokens: the model takes 1 to 1024"):
            opened.logits("wasm", feeds(1025))


def test_the_next_token_follows_the_text(bible_tab: Tab, bible: Path) -> None:
    page = bible_tab.page
    page.fill("#text", "And God said, Let there be ligh")
    page.get_by_text("31 of 1,024 bytes").wait_for()
    page.get_by_label(re.compile("^t, 9")).wait_for()
    page.get_by_label(re.compile("^t, 9")).click()
    assert page.input_value("#text").endswith("light")
    page.get_by_text("32 of 1,024 bytes").wait_for()


def test_a_continuation_is_streamed_and_kept(bible_tab: Tab, bible: Path) -> None:
    page = bible_tab.page
    page.fill("#text", "In the beginning ")
    page.fill("#temperature", "0")
    page.fill("#max-new-tokens", "30")
    page.focus("#continue")
    page.keyboard.press("Enter")
    page.get_by_text("30 new tokens: ").wait_for()
    tokens = open_generator(bible).generate([list(b"In the beginning ")], max_new_tokens=30)
    expected = "In the beginning " + bytes(tokens[0].tolist()).decode()
    assert page.locator("#generated").text_content() == expected
    page.click("#keep")
    assert page.input_value("#text") == expected
    assert page.locator("#generated").is_hidden()
    for name in ("Engine", "Opening the model", "First new token", "Each new token"):
        assert page.get_by_role("rowheader", name=name).is_visible()


def test_a_continuation_can_be_stopped(bible_tab: Tab) -> None:
    page = bible_tab.page
    page.fill("#max-new-tokens", "900")
    page.click("#continue")
    page.locator("#generated").filter(has_text=re.compile(".{70}", re.DOTALL)).wait_for()
    page.click("#stop")
    page.get_by_text(re.compile(r"^\d+ new tokens: ")).wait_for()
    assert int(page.inner_text("#status").split()[0]) < 900


def test_bits_per_byte_of_a_file(bible_tab: Tab, bible: Path, tmp_path: Path) -> None:
    text = (ROOT / "examples/bible-reformer/held_out.txt").read_bytes()[:3001]
    (tmp_path / "some.txt").write_bytes(text)
    runner = open_runner(bible)
    expected = bits_per_byte(text, lambda ids: runner.run({"input_ids": ids})["logits"], 1024)
    bible_tab.page.set_input_files("#file", tmp_path / "some.txt")
    result = bible_tab.page.locator("#file-result").filter(has_text="3,001 bytes of some.txt")
    result.wait_for()
    assert float(result.locator("strong").inner_text()) == pytest.approx(expected, abs=6e-4)


def test_the_engine_is_changed_during_work(bible_tab: Tab) -> None:
    page = bible_tab.page
    if page.get_by_label("GPU (WebGPU)").is_disabled():
        pytest.skip(page.inner_text("#engine-hint"))
    page.set_input_files("#file", ROOT / "examples/bible-reformer/held_out.txt")
    page.fill("#text", "this waits behind the file")
    page.check("input[value=webgpu]")
    page.wait_for_selector("body[data-ready=webgpu]")
    page.get_by_role("row", name="Reading the text").wait_for()
    page.wait_for_selector("#next[aria-busy=false]")
    assert page.get_by_role("row", name="Engine WebGPU").is_visible()
    assert page.inner_text("#status") == "Ready"
    assert page.locator("#stop").is_disabled()


def test_colours_follow_the_system(browser: Any, bible: Path) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        with tab(browser, bible, color_scheme=scheme, bypass_csp=True) as opened:
            grounds.append(opened.run("return getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(246, 245, 241)", "rgb(19, 20, 22)"]


def test_a_phone_and_a_keyboard(browser: Any, bible: Path) -> None:
    """Nothing is wider than the screen, and the footer never hides the control with the focus."""
    with tab(browser, bible, viewport={"width": 360, "height": 640}, bypass_csp=True) as opened:
        page = opened.page
        page.wait_for_selector("#next li:nth-child(10)")
        page.fill("#max-new-tokens", "150")
        page.click("#continue")
        page.get_by_text("150 new tokens: ").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        page.evaluate("scrollTo(0, 0)")
        page.focus("#text")
        seen = []
        while (control := page.locator("main :focus")).count():
            seen.append(control.get_attribute("id") or control.inner_text())
            opened.run("await new Promise(requestAnimationFrame)")  # a frame ends the scrolling
            opened.run("await new Promise(requestAnimationFrame)")
            box, footer = control.bounding_box(), page.locator("footer").bounding_box()
            assert box["y"] + box["height"] <= footer["y"], seen
            page.keyboard.press("Tab")
        assert {"text", "seed", "continue", "keep", "generated", "file"} <= set(seen)
        assert len(seen) >= 19


def test_every_control_has_a_name(bible_tab: Tab) -> None:
    page = bible_tab.page
    for role in ("textbox", "spinbutton", "button", "radio"):
        for control in page.get_by_role(role).all():
            assert re.search(r"^- \w+ \"[^\"]+\"", control.aria_snapshot()), control
    assert page.get_by_role("status").count() == 2


def test_a_page_is_isolated_and_uses_threads(browser: Any, bible: Path) -> None:
    with tab(browser, bible, bypass_csp=True) as opened:
        assert opened.run("return crossOriginIsolated")
        prompt = list(b"Blessed are the ")
        threads = opened.run(
            """
            const { LanguageModel } = await import(new URL("model.js", location.href).href);
            const model = await LanguageModel.open("wasm", { threads: 2 });
            const { logits } = await model.predict(given.prompt);
            return [model.threads, logits.at(-1)];
            """,
            prompt=prompt,
        )
    expected = open_runner(bible).run({"input_ids": np.array([prompt])})["logits"][0, -1, -1]
    assert threads[0] == 2
    assert threads[1] == pytest.approx(float(expected), abs=1e-4)


def test_a_page_with_other_numbers_is_not_written(
    fixtures: Fixtures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = fixtures.artifact()
    original = onnx_bodies._BODIES["ChunkAttention"]

    def body(w: OnnxWriter, *inputs: Any, num_chunks_before: int, **rest: Any) -> Any:
        return original(w, *inputs, num_chunks_before=num_chunks_before + 1, **rest)

    monkeypatch.setitem(onnx_bodies._BODIES, "ChunkAttention", body)
    with pytest.raises(ParityError, match="do not give the model's numbers") as caught:
        to_web(artifact.path, tmp_path / "page", onnxruntime_web=cached_package())
    assert caught.value.report is not None
    assert not list(tmp_path.iterdir())


def test_a_page_is_an_artifact(bible: Path, tmp_path: Path) -> None:
    page = Artifact.open(bible)
    assert page.formats == ("onnx", "decoder", "web")
    assert page.manifest.source.name == "bible-reformer"
    assert str(ROOT) not in (bible / "manifest.json").read_text()
    parity = page.parity("onnx")
    assert parity is not None
    assert "equal to torch" in parity["summary"]
    report = verify_artifact(
        bible, against=ROOT / "examples/bible-reformer", lengths=[65], batches=[1]
    )
    assert report.passed
    sizes = {name: record.bytes for name, record in page.manifest.files.items()}
    ours = sum(size for name, size in sizes.items() if not name.startswith("ort"))
    assert ours < 6e6
    engines = page.manifest.formats["web"].details["engines"]
    assert engines == ["wasm", "webgpu"]
    for engine in engines:  # a browser downloads one of them
        assert ours + sum(sizes[name] for name in FILES[engine]) < 25e6


def test_a_masked_model(browser: Any, fixtures: Fixtures, tmp_path: Path) -> None:
    made = to_web(
        fixtures.artifact("fill-mask").path,
        tmp_path / "page",
        onnxruntime_web=cached_package(),
        verify=False,
    )
    text = "a masked model"
    logits = open_runner(made.path).run({"input_ids": np.array([[b + 2 for b in text.encode()]])})
    scores = logits["logits"][0, 3].astype(np.float64)
    share = np.exp(scores - scores.max())
    with tab(browser, made.path) as opened:
        page = opened.page
        page.wait_for_selector("#next li:nth-child(10)")
        assert page.locator("#generation").is_hidden()
        page.fill("#text", text)
        page.fill("#position", "3")
        percent = 100 * share.max() / share.sum()
        shown = f"{percent:.{2 if percent < 10 else 1}f} %"
        page.locator("#next li:first-child").filter(has_text=shown).wait_for()


def test_text_becomes_the_ids_of_python(browser: Any, pieces_page: Path, bible: Path) -> None:
    texts = [*TEXTS, *any_texts(300), "a" * 5000]
    for page in (pieces_page, bible):
        codec = open_codec(Artifact.open(page))
        with tab(browser, page, bypass_csp=True) as opened:
            found = opened.encode(texts)
        assert found == [codec.encode(text.encode()).tolist() for text in texts]


def test_a_text_of_pieces_is_continued(browser: Any, pieces_page: Path) -> None:
    text = "The licence </s>\nis [BAR]"
    codec = open_codec(Artifact.open(pieces_page))
    prompt = codec.encode(text.encode()).tolist()
    tokens = open_generator(pieces_page).generate([prompt], max_new_tokens=40)[0].tolist()
    stream = codec.stream(prompt)
    expected = text + "".join(map(stream.add, tokens)) + stream.end()
    with tab(browser, pieces_page) as opened:
        page = opened.page
        page.wait_for_selector("body[data-ready]")
        page.fill("#text", text)
        page.get_by_text(f"{len(prompt)} of 120 tokens").wait_for()
        page.fill("#max-new-tokens", "40")
        page.fill("#temperature", "0")
        page.click("#continue")
        page.get_by_text(f"{len(tokens)} new tokens: ").wait_for()
        assert page.locator("#generated").text_content() == expected
        page.click("#keep")
        assert page.input_value("#text") == expected


def test_the_next_piece_follows_the_text(browser: Any, pieces_page: Path) -> None:
    codec = open_codec(Artifact.open(pieces_page))
    ids = codec.encode(b"The licence")
    logits = open_runner(pieces_page).run({"input_ids": ids[None]})["logits"][0, -1]
    with tab(browser, pieces_page) as opened:
        page = opened.page
        page.wait_for_selector("body[data-ready]")
        page.fill("#text", "The licence")
        page.get_by_text(f"{len(ids)} of 120 tokens").wait_for()
        shown = page.locator("#next .token")
        for place, token in enumerate(np.argsort(-logits)[:10].tolist()):
            sign = codec.tokenizer.id_to_token(token) or str(token)  # 301 has no piece
            shown.nth(place).filter(has_text=sign.replace("\u2581", "\u2423")).wait_for()
        page.locator("#next button:enabled").first.click()
        assert page.input_value("#text").startswith("The licence")
        assert len(page.input_value("#text")) > len("The licence")


def test_bits_per_byte_of_a_file_of_pieces(browser: Any, pieces_page: Path, tmp_path: Path) -> None:
    text = "The licence of the work."
    codec = open_codec(Artifact.open(pieces_page))
    ids = codec.encode(text.encode())
    scores = open_runner(pieces_page).run({"input_ids": ids[None]})["logits"][0].astype(np.float64)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    bits = np.log2(302) - np.log2(shares[np.arange(len(ids) - 1), ids[1:]]).sum()
    (tmp_path / "exact.txt").write_text(text)
    (tmp_path / "spaces.txt").write_text(text.replace(" ", "  "))
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with tab(browser, pieces_page) as opened:
        page = opened.page
        page.wait_for_selector("body[data-ready]")
        result = page.locator("#file-result")
        for name, said in [("exact.txt", ""), ("spaces.txt", ". The tokens do not hold this")]:
            size = (tmp_path / name).stat().st_size
            page.set_input_files("#file", tmp_path / name)
            result.filter(has_text=f"bits per byte of all {size} bytes of {name}{said}").wait_for()
            assert float(result.locator("strong").inner_text()) == pytest.approx(
                bits / size, abs=6e-4
            )
        page.set_input_files("#file", tmp_path / "latin.txt")
        page.get_by_text("The text is not UTF-8").wait_for()


def test_the_command_says_why_a_page_takes_no_text(
    long_page: Path, fixtures: Fixtures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = fixtures.decoder(LONG).path
    package = str(cached_package())
    options = ["--no-verify", "--onnxruntime-web", package]
    assert main(["to-web", str(artifact), str(tmp_path / "page"), *options]) == 0
    reason = "the artifact has no tokenizer and its vocabulary of 40 cannot hold bytes"
    assert f"note: the page takes token ids instead of text: {reason}\n" in capsys.readouterr().err
    assert Artifact.open(long_page).manifest.formats["web"].details["ids_because"] == reason


def test_tokens_that_are_not_bytes(browser: Any, long_page: Path) -> None:
    """The small model has 40 tokens: the page takes numbers."""
    with tab(browser, long_page) as opened:
        page = opened.page
        page.get_by_text("Token ids").wait_for()
        page.wait_for_selector("body[data-ready]")
        page.fill("#text", "3 1 4 1 5")
        page.get_by_text("5 of 4,096 tokens").wait_for()
        page.wait_for_selector("#next li:nth-child(10)")
        page.fill("#max-new-tokens", "4")
        page.fill("#temperature", "0")
        page.click("#continue")
        page.get_by_text("4 new tokens: ").wait_for()
        tokens = open_generator(long_page).generate([[3, 1, 4, 1, 5]], max_new_tokens=4)
        assert page.locator("#generated").text_content().split()[5:] == [str(t) for t in tokens[0]]
