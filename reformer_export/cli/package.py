"""reformer-export package"""

from __future__ import annotations

from pathlib import Path

import click

from reformer_export.cli.options import PATH, artifact_argument, common_options, pass_output
from reformer_export.cli.output import Output


@click.command("package")
@artifact_argument
@click.argument("out", type=PATH, metavar="OUT.tar.gz")
@click.option(
    "--platform",
    type=click.Choice(["linux-x86_64", "linux-x86_64-cuda", "linux-aarch64"]),
    required=True,
    help="The platform of the device.",
)
@click.option(
    "--runtime-dir",
    type=PATH,
    metavar="FOLDER",
    help="The folder with the C++ runtime for that platform.  [default: the checkout's build "
    "folder]",
)
@click.option("--onnxruntime", type=PATH, metavar="FILE", help="The libonnxruntime.so to pack.")
@common_options
@pass_output
def command(
    output: Output,
    artifact: Path,
    out: Path,
    platform: str,
    runtime_dir: Path | None,
    onnxruntime: Path | None,
) -> int:
    """Pack ARTIFACT and everything that a device needs to run it into OUT.tar.gz.

    The archive contains reformer-run, our kernels and ONNX Runtime. The device needs no Python.
    """
    with output.working():
        from reformer_export.cli.packaging import package

        result = package(
            artifact, out, platform=platform, runtime_dir=runtime_dir, onnxruntime=onnxruntime
        )
    if output.as_json:
        output.document(result.to_json())
    else:
        output.rows(result.rows())
    return 0
