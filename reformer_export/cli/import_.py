"""reformer-export import"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from reformer_export.cli.exporting import TASKS, checkpoint_options
from reformer_export.cli.options import common_options, pass_output
from reformer_export.cli.output import Output

_TASKS = [task for task in TASKS if not task.endswith("-with-past")]


@click.command("import")
@checkpoint_options
@click.option("--task", type=click.Choice(_TASKS), default="auto", show_default=True)
@common_options
@pass_output
def command(output: Output, model: str, out: Path, **options: Any) -> int:
    """Write a checkpoint as config.json and model.safetensors in the new folder OUT.

    Transformers reads OUT if its Reformer can compute what the model computes. Every verb reads it.
    """
    with output.working() as progress:
        from reformer_export import import_checkpoint

        imported = import_checkpoint(model, out, progress=progress, **options)
    if output.as_json:
        output.document(dataclasses.asdict(imported))
        return 0
    for note in imported.notes:
        output.note(note)
    own = imported.beyond_transformers
    output.rows(
        [
            ("checkpoint", str(imported.path)),
            ("source", imported.library),
            ("model", f"{imported.architecture}, {imported.task}"),
            (
                "transformers",
                f"does not read it: config.json has {' and '.join(own)}" if own else "reads it",
            ),
        ]
    )
    return 0
