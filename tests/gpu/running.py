"""Runs the processes of the parts in parallel, each with a limit, and with a deadline for all."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from . import ROOT
from .record import FAILED, Request
from .report import Case, PartResult, Report

_PAUSE = 0.05
_SAVED_EVERY = 3.0


@dataclass
class Job:
    """A process of a part that has been started."""

    result: PartResult
    request: Request
    process: subprocess.Popen[bytes]
    until: float
    events: TextIO
    log: Path
    started: float = field(default_factory=time.monotonic)
    running: str | None = None
    half: str = ""
    done: bool = False


class Runner:
    """Starts jobs and adds their events to the report.

    Args:
        report: changed as events come, and written to `out`.
        out: the folder for the report and for `gpu-check.log`, the output of the processes.
        scratch: a folder for temporary files.
        environment: the environment variables of the processes.
        begun: when the check began, on the clock of `time.monotonic`.
    """

    def __init__(
        self,
        report: Report,
        out: Path,
        scratch: Path,
        environment: Mapping[str, str],
        begun: float,
    ) -> None:
        self.report, self.out, self.scratch = report, out, scratch
        self.environment = environment
        self._begun = begun
        self._saved = 0.0
        self._number = 0

    def run(
        self, shares: Sequence[tuple[PartResult, Request]], *, at_once: int, until: float
    ) -> None:
        """Run these, at most `at_once` at the same time, and end at `until` at the latest."""
        waiting, running = list(shares), list[Job]()
        try:
            while waiting or running:
                late = time.monotonic() >= until
                while waiting and len(running) < at_once and not late:
                    running.append(self._start(*waiting.pop(0), until))
                if late:
                    for result, _ in waiting:
                        result.why = result.why or "no time was left"
                    waiting.clear()
                for job in list(running):
                    if self._look_after(job):
                        running.remove(job)
                self.save()
                time.sleep(_PAUSE)
        finally:
            for job in running:
                _kill(job.process)

    def save(self, *, now: bool = False) -> None:
        """Write the report, if `now` or if the last write was some seconds ago."""
        if now or time.monotonic() - self._saved > _SAVED_EVERY:
            self.report.seconds = time.monotonic() - self._begun
            self.report.write(self.out)
            self._saved = time.monotonic()

    def _start(self, result: PartResult, request: Request, until: float) -> Job:
        self._number += 1
        stem = f"{result.part.name}-{self._number}"
        path, log = self.scratch / f"{stem}.request", self.scratch / f"{stem}.log"
        request.save(path)
        Path(request.events).touch()
        threads = str(result.part.threads)
        environment = dict(self.environment)
        if not result.part.alone:
            environment |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.gpu.worker", str(path)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # so that its child processes can be ended with it
            )
        limit = time.monotonic() + result.part.limit
        events = open(request.events, encoding="utf-8")  # noqa: SIM115  (closed with the job)
        return Job(result, request, process, min(limit, until), events, log)

    def _look_after(self, job: Job) -> bool:
        """Take the new events of a job; True if the job has ended."""
        ended = job.process.poll() is not None
        self._take(job)
        if not ended and time.monotonic() < job.until:
            return False
        job.result.seconds = max(job.result.seconds, time.monotonic() - job.started)
        if not ended:
            _kill(job.process)
            self._take(job)
            seconds = time.monotonic() - job.started
            self._broken(job, f"stopped after {seconds:.0f} s, which was all it had")
        elif not job.done:
            self._broken(job, f"the process ended early, {_ending(job.process.returncode)}")
        job.events.close()
        self._keep_log(job)
        self.save(now=True)
        return True

    def _take(self, job: Job) -> None:
        for line in _whole_lines(job):
            event = json.loads(line)
            if event["kind"] == "start":
                job.running = event["case"]
            elif event["kind"] == "case":
                job.running = None
            elif event["kind"] in ("done", "skip"):
                job.done = True
            self.report.take(job.result, event)

    def _broken(self, job: Job, why: str) -> None:
        """Record a bad end: the running case has failed or, without one, the process itself."""
        if job.running is not None:
            case = job.result.cases.setdefault(job.running, Case(job.running))
            case.status, case.why = FAILED, why
        else:
            last = _last_line(job.log)
            job.result.trouble.append(f"{why}, between cases{f': {last}' if last else ''}")
        job.result.why = job.result.why or "a process of it did not get through its cases"

    def _keep_log(self, job: Job) -> None:
        text = job.log.read_text(encoding="utf-8", errors="replace").strip()
        if text:
            with (self.out / "gpu-check.log").open("a", encoding="utf-8") as log:
                log.write(f"--- {job.result.part.name}, {job.log.stem}\n{text[-200_000:]}\n")


def conclude(results: Sequence[PartResult], report: Report) -> None:
    """Let each part draw conclusions from its figures."""
    for result in results:
        with contextlib.suppress(Exception):  # a part that does not load was reported before
            say: Callable[[Any], list[str]] | None
            say = getattr(result.part.load(), "conclude", None)
            if say is not None:
                result.concluded = say(report.tables)


def _whole_lines(job: Job) -> Iterator[str]:
    *lines, job.half = (job.half + job.events.read()).split("\n")
    yield from (line for line in lines if line)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and all its child processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ending(code: int) -> str:
    if code >= 0:
        return f"with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"by {signal.Signals(-code).name}"
    return f"by signal {-code}"


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else ""
