"""The worker process: it runs the model for the server, and knows nothing of HTTP."""

from __future__ import annotations

import signal
from contextlib import suppress
from pathlib import Path

import numpy as np

from reformer_export.artifact import Artifact
from reformer_export.errors import ReformerError
from reformer_export.generation.generator import open_generator
from reformer_export.runtimes import open_runner
from reformer_export.runtimes.base import Runner
from reformer_export.serving.server.channel import Channel
from reformer_export.serving.server.messages import (
    Answer,
    Cancel,
    Failed,
    Generate,
    Infer,
    Message,
    Outputs,
    Ready,
    Unusable,
)
from reformer_export.serving.server.sequences import Sequences
from reformer_export.serving.server.settings import ModelOptions

_WARM_UP = np.zeros((1, 1), np.int64)


def work(channel: Channel, folder: Path, options: ModelOptions, generates: bool) -> None:
    """Serve the messages of `channel` until it is closed or sends None."""
    # The server ends its workers; a signal to the whole process group must not.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(EOFError, OSError):  # the server is gone
        worker = _open(channel, folder, options, generates)
        if worker is not None:
            worker.run()


def _open(channel: Channel, folder: Path, options: ModelOptions, generates: bool) -> _Worker | None:
    try:
        # The server has compared the hashes.
        artifact = Artifact.open(folder, check_hashes=False)
        runner = open_runner(
            artifact,
            runtime=options.runtime,
            threads=options.threads,
            ops=options.ops,
            device=options.device,
            spinning=False,  # the server and its clients need the cores, too
        )
        runner.run({"input_ids": _WARM_UP})
        sequences = None
        if generates:
            generator = open_generator(
                artifact,
                runtime=options.runtime,
                threads=options.threads,
                ops=options.ops,
            )
            generator.generate(_WARM_UP, max_new_tokens=2)
            sequences = Sequences(generator)
    except (ReformerError, OSError, MemoryError) as error:
        channel.send(Unusable(str(error) or type(error).__name__))
        return None
    channel.send(Ready(runner.description))
    return _Worker(channel, runner, sequences)


class _Worker:
    def __init__(self, channel: Channel, runner: Runner, sequences: Sequences | None) -> None:
        self._channel = channel
        self._runner = runner
        self._sequences = sequences

    def run(self) -> None:
        """Alternate between messages and steps of the sequences."""
        while True:
            while not self._sequences or self._channel.has_message():
                message: Message = self._channel.receive()
                if message is None:
                    return
                self._send(self._answer(message))
            self._send(self._step())

    def _answer(self, message: Infer | Generate | Cancel) -> Answer | None:
        if isinstance(message, Infer):
            try:
                return Outputs(self._runner.run(message.inputs))
            except (ReformerError, MemoryError) as error:
                return Outputs(None, str(error) or "out of memory")
        if self._sequences is None:
            return None
        if isinstance(message, Cancel):
            self._sequences.remove(message.job)
            return None
        try:
            return [self._sequences.add(message)]
        except (ReformerError, MemoryError) as error:
            return Failed(message.job, str(error) or "out of memory")

    def _step(self) -> Answer | None:
        if not self._sequences:
            return None
        try:
            return self._sequences.step()
        except (ReformerError, MemoryError) as error:
            reason = str(error) or "out of memory"
            for job in self._sequences.clear():
                self._send(Failed(job, reason))
            return None

    def _send(self, answer: Answer | None) -> None:
        if answer is not None:
            self._channel.send(answer)
