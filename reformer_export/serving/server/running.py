"""Serves an artifact until a signal asks to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reformer_export.artifact import Artifact
from reformer_export.artifact.signature import require_tokens
from reformer_export.errors import InputError, UsageError
from reformer_export.host.machine import usable_cores
from reformer_export.host.optional import installed, installed_version, require
from reformer_export.inference.text import TextCodec, open_codec
from reformer_export.runtimes.decoders import can_generate
from reformer_export.runtimes.registry import check_runtime
from reformer_export.serving.batching import Batching
from reformer_export.serving.server.settings import Limits, ModelOptions

if TYPE_CHECKING:
    from reformer_export.serving.server.app import App

_PACKAGES = ("starlette", "uvicorn", "orjson", "prometheus_client")

_GRACE_SECONDS = 0.5
"""The time in which a request must arrive on a connection that was accepted before the end."""

Started = Callable[["Serving"], None]


@dataclass(frozen=True)
class Serving:
    """A server that is ready.

    Attributes:
        url: the address, with the port that was chosen.
        name: the model's name in URLs.
        description: the runtime of the workers.
        notes: what the user should know.
    """

    url: str
    name: str
    description: str
    workers: int
    generates: bool
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The server as a document."""
        return dict(vars(self))


def serve_artifact(
    artifact: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: str | None = None,
    workers: int = 1,
    model: ModelOptions | None = None,
    tokenizer: str = "auto",
    limits: Limits | None = None,
    token: str | None = None,
    drain_seconds: float = 1.0,
    started: Started | None = None,
    progress: Callable[[str], None] | None = None,
) -> None:
    """Serve an artifact over HTTP; returns after SIGTERM or SIGINT, when all requests are answered.

    Args:
        artifact: the folder.
        host: the address to listen on.
        port: the port; 0 chooses a free one.
        name: the model's name in URLs; the name of the folder by default.
        workers: the number of processes that run the model.
        model: how they open it. By default they share the processor's cores evenly.
        tokenizer: "auto" or "bytes"; see `open_codec`.
        limits: what the server accepts.
        token: the bearer token that requests must present; None for no token.
        drain_seconds: for how long the server still accepts requests after a signal; it is no
            longer "ready" then. This gives a load balancer time to notice.
        started: called when the server is ready.

    Raises:
        UsageError: the address cannot be used, or the runtime does not run the artifact.
        ArtifactError: the folder is not a valid artifact.
        MissingDependencyError: a package of the extra `serve` is not installed.
        RuntimeUnavailableError: the workers cannot open the model.
    """
    for package in _PACKAGES:
        require(package, purpose="serving", package="reformer-export[serve]")
    say = progress or (lambda message: None)
    say("checking the artifact")
    opened = Artifact.open(Path(artifact))
    require_tokens(opened.signature, "serve")
    name = opened.path.name if name is None else name
    if not name or "/" in name:
        raise UsageError(f"--name {name!r}: it is a part of URLs, so give a name without '/'")
    options = model or ModelOptions()
    if options.runtime != "auto":
        check_runtime(opened, options.runtime)
    if options.threads is None:
        options = replace(options, threads=max(1, usable_cores() // workers))
    codec, note = _codec(opened, tokenizer)
    notes = [note] if note else []
    if token is None and host not in ("127.0.0.1", "::1", "localhost"):
        notes.append("anybody who reaches this address can use the model: there is no token")
    if can_generate(opened) and not can_generate(opened, options.runtime):
        notes.append(f"{options.runtime} does not generate: there is no /v1/completions")
    with _listening(host, port) as listener:
        say("opening the model")
        serving = _Serving(
            artifact=opened,
            name=name,
            listener=listener,
            workers=workers,
            options=options,
            codec=codec,
            limits=limits or Limits(),
            token=token,
            drain_seconds=drain_seconds,
            notes=tuple(notes),
        )
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(serving.run(started))


@dataclass(frozen=True)
class _Serving:
    artifact: Artifact
    name: str
    listener: socket.socket
    workers: int
    options: ModelOptions
    codec: TextCodec | None
    limits: Limits
    token: str | None
    drain_seconds: float
    notes: tuple[str, ...]

    async def run(self, started: Started | None) -> None:
        # These modules import packages of the extra.
        from reformer_export.serving.server.app import App, ServedModel
        from reformer_export.serving.server.metrics import Metrics
        from reformer_export.serving.server.pool import WorkerProcess
        from reformer_export.serving.server.scheduler import Scheduler

        generates = can_generate(self.artifact, self.options.runtime)
        metrics = Metrics()
        scheduler = Scheduler(
            Batching.of(self.artifact),
            self.limits,
            metrics,
            partial(WorkerProcess, self.artifact.path, self.options, generates=generates),
            self.workers,
        )
        try:
            description = await scheduler.start()
            model = ServedModel(
                self.artifact,
                self.name,
                installed_version("reformer-export") or "0",
                description,
                generates,
                self.codec,
            )
            app = App(model, scheduler, self.limits, metrics, self.token)
            state = Serving(
                _url(self.listener), self.name, description, self.workers, generates, self.notes
            )
            await self._serve(app, lambda: started(state) if started else None)
        finally:
            await scheduler.close()

    async def _serve(self, app: App, started: Callable[[], None]) -> None:
        import uvicorn

        class Server(uvicorn.Server):
            @contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield  # the handlers below replace uvicorn's

        config = uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here reads the client's address
        )
        server = Server(config)
        signals: asyncio.Queue[None] = asyncio.Queue()

        async def stop() -> None:
            await signals.get()
            app.draining = True
            await asyncio.sleep(self.drain_seconds)
            # Closing resets connections that wait to be accepted: from now on at most one waits.
            self.listener.listen(0)
            await asyncio.sleep(_GRACE_SECONDS)
            for listening in server.servers:
                listening.close()
            # uvicorn closes connections without a request; the request may be on its way.
            await asyncio.sleep(_GRACE_SECONDS)
            server.should_exit = True
            await signals.get()  # a second signal: do not wait for the answers
            server.force_exit = True

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, signals.put_nowait, None)
        stopping = asyncio.create_task(stop())
        gc.freeze()  # a garbage collection need not search what exists by now
        started()  # connections wait until uvicorn accepts them
        await server.serve(sockets=[self.listener])
        stopping.cancel()


def _codec(artifact: Artifact, tokenizer: str) -> tuple[TextCodec | None, str | None]:
    """The codec for texts, or None and the reason why there is none."""
    try:
        codec = open_codec(artifact, tokenizer=tokenizer)
    except InputError as error:
        return None, f"/v1/completions takes token ids only: {error}"
    return codec, codec.note


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens; UsageError if the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, OverflowError) as error:
        raise UsageError(f"cannot listen on {host} port {port}: {error}") from error
    with listener:
        yield listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's event loop if it is installed."""
    if not installed("uvloop"):
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = require(
        "uvloop", purpose="serving"
    ).new_event_loop
    return factory
