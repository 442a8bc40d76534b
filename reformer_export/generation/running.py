"""Continue a text or arrays once, as the command line does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reformer_export.artifact import Artifact
from reformer_export.artifact.signature import require_tokens
from reformer_export.errors import GenerationLimitError, UsageError
from reformer_export.generation.generator import open_generator
from reformer_export.inference.running import output_file, read_tokens, save_output
from reformer_export.inference.text import TextCodec
from reformer_ops.core.native import Choice

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class GenerationResult:
    """The generated tokens, and the time it took.

    Attributes:
        tokens: `[batch, new]`.
        text: the text of the first row; None if the prompt was not a text.
        first_token_s: the time until the first token, which includes processing the prompt.
        ms_per_token: the mean time of a further step for all rows; None if there was only one
            step.
    """

    description: str
    prompt_length: int
    encoding: str | None
    notes: tuple[str, ...]
    tokens: Tokens
    text: str | None
    open_seconds: float
    first_token_s: float
    ms_per_token: float | None
    saved: Path | None

    def to_json(self) -> dict[str, Any]:
        """The result as a document."""
        return {**vars(self), "tokens": self.tokens.tolist(), "notes": list(self.notes)}

    def rows(self) -> Iterator[tuple[str, str]]:
        """The result as (label, text) lines for people."""
        yield "runtime", self.description
        batch, new = self.tokens.shape
        encoding = f", encoded as {self.encoding}" if self.encoding else ""
        yield "prompt", f"{batch} x {self.prompt_length} tokens{encoding}"
        speed = "" if self.ms_per_token is None else f", then {self.ms_per_token:.2f} ms a token"
        yield "time", f"first token after {self.first_token_s:.3f} s{speed} ({new} tokens)"
        if self.saved is not None:
            yield "saved", str(self.saved)


def generate_artifact(
    artifact: str | os.PathLike[str],
    *,
    prompt: str | None = None,
    prompt_file: str | os.PathLike[str] | None = None,
    input_ids: str | os.PathLike[str] | None = None,
    tokenizer: str = "auto",
    max_new_tokens: int = 20,
    temperature: float | None = None,
    top_k: int = 0,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    stop: Sequence[int] | None = None,
    runtime: str = "auto",
    threads: int | None = None,
    ops: Choice = "auto",
    output: str | os.PathLike[str] | None = None,
    write: Callable[[str], None] | None = None,
    progress: Callable[[str], None] | None = None,
) -> GenerationResult:
    """Continue one of `prompt`, `prompt_file` and `input_ids` (a .npy file of [batch,] length).

    The settings are those of `Generator.stream`. `write` receives the new text piece by piece, as
    soon as it is generated. `output` is a .npy file for the new tokens, written atomically.

    Raises:
        UsageError: the arguments contradict each other, or the artifact cannot generate.
        InputError: the model does not accept the prompt.
        GenerationLimitError: the sequence has reached the maximum length of the model. The tokens
            generated before are written to `output`, and the error contains them.
        ExportError: `output` cannot be written.
    """
    if sum(source is not None for source in (prompt, prompt_file, input_ids)) != 1:
        raise UsageError("give exactly one of --prompt, --prompt-file and --input-ids")
    destination = None if output is None else output_file(output, ".npy")
    say = progress or (lambda message: None)
    say("checking the artifact")
    opened = Artifact.open(Path(artifact))
    require_tokens(opened.signature, "generate")
    ids, codec = read_tokens(
        opened, input_ids=input_ids, text=prompt, text_file=prompt_file, tokenizer=tokenizer
    )
    say("opening the runtime")
    start = time.perf_counter()
    generator = open_generator(opened, runtime=runtime, threads=threads, ops=ops)
    open_seconds = time.perf_counter() - start
    text = None if codec is None else _Text(codec, ids[0].tolist(), write)
    steps: list[Tokens] = []
    times: list[float] = []
    limit: GenerationLimitError | None = None
    try:
        stream = generator.stream(
            ids,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            repetition_penalty=repetition_penalty,
            seed=seed,
            stop=stop,
        )
        say(f"generating after {ids.shape[1]} tokens")
        start = time.perf_counter()
        for tokens in stream:
            times.append(time.perf_counter() - start)
            steps.append(tokens)
            if text is not None:
                text.add(int(tokens[0]))
            start = time.perf_counter()
    except GenerationLimitError as error:
        limit = error
    finally:
        generator.close()
    if text is not None:
        text.end()
    found = np.stack(steps, axis=1)
    if destination is not None:
        save_output(destination, lambda file: np.save(file, found))
    if limit is not None:
        limit.tokens = found
        raise limit
    return GenerationResult(
        description=generator.description,
        prompt_length=ids.shape[1],
        encoding=codec.name if codec else None,
        notes=(codec.note,) if codec and codec.note else (),
        tokens=found,
        text=None if text is None else text.whole,
        open_seconds=open_seconds,
        first_token_s=times[0],
        ms_per_token=1e3 * float(np.mean(times[1:])) if len(times) > 1 else None,
        saved=destination,
    )


class _Text:
    """Collects the new text and passes it to `write`."""

    def __init__(
        self, codec: TextCodec, prompt: Sequence[int], write: Callable[[str], None] | None
    ) -> None:
        self._stream = codec.stream(prompt)
        self._write = write or (lambda piece: None)
        self.whole = ""

    def add(self, token: int) -> None:
        self._put(self._stream.add(token))

    def end(self) -> None:
        self._put(self._stream.end())

    def _put(self, piece: str) -> None:
        if piece:
            self.whole += piece
            self._write(piece)
