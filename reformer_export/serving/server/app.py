"""The HTTP interface: routes, limits, the bearer token, and errors as JSON."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reformer_export.artifact import Artifact
from reformer_export.errors import InputError, ReformerError
from reformer_export.inference.text import TextCodec
from reformer_export.serving.server import openai, v2
from reformer_export.serving.server.errors import RequestError
from reformer_export.serving.server.json_bodies import read_object, write_json
from reformer_export.serving.server.metrics import Metrics
from reformer_export.serving.server.scheduler import Scheduler
from reformer_export.serving.server.settings import Limits

_OPEN = ("/v2/health/live", "/v2/health/ready")
"""Paths that need no token: the probes of an orchestrator have none."""

_CLIENT_IS_GONE = 499

_MOST_JOINED = 2**16
"""Bytes of a response up to which a copy costs less than another write to the socket."""

_MOST_DISCARDED = 64 * 2**20
"""Bytes of a body that is too large, which are read before it is refused."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class ServedModel:
    """What the server serves.

    Attributes:
        name: the model's name in URLs.
        version: the version of this package.
        platform: the description of the runtime.
        generates: whether the artifact has a decoder.
        codec: converts texts; None if the artifact has no known tokenizer.
    """

    artifact: Artifact
    name: str
    version: str
    platform: str
    generates: bool
    codec: TextCodec | None


