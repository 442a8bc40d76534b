"""The settings of the server, with their limits."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from reformer_export.errors import UsageError
from reformer_export.host.device import CPU
from reformer_ops.core.native import Choice

TOKEN_VARIABLE = "REFORMER_SERVE_TOKEN"
"""The environment variable with the bearer token."""


@dataclass(frozen=True)
class ModelOptions:
    """How a worker process opens the model; see `open_runner` and `open_generator`."""

    runtime: str = "auto"
    threads: int | None = None
    ops: Choice = "auto"
    device: str = CPU


@dataclass(frozen=True)
class Limits:
    """What the server accepts.

    Attributes:
        tokens: the maximum number of tokens of a request, padding and new tokens included.
        batch_tokens: the maximum number of tokens in a batch, padding included.
        streams: the maximum number of sequences that one worker generates at the same time.
        body_bytes: the maximum size of a request's body.
        body_seconds: the time in which a body must arrive.
        queue: the maximum number of requests that wait for a worker.
        queue_seconds: the maximum time that a request waits for a worker.
        run_seconds: the maximum time that a worker may take for a batch or a completion.
    """

    tokens: int = 16_384
    batch_tokens: int = 16_384
    streams: int = 32
    body_bytes: int = 16 * 2**20
    body_seconds: float = 30.0
    queue: int = 1024
    queue_seconds: float = 60.0
    run_seconds: float = 600.0


def bearer_token(file: str | os.PathLike[str] | None) -> str | None:
    """The token that requests must present: from a file, else from the environment, else None.

    Raises:
        UsageError: the file cannot be read, or the token is empty or has spaces or line breaks.
    """
    if file is None:
        if (token := os.environ.get(TOKEN_VARIABLE)) is None:
            return None
        where = TOKEN_VARIABLE
    else:
        where = f"--token-file {file}"
        try:
            token = Path(file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{where}: cannot read a token: {error}") from error
    if not re.fullmatch(r"[!-~]+", token):
        raise UsageError(f"{where}: a token is visible ASCII characters without spaces")
    return token
