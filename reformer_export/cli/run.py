"""reformer-export run"""

from __future__ import annotations

from pathlib import Path

import click

from reformer_export.cli.options import (
    PATH,
    artifact_argument,
    common_options,
    cuda_graph_option,
    device_option,
    ops_option,
    pass_output,
)
from reformer_export.cli.output import Output
from reformer_export.host.device import GraphChoice
from reformer_ops.core.native import Choice


@click.command("run")
@artifact_argument
@click.option("--input-ids", type=PATH, metavar="FILE.npy", help="Token ids, [batch,] length.")
@click.option("--attention-mask", type=PATH, metavar="FILE.npy", help="1 token, 0 padding.")
@click.option("--text", metavar="TEXT", help="A text to encode.")
@click.option("--text-file", type=PATH, metavar="FILE", help="A file with the text.")
@click.option(
    "--series",
    type=PATH,
    metavar="FILE",
    help="Numbers in a .npy file, [[batch,] length,] channels, or a .csv file, a line for each "
    "step.",
)
@click.option(
    "--time-features",
    type=PATH,
    metavar="FILE",
    help="With --series, for a model that takes them: the times of all steps.",
)
@click.option(
    "--tokenizer",
    type=click.Choice(["auto", "bytes"]),
    default="auto",
    show_default=True,
    help="auto: the artifact's tokenizer, or bytes if there is none and they fit; bytes: always "
    "bytes.",
)
@click.option("--runtime", default="auto", show_default=True, metavar="NAME")
@click.option("--threads", type=click.IntRange(min=1), metavar="N", help="CPU threads.")
@ops_option
@device_option
@cuda_graph_option
@click.option(
    "--bench",
    type=click.IntRange(min=1),
    metavar="N",
    help="Then run N more times; show the time of each run and the memory.",
)
@click.option("--output", "destination", type=PATH, metavar="FILE.npz", help="Save the outputs.")
@common_options
@pass_output
def command(
    output: Output,
    artifact: Path,
    input_ids: Path | None,
    attention_mask: Path | None,
    text: str | None,
    text_file: Path | None,
    series: Path | None,
    time_features: Path | None,
    tokenizer: str,
    runtime: str,
    threads: int | None,
    ops: Choice,
    device: str,
    cuda_graph: GraphChoice,
    bench: int | None,
    destination: Path | None,
) -> int:
    """Run ARTIFACT once and show its outputs.

    Give one of --input-ids, --text, --text-file and, for a model of series, --series.
    """
    with output.working() as progress:
        from reformer_export.inference.running import run_artifact

        result = run_artifact(
            artifact,
            input_ids=input_ids,
            attention_mask=attention_mask,
            text=text,
            text_file=text_file,
            series=series,
            time_features=time_features,
            tokenizer=tokenizer,
            runtime=runtime,
            threads=threads,
            ops=ops,
            device=device,
            cuda_graph=cuda_graph,
            output=destination,
            bench=bench or 0,
            progress=progress,
        )
    if output.as_json:
        output.document(result.to_json())
        return 0
    for note in result.notes:
        output.note(note)
    output.rows(result.rows())
    return 0
