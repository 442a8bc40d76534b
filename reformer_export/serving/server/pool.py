"""The server's side of a worker process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from reformer_export.serving.server.channel import SPAWN, Channel
from reformer_export.serving.server.messages import Answer, Message
from reformer_export.serving.server.settings import ModelOptions
from reformer_export.serving.server.worker import work


class WorkerProcess:
    """A worker process and the two threads that talk to it.

    `answered` and `ended` are called in the event loop. After `ended` nothing more is called.
    """

    def __init__(
        self,
        folder: Path,
        options: ModelOptions,
        *,
        generates: bool,
        answered: Callable[[Answer], None],
        ended: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._answered, self._ended = answered, ended
        self._channel, theirs = Channel.pair()
        self._process = SPAWN.Process(
            target=work, args=(theirs, folder, options, generates), daemon=True
        )
        self._process.start()
        theirs.close()
        # A send blocks while the worker computes and the pipe is full.
        self._sender = ThreadPoolExecutor(1)
        Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int | None:
        """The id of the process."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Send a message soon. If the worker has ended, `ended` is called instead."""
        self._sender.submit(self._send, message)

    def kill(self) -> None:
        """End the process at once; `ended` is called."""
        self._process.kill()

    def close(self, seconds: float) -> None:
        """Let the worker finish what it does, for at most `seconds`, then end it."""
        self.send(None)
        self._process.join(seconds)
        self._process.kill()
        self._sender.shutdown(wait=False, cancel_futures=True)

    def _send(self, message: Message) -> None:
        with suppress(OSError):  # the reader reports the end
            self._channel.send(message)

    def _read(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                self._call(self._answered, self._channel.receive())
        self._process.join()
        self._call(self._ended)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)
