"""reformer-export generate"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from reformer_export.cli.options import (
    PATH,
    IntegerList,
    artifact_argument,
    common_options,
    ops_option,
    pass_output,
)
from reformer_export.cli.output import Output, printable_text
from reformer_ops.core.native import Choice


@click.command("generate")
@artifact_argument
@click.option("--prompt", metavar="TEXT", help="A text to continue.")
@click.option("--prompt-file", type=PATH, metavar="FILE", help="A file with the text.")
@click.option("--input-ids", type=PATH, metavar="FILE.npy", help="Token ids, [batch,] length.")
@click.option(
    "--tokenizer",
    type=click.Choice(["auto", "bytes"]),
    default="auto",
    show_default=True,
    help="auto: the artifact's tokenizer, or bytes if there is none and they fit; bytes: always "
    "bytes.",
)
@click.option(
    "--max-new-tokens",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="The maximum number of tokens to generate.",
)
@click.option(
    "--temperature",
    type=float,
    metavar="X",
    help="Sample at this temperature: below 1 prefers likely tokens, above 1 unlikely ones; 0 "
    "takes the most likely token.",
)
@click.option("--top-k", type=int, default=0, metavar="K", help="Sample from the K most likely.")
@click.option(
    "--top-p",
    type=float,
    default=1.0,
    metavar="P",
    help="Sample from the smallest set of tokens whose probabilities sum to at least P.",
)
@click.option(
    "--repetition-penalty",
    type=float,
    default=1.0,
    metavar="R",
    help="Above 1: tokens that have already occurred become less likely.",
)
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="For sampling.")
@click.option(
    "--stop",
    type=IntegerList(minimum=0),
    help="Token ids that end the text.  [default: the checkpoint's eos_token_id]",
)
@click.option("--runtime", default="auto", show_default=True, metavar="NAME")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.")
@ops_option
@click.option("--output", "destination", type=PATH, metavar="FILE.npy", help="Save the tokens.")
@common_options
@pass_output
def command(
    output: Output,
    artifact: Path,
    ops: Choice,
    destination: Path | None,
    **options: Any,
) -> int:
    """Continue a prompt with ARTIFACT, and show the text while it is generated.

    ARTIFACT is made by to-onnx or to-torchscript with --task text-generation-with-past. Give one of
    --prompt, --prompt-file and --input-ids. Each step takes the most likely token, unless
    --temperature, --top-k or --top-p selects sampling.
    """
    stdout = sys.stdout
    shown = False

    def write(piece: str) -> None:
        nonlocal shown
        shown = True
        encoding = stdout.encoding or "utf-8"
        safe = printable_text(piece)  # the text may contain control characters
        stdout.write(safe.encode(encoding, "backslashreplace").decode(encoding))
        stdout.flush()

    try:
        with output.working() as progress:
            from reformer_export.generation.running import generate_artifact

            result = generate_artifact(
                artifact,
                ops=ops,
                output=destination,
                write=None if output.as_json else write,
                progress=progress,
                **options,
            )
    finally:
        if shown:
            stdout.write("\n")
    if output.as_json:
        output.document(result.to_json())
        return 0
    for note in result.notes:
        output.note(note)
    if result.text is None:
        for row in result.tokens.tolist():
            output.line(" ".join(map(str, row)))
    for label, text in result.rows():
        output.log(f"{label:<8} {text}")
    return 0
