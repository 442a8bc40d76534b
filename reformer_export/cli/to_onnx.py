"""reformer-export to-onnx"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reformer_export.cli.exporting import TASKS, model_options, out_options, show
from reformer_export.cli.options import NameList, common_options, pass_output
from reformer_export.cli.output import Output

__all__ = ["TASKS", "command"]


@click.command("to-onnx")
@model_options
@click.option("--opset", type=click.IntRange(min=1), metavar="N", help="ONNX operator set.")
@click.option(
    "--ops",
    type=click.Choice(["auto", "portable"]),
    default="auto",
    show_default=True,
    help="auto: our operators, with bodies of standard operators; portable: standard ones only.",
)
@click.option("--external-data", is_flag=True, help="Store the weights in model.onnx_data.")
@click.option(
    "--cuda",
    type=NameList(),
    default=(),
    help="Add kernels for these GPUs, such as sm80,sm90; see add-kernels.",
)
@out_options
@common_options
@pass_output
def command(
    output: Output, model: str, out: Path, no_verify: bool, force: bool, **options: Any
) -> int:
    """Export a checkpoint to the folder OUT and verify it.

    The artifact runs in onnxruntime and its outputs are compared with the checkpoint's. If they
    differ too much, the exit code is 3 and OUT does not change.
    """
    with output.working() as progress:
        from reformer_export import to_onnx

        artifact = to_onnx(
            model, out, verify=not no_verify, force=force, progress=progress, **options
        )
    return show(output, artifact, "onnx")
