"""`open_generator` gives the tokens of Hugging Face: in batches, streamed, up to the limit."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import reformer_export
from reformer_export.errors import GenerationLimitError, InputError, UsageError
from reformer_export.generation.generator import Generator
from reformer_export.runtimes.decoder_cache import Cache
from reformer_export.runtimes.decoders import can_generate

from ..models import generating
from ..models.reformers import SMALL, token_ids
from ..tools.model_fixtures import Fixtures

OPS = ("native", "portable")
KINDS = (*OPS, "torchscript-native", "torchscript-portable")
VOCABULARY, LONGEST = SMALL["vocab_size"], 120


def prompt(length: int) -> NDArray[np.int64]:
    ids: NDArray[np.int64] = token_ids(1, length, VOCABULARY, seed=length)[0].numpy()
    return ids


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 5, 6, 7, 12, 24, 25, 37])
def test_tokens_are_hugging_faces(
    generators: dict[str, Generator], fixtures: Fixtures, kind: str, length: int
) -> None:
    wanted, _ = generating.generate(fixtures.model(), torch.from_numpy(prompt(length)), 12)
    found = generators[kind].generate(prompt(length), max_new_tokens=12, stop=())
    assert found.dtype == np.int64
    assert found.tolist() == [wanted.tolist()]


@pytest.mark.parametrize("length", [4, 12, 36])  # lengths that Hugging Face does not pad
def test_tokens_are_those_of_hugging_faces_generate(
    generator: Generator, fixtures: Fixtures, length: int
) -> None:
    ids = torch.from_numpy(prompt(length))[None]
    with torch.random.fork_rng(devices=[]):
        wanted = fixtures.model().generate(
            ids, max_new_tokens=10, do_sample=False, use_cache=True, eos_token_id=None
        )
    found = generator.generate(ids.numpy(), max_new_tokens=10, stop=())
    assert found.tolist() == wanted[:, length:].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_a_batch_is_as_alone(generators: dict[str, Generator], kind: str) -> None:
    generator = generators[kind]
    prompts = [prompt(length) for length in (9, 1, 30, 9, 6, 31)]
    together = generator.generate(prompts, max_new_tokens=15, stop=())
    for row, one in enumerate(prompts):
        alone = generator.generate(one, max_new_tokens=15, stop=())
        assert together[row].tolist() == alone[0].tolist()


@pytest.mark.slow  # exports once more
def test_half_precision(fixtures: Fixtures) -> None:
    """The logits after a prompt and a step are close to fp32, with both kinds of operators."""
    half = fixtures.decoder(dtype="fp16")
    full = reformer_export.open_generator(fixtures.decoder(), threads=1)
    wanted, cache = full.decoder.prefill([prompt(4)], capacity=8)
    later = full.decoder.step(np.array([7]), cache)
    for ops in OPS:
        decoder = reformer_export.open_generator(half, ops=ops, threads=1).decoder
        logits, cache = decoder.prefill([prompt(4)], capacity=8)
        assert cache.tensors["key.1"].dtype == np.float16
        assert np.abs(logits - wanted).max() < 0.02 * np.abs(wanted).max()
        found = decoder.step(np.array([7]), cache)
        assert np.abs(found - later).max() < 0.02 * np.abs(later).max()


@pytest.mark.slow  # exports once more
def test_a_portable_artifact_generates_the_same(generator: Generator, fixtures: Fixtures) -> None:
    portable = fixtures.decoder(ops="portable")
    with pytest.raises(UsageError, match="exported with --ops portable"):
        reformer_export.open_generator(portable, ops="native")
    found = reformer_export.open_generator(portable, threads=1)
    wanted = generator.generate(prompt(20), stop=())
    assert found.generate(prompt(20), stop=()).tolist() == wanted.tolist()


def test_streaming_gives_the_same_and_may_stop(generator: Generator) -> None:
    wanted = generator.generate([prompt(7), prompt(20)], max_new_tokens=9, stop=())
    stream = generator.stream([prompt(7), prompt(20)], max_new_tokens=9, stop=())
    first = [next(stream) for _ in range(4)]
    stream.close()
    assert np.stack(first, axis=1).tolist() == wanted[:, :4].tolist()
    again = generator.stream([prompt(7), prompt(20)], max_new_tokens=9, stop=())
    other = generator.stream(prompt(5), max_new_tokens=9, stop=())
    mixed = [tokens for tokens, _ in zip(again, other, strict=True)]  # two at the same time
    assert np.stack(mixed, axis=1).tolist() == wanted.tolist()


def test_stop_ids_end_a_row(generator: Generator) -> None:
    rows = [prompt(7), prompt(20)]
    wanted = generator.generate(rows, max_new_tokens=12, stop=())
    end = int(wanted[0, 3])
    place = wanted[0].tolist().index(end)
    found = generator.generate(rows, max_new_tokens=12, stop=[end])
    assert found[0, : place + 1].tolist() == wanted[0, : place + 1].tolist()
    assert (found[0, place + 1 :] == 0).all()  # the pad token
    others = wanted[1].tolist()
    length = others.index(end) + 1 if end in others else 12
    assert found[1, :length].tolist() == others[:length]
    alone = generator.generate(rows[0], max_new_tokens=12, stop=[end])
    assert alone.shape == (1, place + 1)


def test_the_checkpoints_end_token_stops(generator: Generator, fixtures: Fixtures) -> None:
    assert generator.stop == {fixtures.model().config.eos_token_id}


def test_the_longest_sequence_keeps_what_there_is(generator: Generator) -> None:
    start = prompt(LONGEST - 3)
    with pytest.raises(GenerationLimitError, match="after 4 tokens: the model takes 120") as caught:
        generator.generate(start, max_new_tokens=10, stop=())
    assert caught.value.tokens.shape == (1, 4)
    assert caught.value.exit_code == 1
    found = generator.generate(start, max_new_tokens=4, stop=())
    assert found.tolist() == caught.value.tokens.tolist()
    assert generator.generate(prompt(LONGEST), max_new_tokens=1, stop=()).shape == (1, 1)


BAD: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    ([], {}, InputError, "there is no prompt"),
    (np.zeros((1, 0), np.int64), {}, InputError, "an empty sequence"),
    (np.zeros((0, 3), np.int64), {}, InputError, "there is no prompt"),
    ([[1, 2], []], {}, InputError, "an empty sequence"),
    ([1, VOCABULARY], {}, InputError, "outside the vocabulary"),
    (np.ones(LONGEST + 1, np.int64), {}, InputError, "takes 1 to 120"),
    ([[0.5, 1.0]], {}, InputError, "must be integers"),
    ([1], {"max_new_tokens": 0}, UsageError, "--max-new-tokens 0"),
    ([1], {"temperature": -1.0}, UsageError, "--temperature -1.0"),
    ([1], {"temperature": float("nan")}, UsageError, "--temperature nan"),
    ([1], {"top_k": -1}, UsageError, "--top-k -1"),
    ([1], {"top_p": 0.0}, UsageError, "--top-p 0.0"),
    ([1], {"repetition_penalty": 0.0}, UsageError, "--repetition-penalty 0.0"),
    ([1], {"seed": -1}, UsageError, "--seed -1"),
]


@pytest.mark.parametrize(("ids", "options", "error", "message"), BAD)
def test_what_is_refused(
    generator: Generator, ids: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        generator.generate(ids, **options)


def test_an_artifact_without_a_decoder_names_the_command(fixtures: Fixtures) -> None:
    with pytest.raises(UsageError, match="to-onnx --task text-generation-with-past"):
        reformer_export.open_generator(fixtures.artifact())


def test_a_runtime_that_cannot_generate(fixtures: Fixtures) -> None:
    script = fixtures.generating_script(ops="native")
    with pytest.raises(UsageError, match=r"in onnxruntime: export it with .*to-onnx"):
        reformer_export.open_generator(script, runtime="onnxruntime")
    with pytest.raises(UsageError, match="'aoti' does not generate: choose auto or one of onnx"):
        reformer_export.open_generator(script, runtime="aoti")
    with pytest.raises(UsageError, match=r"in torchscript: export it with .*to-torchscript"):
        reformer_export.open_generator(fixtures.decoder(), runtime="torchscript")
    assert "torch 2" in reformer_export.open_generator(script).description  # its only runtime
    for runtime, able in (("auto", True), ("torchscript", True), ("onnxruntime", False)):
        assert can_generate(script, runtime) is able
    assert not can_generate(script, "aoti")


def test_model_pt_generates_without_our_classes(fixtures: Fixtures) -> None:
    """As docs/generation.md explains it for users of torch alone; the weights are stored once."""
    artifact = fixtures.generating_script(ops="portable")
    module = torch.jit.load(artifact.path / "model.pt")
    ids = torch.from_numpy(prompt(9))[None]
    outputs = module.prefill(ids)
    logits = outputs.pop("logits")
    past = {}
    for name, present in outputs.items():
        axis = 1 if present.is_floating_point() else 3
        past[name.replace("present", "past")] = torch.cat([present, present], dim=axis)
    token = logits[:, 0].argmax(-1, keepdim=True)
    length = torch.tensor([9])
    logits = module.step(token, length, length, past)
    wanted, _ = generating.generate(fixtures.model(), ids[0], 2)
    assert [int(token), int(logits.argmax())] == wanted.tolist()
    with pytest.raises(torch.jit.Error, match="takes 120 tokens; the cache has 120"):
        module.step(token, torch.tensor([120]), length, past)
    with zipfile.ZipFile(artifact.path / "model.pt") as archive:
        stored = sum(each.file_size for each in archive.infolist() if "/data/" in each.filename)
    weights = sum(tensor.nbytes for tensor in fixtures.model().state_dict().values())
    assert weights < stored < 1.2 * weights


def test_prompts_may_be_lists(generator: Generator) -> None:
    wanted = generator.generate(np.array([[1, 2, 3]]), stop=())
    for ids in ([1, 2, 3], [[1, 2, 3]], np.array([1, 2, 3], np.int32), [np.array([1, 2, 3])]):
        assert generator.generate(ids, stop=()).tolist() == wanted.tolist()


def test_sampling_depends_on_the_seed_alone(generator: Generator) -> None:
    def sample(seed: int, *prompts: NDArray[np.int64]) -> list[list[int]]:
        options: dict[str, Any] = {"temperature": 1.5, "top_k": 30, "top_p": 0.95, "stop": ()}
        found: list[list[int]] = generator.generate(prompts, seed=seed, **options).tolist()
        return found

    first = sample(5, prompt(8))
    assert sample(5, prompt(8)) == first
    assert sample(6, prompt(8)) != first
    two = sample(5, prompt(8), prompt(8))
    assert two[0] == first[0] != two[1]  # rows draw their own numbers
    greedy = generator.generate(prompt(8), stop=()).tolist()
    assert generator.generate(prompt(8), temperature=1.5, top_k=1, stop=()).tolist() == greedy
    assert generator.generate(prompt(8), temperature=0.0, top_k=9, stop=()).tolist() == greedy


def test_a_cache_goes_on_where_it_was(generator: Generator, tmp_path: Path) -> None:
    decoder, ids = generator.decoder, prompt(23)
    wanted = generator.generate(ids, max_new_tokens=8, stop=())
    _, cache = decoder.prefill([ids[:-1]], capacity=22)
    cache.save(tmp_path / "cache.safetensors")
    # A prompt and single steps give different tokens by definition, so tokens from a cache are
    # compared with tokens from a cache.
    first = list(generator.stream(ids, max_new_tokens=8, stop=(), cache=cache))
    loaded = Cache.load(decoder.layout, tmp_path / "cache.safetensors")
    second = list(generator.stream(ids, max_new_tokens=8, stop=(), cache=loaded))
    assert np.stack(first).tolist() == np.stack(second).tolist()
    assert np.stack(first).shape == (8, 1)
    assert wanted.shape == (1, 8)
    with pytest.raises(InputError, match="all tokens of each prompt except the last"):
        list(generator.stream(prompt(20), cache=loaded))
