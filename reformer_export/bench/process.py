"""A contender as a child process: functions to start, run, observe and end it."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from types import TracebackType
from typing import Any

from reformer_export.bench.contenders import Request
from reformer_export.errors import ReformerError
from reformer_export.host import memory

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class ContenderFailure(ReformerError):
    """A contender could not be measured; the message says why."""


class DoesNotFit(ContenderFailure):
    """A contender needs more memory than is available."""


class Contender:
    """One contender in its own process, so that its memory can be measured.

    Use it as a context manager: leaving the context ends the process.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.description = ""
        self.notes: tuple[str, ...] = ()
        self.native = False
        self.open_seconds: float | None = None
        self.open_rss: int | None = None
        self.warm_up_seconds: float | None = None
        self._peak = 0
        self._pending = b""
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        threads = dict.fromkeys(_THREAD_VARIABLES, str(request.threads))
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "reformer_export.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env={**os.environ, **threads, "PYTHONPATH": paths},
        )

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def open(self, timeout: float) -> None:
        """Send the request and wait until the contender is ready; raises ContenderFailure."""
        answer = self._ask(json.dumps(asdict(self.request)), timeout)
        self.description, self.native = answer["description"], answer["native"]
        self.notes, self.open_seconds = tuple(answer["notes"]), answer["seconds"]
        self.open_rss = self.peak_rss()

    def warm_up(self, timeout: float) -> None:
        """Run once without measuring; raises ContenderFailure."""
        self.warm_up_seconds = self.run(timeout)["seconds"]

    def run(self, timeout: float) -> dict[str, float]:
        """Run once; returns `seconds` and other figures by name. Raises ContenderFailure."""
        answer: dict[str, float] = self._ask("run", timeout)
        return answer

    def peak_rss(self) -> int:
        """Its peak memory so far, in bytes."""
        with contextlib.suppress(ReformerError):  # if the process has ended, use the last value
            self._peak = memory.peak_rss(self.pid)
        return self._peak

    def idle_rss(self) -> int:
        """Its memory now, in bytes."""
        with contextlib.suppress(ReformerError):
            return memory.current_rss(self.pid)
        return 0

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        # Kill the process: during a run it does not react to requests.
        self._process.kill()
        self._process.wait()
        self._stderr.close()

    def __enter__(self) -> Contender:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, order: str, timeout: float) -> dict[str, Any]:
        if self._process.stdin is None:
            raise ContenderFailure("its process has no pipe for stdin")
        with contextlib.suppress(
            BrokenPipeError
        ):  # if the process has ended, _line raises with the reason
            self._process.stdin.write(f"{order}\n".encode())
            self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line(timeout))
        self.peak_rss()
        if answer.get("out_of_memory"):
            raise DoesNotFit(f"needs more memory than is free ({answer['error']})")
        if "error" in answer:
            raise ContenderFailure(answer["error"])
        return answer

    def _line(self, timeout: float) -> bytes:
        """The next line of its output; raises ContenderFailure if none comes in time."""
        stream = self._process.stdout
        if stream is None:
            raise ContenderFailure("its process has no pipe for stdout")
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while b"\n" not in self._pending:
                if not selector.select(timeout):
                    self._process.kill()
                    raise ContenderFailure(f"gave no answer in {timeout:.0f} s")
                data = os.read(stream.fileno(), 65536)
                if not data:
                    raise self._death()
                self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _death(self) -> ContenderFailure:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return DoesNotFit("was killed by the system, as happens when memory runs out")
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().splitlines()
        last = f": {said[-1]}" if said else ""
        if "bad_alloc" in last:  # C++ code raised it and nothing caught it
            return DoesNotFit(f"needs more memory than is free{last}")
        how = f"crashed with signal {-code}" if code < 0 else f"ended with exit code {code}"
        return ContenderFailure(f"{how}{last}")
