"""reformer-export map"""

from __future__ import annotations

from pathlib import Path

import click

from reformer_export.cli.options import (
    artifact_argument,
    common_options,
    ops_option,
    pass_output,
)
from reformer_export.cli.output import Output
from reformer_ops.core.native import Choice

_COUNT = click.IntRange(min=1)


@click.command("map")
@artifact_argument
@click.argument("source", metavar="INPUT")
@click.argument("destination", metavar="OUTPUT")
@click.option(
    "--output",
    "result",
    type=click.Choice(["auto", "embeddings", "bits-per-byte", "classification", "generation"]),
    default="auto",
    show_default=True,
    help="What to compute for each document; auto: what the model is for.",
)
@click.option("--text-field", default="text", show_default=True, metavar="NAME")
@click.option("--id-field", default="id", show_default=True, metavar="NAME")
@click.option(
    "--tokenizer",
    type=click.Choice(["auto", "bytes"]),
    default="auto",
    show_default=True,
    help="How texts are encoded; see run.",
)
@click.option(
    "--window",
    type=_COUNT,
    metavar="N",
    help="Tokens that the model sees at once.  [default: the model's maximum, at most 16384]",
)
@click.option(
    "--overlap",
    type=_COUNT,
    metavar="N",
    help="Tokens of a window that the next one sees again.  [default: half a window]",
)
@click.option(
    "--max-batch-tokens",
    type=_COUNT,
    default=16_384,
    show_default=True,
    metavar="N",
    help="Tokens of a batch.",
)
@click.option(
    "--max-new-tokens",
    type=_COUNT,
    default=20,
    show_default=True,
    metavar="N",
    help="For generation, as the next four.",
)
@click.option("--temperature", type=float, metavar="X", help="See generate.")
@click.option("--top-k", type=int, default=0, metavar="K", help="See generate.")
@click.option("--top-p", type=float, default=1.0, metavar="P", help="See generate.")
@click.option("--seed", type=int, default=0, show_default=True, metavar="S", help="See generate.")
@click.option(
    "--shard-rows",
    type=_COUNT,
    default=1000,
    show_default=True,
    metavar="N",
    help="Documents that are written together.",
)
@click.option("--local", is_flag=True, help="Run on this machine without Ray.")
@click.option(
    "--workers",
    type=_COUNT,
    metavar="N",
    help="Processes.  [default: 1 with --local; with Ray as many as the cores allow]",
)
@click.option("--runtime", default="auto", show_default=True, metavar="NAME")
@click.option(
    "--threads",
    type=_COUNT,
    metavar="N",
    help="CPU threads of a process.  [default: the cores, shared evenly; with Ray 1]",
)
@ops_option
@common_options
@pass_output
def command(
    output: Output,
    artifact: Path,
    source: str,
    destination: str,
    result: str,
    text_field: str,
    id_field: str,
    tokenizer: str,
    window: int | None,
    overlap: int | None,
    max_batch_tokens: int,
    max_new_tokens: int,
    temperature: float | None,
    top_k: int,
    top_p: float,
    seed: int,
    shard_rows: int,
    local: bool,
    workers: int | None,
    runtime: str,
    threads: int | None,
    ops: Choice,
) -> int:
    """Run ARTIFACT on every document of INPUT; write the results to OUTPUT as Parquet.

    INPUT is a file, a folder, a pattern or a URL of Parquet, JSON lines (.jsonl) or text files
    (.txt, one document each). Without --local it runs on the Ray cluster of RAY_ADDRESS, or on a
    Ray that is started here. If it was killed, run it again: it does what is missing.
    """
    with output.working() as progress:
        from reformer_export.generation.sampling import Sampling
        from reformer_export.serving.corpus.running import map_corpus

        done = map_corpus(
            artifact,
            source,
            destination,
            result=result,
            text_field=text_field,
            id_field=id_field,
            tokenizer=tokenizer,
            window=window,
            overlap=overlap,
            batch_tokens=max_batch_tokens,
            max_new_tokens=max_new_tokens,
            sampling=Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=seed),
            shard_rows=shard_rows,
            local=local,
            workers=workers,
            runtime=runtime,
            threads=threads,
            ops=ops,
            progress=progress,
        )
    if output.as_json:
        output.document(done.to_json())
        return 0
    for note in done.notes:
        output.note(note)
    output.rows(done.rows())
    return 0
