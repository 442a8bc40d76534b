"""reformer-export serve"""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path

import click

from reformer_export.cli.options import (
    PATH,
    artifact_argument,
    common_options,
    device_option,
    ops_option,
    pass_output,
)
from reformer_export.cli.output import Output
from reformer_ops.core.native import Choice

_COUNT = click.IntRange(min=1)
_SECONDS = click.FloatRange(min=0, min_open=True)


@click.command("serve")
@artifact_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="The port; 0 chooses a free one.",
)
@click.option("--name", help="The model's name in URLs.  [default: the folder's name]")
@click.option(
    "--workers",
    type=_COUNT,
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that run the model.",
)
@click.option("--runtime", default="auto", show_default=True, metavar="NAME")
@click.option(
    "--threads",
    type=_COUNT,
    metavar="N",
    help="CPU threads of a worker.  [default: the cores, shared evenly]",
)
@ops_option
@device_option
@click.option(
    "--tokenizer",
    type=click.Choice(["auto", "bytes"]),
    default="auto",
    show_default=True,
    help="How /v1/completions encodes texts; see run.",
)
@click.option(
    "--token-file",
    type=PATH,
    metavar="FILE",
    help="A file with the bearer token that requests must present.  [default: the environment "
    "variable REFORMER_SERVE_TOKEN; if it is not set, no token is needed]",
)
@click.option(
    "--max-tokens",
    type=_COUNT,
    default=16_384,
    show_default=True,
    metavar="N",
    help="Tokens of a request, padding and new tokens included.",
)
@click.option(
    "--max-batch-tokens",
    type=_COUNT,
    default=16_384,
    show_default=True,
    metavar="N",
    help="Tokens of the requests that run as one batch.",
)
@click.option(
    "--max-streams",
    type=_COUNT,
    default=32,
    show_default=True,
    metavar="N",
    help="Sequences that a worker generates at the same time.",
)
@click.option(
    "--max-body",
    type=_COUNT,
    default=16,
    show_default=True,
    metavar="MB",
    help="Size of a request's body.",
)
@click.option(
    "--body-timeout",
    type=_SECONDS,
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="The time in which a body must arrive.",
)
@click.option(
    "--max-queue",
    type=_COUNT,
    default=1024,
    show_default=True,
    metavar="N",
    help="Requests that wait for a worker; more get the status 429.",
)
@click.option(
    "--queue-timeout",
    type=_SECONDS,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="The longest wait for a worker; then a request gets the status 503.",
)
@click.option(
    "--run-timeout",
    type=_SECONDS,
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="The longest time for a batch or a completion; then its requests get the status 504.",
)
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="After SIGTERM, accept requests for this time, but report not to be ready.",
)
@common_options
@pass_output
def command(
    output: Output,
    artifact: Path,
    host: str,
    port: int,
    name: str | None,
    workers: int,
    runtime: str,
    threads: int | None,
    ops: Choice,
    device: str,
    tokenizer: str,
    token_file: Path | None,
    max_tokens: int,
    max_batch_tokens: int,
    max_streams: int,
    max_body: int,
    body_timeout: float,
    max_queue: int,
    queue_timeout: float,
    run_timeout: float,
    drain: float,
) -> int:
    """Serve ARTIFACT over HTTP until SIGTERM or Ctrl-C.

    The V2 inference protocol is at /v2. If ARTIFACT generates, OpenAI's completions are at
    /v1/completions. Prometheus' metrics are at /metrics.
    """
    stdout = sys.stdout
    with output.working() as progress:
        from reformer_export.serving.server.running import Serving, serve_artifact
        from reformer_export.serving.server.settings import Limits, ModelOptions, bearer_token

        def started(serving: Serving) -> None:
            if output.as_json:
                with redirect_stdout(stdout):
                    output.document(serving.to_json())
            for note in serving.notes:
                output.note(note)
            progress(f"serving {serving.name} on {serving.url} ({serving.description})")

        serve_artifact(
            artifact,
            host=host,
            port=port,
            name=name,
            workers=workers,
            model=ModelOptions(runtime, threads, ops, device),
            tokenizer=tokenizer,
            limits=Limits(
                tokens=max_tokens,
                batch_tokens=max_batch_tokens,
                streams=max_streams,
                body_bytes=max_body * 2**20,
                body_seconds=body_timeout,
                queue=max_queue,
                queue_seconds=queue_timeout,
                run_seconds=run_timeout,
            ),
            token=bearer_token(token_file),
            drain_seconds=drain,
            started=started,
            progress=progress,
        )
    return 0
