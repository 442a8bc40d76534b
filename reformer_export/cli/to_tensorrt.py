"""reformer-export to-tensorrt"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from reformer_export.cli.options import (
    PATH,
    NameList,
    artifact_argument,
    common_options,
    pass_output,
)
from reformer_export.cli.output import Output

_SHAPES = "INPUT:BxL"


@click.command("to-tensorrt")
@artifact_argument
@click.argument("out", type=PATH)
@click.option(
    "--flavor",
    type=click.Choice(["auto", "rtx", "standard"]),
    default="auto",
    show_default=True,
    help="rtx: TensorRT-RTX, builds without a GPU; standard: TensorRT, builds on the target GPU.",
)
@click.option(
    "--minShapes",
    "min_shapes",
    multiple=True,
    metavar=_SHAPES,
    help="Smallest input, such as input_ids:1x64; repeat for several profiles.  [default: 1x1]",
)
@click.option(
    "--optShapes",
    "opt_shapes",
    multiple=True,
    metavar=_SHAPES,
    help="Input to tune for.  [default: 1024 tokens]",
)
@click.option(
    "--maxShapes", "max_shapes", multiple=True, metavar=_SHAPES,
    help="Largest input.  [default: the artifact's maximum length]",
)  # fmt: skip
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    help="Type of weights and activations; hashing, norms and softmax stay fp32.  [default: the "
    "artifact's]",
)
@click.option(
    "--target",
    "targets",
    type=NameList(),
    help="GPUs to build for, such as sm75,sm89 (rtx only).  [default: Ampere and later]",
)
@click.option(
    "--workspace", type=click.IntRange(min=1), metavar="MB", help="Maximum GPU scratch memory."
)
@click.option(
    "--ops",
    type=click.Choice(["portable", "plugin"]),
    default="portable",
    show_default=True,
    help="portable: our operators become standard ones; plugin: our kernels (standard only).",
)
@click.option("--timing-cache", type=PATH, metavar="FILE", help="Timings to reuse (standard only).")
@click.option(
    "--version-compatible",
    is_flag=True,
    help="Build for later releases of TensorRT too (standard only).",
)
@click.option(
    "--hardware-compatible",
    is_flag=True,
    help="Build for all GPUs since Ampere (standard only).",
)
@click.option(
    "--against",
    metavar="PATH_OR_HUB_ID",
    help="The checkpoint to compare with.  [default: the one the manifest names]",
)
@click.option("--no-verify", is_flag=True, help="Do not compare the graph with the checkpoint.")
@click.option("--force", is_flag=True, help="Replace the engine at OUT.")
@common_options
@pass_output
def command(
    output: Output,
    artifact: Path,
    out: Path,
    targets: tuple[str, ...] | None,
    against: str | None,
    no_verify: bool,
    force: bool,
    **options: Any,
) -> int:
    """Build a TensorRT engine from ARTIFACT in the folder OUT.

    First, the graph for TensorRT runs in onnxruntime on the CPU and its outputs are compared with
    the checkpoint's. If they differ too much, the exit code is 3 and OUT does not change.
    """
    with output.working() as progress:
        from reformer_export import to_tensorrt

        engine = to_tensorrt(
            artifact,
            out,
            verify=not no_verify,
            against=against,
            force=force,
            progress=progress,
            log=output.log if output.verbose else None,
            targets=targets or (),
            **options,
        )
    if output.as_json:
        output.document(engine.to_json())
        return 0
    record = engine.record
    size = record.files[engine.engine_path.name].bytes
    output.rows(
        [
            ("engine", str(engine.path)),
            ("built", f"{size / 1e6:.1f} MB in {record.build.seconds:.1f} s, {record.dtype}, "
                      f"{record.flavor} {record.version}"),
            ("targets", ", ".join(record.targets) or "the GPU of this machine"),
            *(("profile", str(profile)) for profile in record.profiles),
            ("evidence", record.evidence),
        ]
    )  # fmt: skip
    return 0
