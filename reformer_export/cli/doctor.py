"""reformer-export doctor"""

from __future__ import annotations

import click

from reformer_export.cli.options import common_options, pass_output
from reformer_export.cli.output import Output


@click.command("doctor")
@common_options
@pass_output
def command(output: Output) -> int:
    """Show which packages, runtimes, operators and compilers are usable, and why others are not.

    The exit code is 1 if no runtime can run an artifact here.
    """
    with output.working() as progress:
        from reformer_export.cli.doctor_checks import diagnose, healthy

        progress("looking at packages and runtimes")
        facts = diagnose()
    usable = healthy(facts)
    if output.as_json:
        output.document({"healthy": usable, "facts": [fact.to_json() for fact in facts]})
    else:
        output.rows(
            (f"{fact.status:<8}{fact.group:<10}{fact.name}", fact.advice()) for fact in facts
        )
    return 0 if usable else 1
