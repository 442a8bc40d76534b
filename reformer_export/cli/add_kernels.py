"""reformer-export add-kernels"""

from __future__ import annotations

from pathlib import Path

import click

from reformer_export.cli.exporting import show
from reformer_export.cli.options import NameList, artifact_argument, common_options, pass_output
from reformer_export.cli.output import Output
from reformer_export.host.device import DEFAULT_TARGETS


@click.command("add-kernels")
@artifact_argument
@click.option(
    "--target",
    "targets",
    type=NameList(),
    default=",".join(DEFAULT_TARGETS),
    show_default=True,
    help="GPUs to compile for. Kernels for sm80 also run on all later GPUs, but not as fast.",
)
@click.option("--force", is_flag=True, help="Replace existing kernels.")
@common_options
@pass_output
def command(output: Output, artifact: Path, targets: tuple[str, ...], force: bool) -> int:
    """Add kernels for NVIDIA GPUs to ARTIFACT, as model.cuda. No GPU is needed.

    ONNX Runtime's CUDA provider runs our operators with these kernels: see docs/cuda.md.
    """
    with output.working() as progress:
        from reformer_export.exporters.cuda.export import add_cuda_kernels

        made = add_cuda_kernels(artifact, targets=targets, force=force, progress=progress)
    return show(output, made, "cuda")
