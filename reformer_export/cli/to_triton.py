"""reformer-export to-triton"""

from __future__ import annotations

from pathlib import Path

import click

from reformer_export.cli.options import (
    PATH,
    artifact_argument,
    common_options,
    ops_option,
    pass_output,
)
from reformer_export.cli.output import Output
from reformer_ops.core.native import Choice

_COUNT = click.IntRange(min=1)


@click.command("to-triton")
@artifact_argument
@click.argument("repository", type=PATH, metavar="REPO")
@click.option("--name", help="The model's name.  [default: the folder's name]")
@click.option(
    "--backend",
    type=click.Choice(["auto", "onnxruntime", "torchscript", "aoti"]),
    default="auto",
    show_default=True,
    help="What runs the model; auto: the first whose format is in ARTIFACT.",
)
@ops_option
@click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where to run.",
)
@click.option(
    "--instances",
    type=_COUNT,
    default=1,
    show_default=True,
    metavar="N",
    help="Copies of the model that run at the same time.",
)
@click.option(
    "--max-batch",
    type=_COUNT,
    default=8,
    show_default=True,
    metavar="N",
    help="Sequences in a batch.",
)
@click.option("--threads", type=_COUNT, metavar="N", help="CPU threads of an instance.")
@click.option(
    "--seen-at",
    metavar="PATH",
    help="The path of REPO for the server, such as /models in a container.  [default: REPO's path "
    "on this machine]",
)
@common_options
@pass_output
def command(
    output: Output,
    artifact: Path,
    repository: Path,
    name: str | None,
    backend: str,
    ops: Choice,
    device: str,
    instances: int,
    max_batch: int,
    threads: int | None,
    seen_at: str | None,
) -> int:
    """Add ARTIFACT to REPO, a model repository for NVIDIA Triton Inference Server.

    REPO is created if it does not exist.
    """
    with output.working():
        from reformer_export.serving.triton import to_triton

        result = to_triton(
            artifact,
            repository,
            name=name,
            backend=backend,
            ops=ops,
            device=device,
            instances=instances,
            max_batch=max_batch,
            threads=threads,
            seen_at=seen_at,
        )
    if output.as_json:
        output.document(result.to_json())
    else:
        output.rows(result.rows())
    return 0
