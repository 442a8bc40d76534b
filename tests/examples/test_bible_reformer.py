"""The committed model agrees with its model card, in every runtime."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from bits_per_byte import bits_per_byte
from byte_corpus import xz_bits_per_byte
from demo import RUNTIMES, SAME_BITS, logits_of
from transformers import ReformerModelWithLMHead

from reformer_export import Artifact, open_generator, open_runner, to_onnx
from reformer_models.loading import load_model

MODEL = Path(__file__).resolve().parents[2] / "examples/bible-reformer"
HELD_OUT = (MODEL / "held_out.txt").read_bytes()
CARD = (MODEL / "README.md").read_text()


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return to_onnx(
        MODEL,
        tmp_path_factory.mktemp("bible") / "artifact",
        task="text-generation-with-past",
        verify=False,
    )


def bits(artifact: Artifact, text: bytes, runtime: str, ops: str) -> float:
    runner = open_runner(artifact, runtime=runtime, ops=ops)
    found = bits_per_byte(text, partial(logits_of, runner), runner.signature.max_length)
    runner.close()
    return found


def stated(pattern: str) -> float:
    found = re.search(pattern, CARD)
    assert found, pattern
    return float(found[1])


def test_it_is_small_and_whole() -> None:
    assert (MODEL / "model.safetensors").stat().st_size <= 5_000_000
    assert len(HELD_OUT) == 32768
    assert HELD_OUT.isascii()
    loaded = load_model(MODEL)
    assert loaded.notes == ()  # buckets and seed are set, so all implementations hash alike
    assert loaded.config.vocab_size == 256


def test_transformers_computes_the_same() -> None:
    ids = torch.tensor([list(HELD_OUT[:1000]), list(HELD_OUT[1000:2000])])
    theirs = ReformerModelWithLMHead.from_pretrained(MODEL).eval()
    with torch.inference_mode():
        ours = load_model(MODEL).model(ids)["logits"]
        torch.testing.assert_close(ours, theirs(ids).logits, atol=1e-4, rtol=0)


def test_every_runtime_compresses_alike(artifact: Artifact) -> None:
    """On the first few windows; the slow test uses the whole text."""
    found = [bits(artifact, HELD_OUT[:4096], *runtime) for runtime in RUNTIMES]
    assert max(found) - min(found) <= SAME_BITS, found


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES, ids="-".join)
def test_it_compresses_as_its_card_says(artifact: Artifact, runtime: tuple[str, str]) -> None:
    says = stated(r"of these alone it is ([\d.]+)\.\n")
    assert bits(artifact, HELD_OUT, *runtime) == pytest.approx(says, abs=2e-4)
    assert says < xz_bits_per_byte(HELD_OUT)


def test_the_card_says_that_xz_is_beaten() -> None:
    assert stated(r"\| this model \| ([\d.]+) \|") < stated(r"\| `xz -9e` \| ([\d.]+) \|")


def test_it_has_learned_the_words_of_the_text(artifact: Artifact) -> None:
    # Words that often follow each other in the text.
    generator = open_generator(artifact)
    for prompt, following in {
        b"And it came to pa": b"ss",
        b"the children of Isra": b"el",
        b"the kingdom of hea": b"ven",
    }.items():
        ids = np.frombuffer(prompt, np.uint8)
        (found,) = generator.generate(ids, max_new_tokens=len(following))
        assert bytes(found.tolist()) == following, prompt


def test_the_excerpt_begins_where_training_ended() -> None:
    assert HELD_OUT.startswith(b"b11:29 By faith they passed through the Red sea")
    assert np.frombuffer(HELD_OUT, np.uint8).max() < 128
