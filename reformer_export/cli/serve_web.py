"""reformer-export serve-web"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from reformer_export.cli.options import PATH, common_options, pass_output
from reformer_export.cli.output import Output


@click.command("serve-web")
@click.argument("page", type=PATH)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="The port; 0 for any free one.",
)
@common_options
@pass_output
def command(output: Output, page: Path, port: int) -> int:
    """Serve PAGE, a folder that to-web made, to browsers on this machine.

    The server sends the headers that browsers ask for before they let WebAssembly use several
    threads. It runs until Ctrl-C.
    """
    with output.working():
        from reformer_export.exporters.web.server import PageServer

        server = PageServer(page, port=port)
    if output.as_json:
        output.document({"url": server.url})
    else:
        output.rows([("page", f"{server.url} (Ctrl-C ends)")])
    with suppress(KeyboardInterrupt):
        server.serve()
    return 0
