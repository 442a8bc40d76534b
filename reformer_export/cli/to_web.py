"""reformer-export to-web"""

from __future__ import annotations

from pathlib import Path

import click

from reformer_export.cli.options import PATH, artifact_argument, common_options, pass_output
from reformer_export.cli.output import Output


@click.command("to-web")
@artifact_argument
@click.argument("out", type=PATH)
@click.option(
    "--webgpu",
    is_flag=True,
    help="Add ONNX Runtime for GPUs, 17 MB. A browser downloads only the part that it uses.",
)
@click.option(
    "--onnxruntime-web",
    type=PATH,
    metavar="FILE",
    help="The .tgz of the npm package onnxruntime-web.  [default: npm downloads it, once]",
)
@click.option(
    "--against",
    metavar="PATH_OR_HUB_ID",
    help="The checkpoint to compare with.  [default: the one the manifest names]",
)
@click.option("--no-verify", is_flag=True, help="Do not compare the graphs with the checkpoint.")
@click.option("--force", is_flag=True, help="Replace the page at OUT.")
@common_options
@pass_output
def command(
    output: Output,
    artifact: Path,
    out: Path,
    webgpu: bool,
    onnxruntime_web: Path | None,
    against: str | None,
    no_verify: bool,
    force: bool,
) -> int:
    """Make a page in the folder OUT that runs ARTIFACT in the browser.

    OUT is a static web site, without programs on the server and without other sites. ARTIFACT is a
    language model; with --task text-generation-with-past the page can also continue a text.
    """
    with output.working() as progress:
        from reformer_export import to_web
        from reformer_export.artifact.manifest import WEB

        page = to_web(
            artifact,
            out,
            webgpu=webgpu,
            onnxruntime_web=onnxruntime_web,
            verify=not no_verify,
            against=against,
            force=force,
            progress=progress,
        )
    if output.as_json:
        output.document(page.to_json())
        return 0
    if reason := page.manifest.formats[WEB].details["ids_because"]:
        output.note(f"the page takes token ids instead of text: {reason}")
    size = sum(record.bytes for record in page.manifest.files.values())
    parity = page.parity("onnx")
    output.rows(
        [
            ("page", f"{page.path}, {size / 1e6:.1f} MB"),
            ("parity", str(parity["summary"]) if parity else "not verified (--no-verify)"),
            ("use", f"reformer-export serve-web {out}"),
        ]
    )
    return 0