class App:
    """The ASGI application.

    Attributes:
        draining: the server is about to stop: it is not ready, and its connections are closed after
            each response.
    """

    def __init__(
        self,
        model: ServedModel,
        scheduler: Scheduler,
        limits: Limits,
        metrics: Metrics,
        token: str | None,
    ) -> None:
        self._model = model
        self._scheduler = scheduler
        self._limits = limits
        self._metrics = metrics
        self._token = None if token is None else token.encode()
        self._created = int(time.time())
        self.draining = False
        named = "/v2/models/{name}"
        routes = [  # tried in this order
            *(
                Route(f"{prefix}{path}", function, methods=methods)
                for path, function, methods in (
                    ("/infer", self.infer, ["POST"]),
                    ("/ready", self.model_ready, ["GET"]),
                    ("", self.model_metadata, ["GET"]),
                )
                for prefix in (named, f"{named}/versions/1")
            ),
            Route("/v2", self.server_metadata),
            Route("/v2/health/live", self.live),
            Route("/v2/health/ready", self.ready),
            Route("/v1/models", self.models),
            Route("/v1/completions", self.completions, methods=["POST"]),
            Route("/metrics", self.prometheus),
        ]
        self._routes = Starlette(
            routes=routes,
            exception_handlers={
                ReformerError: _refused,
                HTTPException: _not_found,
                ClientDisconnect: _gone,
                Exception: _unexpected,
            },
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the token, answer, and count."""
        if scope["type"] != "http":
            return
        start = time.perf_counter()
        status = 0

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                # What is left of a body that was not read must not be taken for a request.
                if self.draining or status in (401, 408, 413):
                    MutableHeaders(scope=message)["Connection"] = "close"
            await send(message)

        answer: ASGIApp = self._routes if self._allowed(scope) else _unauthorized(scope)
        try:
            await answer(scope, receive, counted)
        finally:
            endpoint = getattr(scope.get("endpoint"), "__name__", "other")
            self._metrics.requests.labels(endpoint, status).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - start)

    def _allowed(self, scope: Scope) -> bool:
        if self._token is None or scope["path"] in _OPEN:
            return True
        given = next((value for key, value in scope["headers"] if key == b"authorization"), b"")
        scheme, _, token = given.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)

    # State

    async def server_metadata(self, request: Request) -> Response:
        """GET /v2"""
        return _json(v2.server_metadata(self._model.version))

    async def live(self, request: Request) -> Response:
        """GET /v2/health/live: the process answers."""
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        """GET /v2/health/ready: a worker can take requests, and the server is not stopping."""
        ready = self._scheduler.ready and not self.draining
        return _json({"ready": ready}, 200 if ready else 503)

    async def model_metadata(self, request: Request) -> Response:
        """GET /v2/models/NAME"""
        self._check_name(request)
        model = self._model
        return _json(v2.model_metadata(model.artifact, model.name, model.platform))

    async def model_ready(self, request: Request) -> Response:
        """GET /v2/models/NAME/ready"""
        self._check_name(request)
        return await self.ready(request)

    async def prometheus(self, request: Request) -> Response:
        """GET /metrics"""
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    async def models(self, request: Request) -> Response:
        """GET /v1/models"""
        self._check_generates()
        return _json(openai.models(self._model.name, self._created))

    # The model

    async def infer(self, request: Request) -> Response:
        """POST /v2/models/NAME/infer"""
        self._check_name(request)
        signature = self._model.artifact.signature
        body = await self._body(request)
        asked = v2.parse(body, request.headers.get(v2.BINARY_HEADER), signature.outputs)
        inputs = signature.check(asked.inputs)
        outputs = await _while_connected(request, self._scheduler.infer(inputs))
        text, tensors = v2.answer(self._model.name, asked, outputs)
        if not tensors:
            return Response(text, media_type="application/json")
        headers = {v2.BINARY_HEADER: str(len(text))}
        return _Parts([text, *tensors], headers, "application/octet-stream")

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions"""
        self._check_generates()
        model = self._model
        document = read_object(await self._body(request))
        asked = openai.parse(document, model.name, model.artifact.signature, model.codec)
        streams = self._scheduler.generate(asked.sequences())
        choices = [
            openai.Choice(stream, prompt, model.codec, asked.stop)
            for stream, prompt in zip(streams, asked.prompts, strict=True)
        ]
        if not asked.stream:
            try:
                pieces = await _while_connected(request, _whole(choices))
            finally:
                for stream in streams:
                    stream.close()
            entries = [openai.choice(index, piece) for index, piece in enumerate(pieces)]
            response = openai.document(asked, model.name, entries)
            return _json({**response, "usage": openai.usage(asked, choices)})

        async def events() -> AsyncIterator[bytes]:
            try:
                async for index, piece in _merged(choices):
                    entry = openai.choice(index, piece)
                    yield _event(openai.document(asked, model.name, [entry]))
                if asked.usage_in_stream:
                    last = openai.document(asked, model.name, [])
                    yield _event({**last, "usage": openai.usage(asked, choices)})
                yield b"data: [DONE]\n\n"
            finally:
                for stream in streams:
                    stream.close()

        # The status depends on the first token: it may be that no worker becomes free.
        rest = events()
        first = await _while_connected(request, anext(rest))
        return StreamingResponse(_reported(first, rest), media_type="text/event-stream")

    def _check_name(self, request: Request) -> None:
        if (asked := request.path_params["name"]) != self._model.name:
            raise RequestError(
                404, f"there is no model {asked!r}: this server has {self._model.name!r}"
            )

    def _check_generates(self) -> None:
        if not self._model.generates:
            raise RequestError(
                404,
                "this model does not generate: export it with --task text-generation-with-past",
            )

    async def _body(self, request: Request) -> bytes:
        """The body of a request; RequestError if it is too large or arrives too slowly."""
        most = self._limits.body_bytes
        body, size = bytearray(), 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size <= most:
                        body += chunk
                    # A client that is still sending would not read the answer.
                    elif size > most + _MOST_DISCARDED:
                        break
        except TimeoutError as error:
            seconds = self._limits.body_seconds
            raise RequestError(408, f"the body did not arrive in {seconds:g} seconds") from error
        if size > most:
            raise RequestError(413, f"the body is larger than {most} bytes")
        return bytes(body)


class _Parts(Response):
    """A response whose body is in several parts, which are not copied if they are large."""

    def __init__(
        self, parts: Sequence[bytes | memoryview], headers: dict[str, str], media_type: str
    ) -> None:
        size = sum(map(len, parts))
        headers = {**headers, "Content-Length": str(size)}
        super().__init__(headers=headers, media_type=media_type)
        self._parts = parts if size > _MOST_JOINED else [b"".join(parts)]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        last = len(self._parts) - 1
        for index, part in enumerate(self._parts):
            await send({"type": "http.response.body", "body": part, "more_body": index < last})


async def _while_connected(request: Request, work: Awaitable[Result]) -> Result:
    """The result of `work`, which is cancelled if the client goes away (ClientDisconnect)."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    gone.add_done_callback(lambda _: task.cancel())
    try:
        return await task
    except asyncio.CancelledError:
        if gone.done():
            raise ClientDisconnect from None
        raise
    finally:
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _whole(choices: list[openai.Choice]) -> list[openai.Piece]:
    return list(await asyncio.gather(*(choice.whole() for choice in choices)))


async def _merged(choices: list[openai.Choice]) -> AsyncIterator[tuple[int, openai.Piece]]:
    """The pieces of all choices as they come, with the index of the choice."""
    pieces: asyncio.Queue[tuple[int, openai.Piece] | ReformerError | None] = asyncio.Queue()

    async def read(index: int, choice: openai.Choice) -> None:
        try:
            async for piece in choice.pieces():
                pieces.put_nowait((index, piece))
            pieces.put_nowait(None)
        except ReformerError as error:
            pieces.put_nowait(error)

    tasks = [asyncio.create_task(read(*each)) for each in enumerate(choices)]
    running = len(tasks)
    try:
        while running:
            piece = await pieces.get()
            if isinstance(piece, ReformerError):
                raise piece
            if piece is None:
                running -= 1
            else:
                yield piece
    finally:
        for task in tasks:
            task.cancel()


async def _reported(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The events of a stream; an error is its last event."""
    yield first
    try:
        async for event in rest:
            yield event
    except ReformerError as error:
        yield _event(_openai_error(_status(error), str(error)))


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + write_json(document) + b"\n\n"


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(write_json(document), status, media_type="application/json")


def _error(scope: Scope, status: int, message: str) -> Response:
    """An error as the protocol of the path prescribes."""
    openai_path = scope["path"].startswith("/v1/")
    document = _openai_error(status, message) if openai_path else {"error": message}
    response = _json(document, status)
    if status in (429, 503):
        response.headers["Retry-After"] = "1"
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _openai_error(status: int, message: str) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


def _status(error: ReformerError) -> int:
    if isinstance(error, RequestError):
        return error.status
    return 400 if isinstance(error, InputError) else 500


def _unauthorized(scope: Scope) -> Response:
    return _error(scope, 401, "this server needs its token: Authorization: Bearer TOKEN")


async def _refused(request: Request, error: Exception) -> Response:
    status = _status(error) if isinstance(error, ReformerError) else 500
    return _error(request.scope, status, str(error))


async def _not_found(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    path = f"{request.method} {request.url.path}"
    return _error(request.scope, error.status_code, f"{path}: {error.detail}")


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=_CLIENT_IS_GONE)


async def _unexpected(request: Request, error: Exception) -> Response:
    return _error(request.scope, 500, f"unexpected {type(error).__name__} (see the server's log)")
