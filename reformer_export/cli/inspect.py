"""reformer-export inspect"""

from __future__ import annotations

from pathlib import Path

import click

from reformer_export.cli.options import artifact_argument, common_options, pass_output
from reformer_export.cli.output import Output


@click.command("inspect")
@artifact_argument
@common_options
@pass_output
def command(output: Output, artifact: Path) -> int:
    """Show what is in ARTIFACT, an artifact or an engine: operators, sizes, axes, provenance.

    Every file is checked against its hash first.
    """
    with output.working():
        from reformer_export.cli.inspection import inspect_folder

        inspection = inspect_folder(artifact)
    if output.as_json:
        output.document(inspection.to_json())
    else:
        output.rows(inspection.rows())
    return 0
