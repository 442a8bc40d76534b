"""Checks everything that needs a GPU, with one command:

    python3 -m tests.gpu.check --out DIR [--wheels DIR] [--unpacked DIR] [--only NAME,...]

or `make gpu-check OUT=DIR [WHEELS=DIR]`. It takes six minutes at most and installs nothing. It
writes gpu-check.json, gpu-check.md and gpu-check.log, which grow while it runs. The exit code is 0
if everything that ran passed, 1 if something failed, 2 if the command was wrong.

Without a GPU it reports which parts it left out, and why. `--rehearse` runs a few cases of each
part on the CPU, which shows only that the check itself works, and nothing about a GPU.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import PACKAGES, wheels
from .machine import Gpu, describe, find_gpu, usable_cores
from .needs import operator_library_folder
from .parts import PARTS, Part, grouped, shares
from .record import Request, reason_of
from .report import JSON, PAGE, Case, PartResult, Report
from .running import Runner, conclude

BUDGET = 350.0
"""The most seconds that a check may take."""

_REHEARSED = 3
"""The number of cases of a group that a rehearsal runs."""


def main(arguments: Sequence[str] | None = None, parts: Sequence[Part] = PARTS) -> int:
    """The command above, for the given parts."""
    begun = time.monotonic()
    options = _parse(arguments, parts)
    chosen = [part for part in parts if not options.only or part.name in options.only]
    options.out.mkdir(parents=True, exist_ok=True)
    for name in (JSON, PAGE, "gpu-check.log"):
        (options.out / name).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        scratch = Path(folder)
        report = check(options, chosen, scratch, begun)
    print(report.summary(), end="")
    for result in report.parts:
        for line in (*result.trouble, *_wrong(result)):
            print(f"wrong in {result.part.name}: {line}")
        for line in result.concluded:
            print(f"{result.part.name}: {line}")
    print(f"{report.seconds:.0f} s; all of it is in {options.out / PAGE}")
    return 1 if report.wrong else 0


def check(
    options: argparse.Namespace, chosen: Sequence[Part], scratch: Path, begun: float
) -> Report:
    """Run the chosen parts."""
    gpu = find_gpu()
    report = Report(
        describe(gpu), [_planned(part, options.cases) for part in chosen], options.rehearse
    )
    environment, notes = _environment(options, scratch)
    report.notes += notes
    deadline = begun + options.budget
    runner = Runner(report, options.out, scratch, environment, begun)
    ready = []
    for result in report.parts:
        if not gpu.there and "gpu" in result.part.needs and not options.rehearse:
            result.why = f"no GPU: {gpu.reason}"
        elif result.cases:
            ready.append(result)
    together = [result for result in ready if not result.part.alone]
    alone = [result for result in ready if result.part.alone]
    # Parts that measure time run last. Time is kept for them: their limits, but at most a share.
    kept = min(sum(r.part.limit for r in alone), 0.55 * options.budget)
    jobs = [job for result in together for job in _jobs(result, options, scratch, gpu)]
    runner.run(jobs, at_once=usable_cores(), until=deadline - kept)
    for result in alone:
        runner.run(list(_jobs(result, options, scratch, gpu)), at_once=1, until=deadline)
    conclude(report.parts, report)
    report.finished = True
    runner.save(now=True)
    return report


def _a_few(group: Sequence[str]) -> Sequence[str]:
    """The first case, the middle one and the last."""
    return group if len(group) <= _REHEARSED else [group[0], group[len(group) // 2], group[-1]]


def _planned(part: Part, wanted: str) -> PartResult:
    """The part with its cases, none of which has run."""
    result = PartResult(part)
    try:
        result.cases = {name: Case(name) for name in part.load().cases() if wanted in name}
    except Exception as error:
        traceback.print_exc()
        result.trouble.append(f"{part.module} does not load: {reason_of(error)}")
    return result


def _jobs(
    result: PartResult, options: argparse.Namespace, scratch: Path, gpu: Gpu
) -> list[tuple[PartResult, Request]]:
    """A request for each process of a part."""
    part = result.part
    names = list(result.cases)
    if options.rehearse:
        names = [name for group in grouped(names).values() for name in _a_few(group)]
        result.cases = {name: result.cases[name] for name in names}
    processes = min(part.processes, 2) if options.rehearse else part.processes
    return [
        (
            result,
            Request(
                module=part.module,
                needs=part.needs,
                cases=tuple(share),
                events=str(scratch / f"{part.name}-{number}.events"),
                device="cpu" if options.rehearse else "cuda",
                scratch=str(scratch),
                capability=80 if options.rehearse else gpu.capability,
            ),
        )
        for number, share in enumerate(shares(names, processes, scattered=part.scattered))
    ]


def _environment(options: argparse.Namespace, scratch: Path) -> tuple[Mapping[str, str], list[str]]:
    """The environment variables of the processes, and notes on them for the report."""
    notes = []
    paths = list(PACKAGES)
    if options.unpacked:
        paths.append(str(options.unpacked.resolve()))
    if options.wheels:
        to = scratch / "wheels"
        try:
            names = wheels.unpack(options.wheels, to)
        except Exception as error:
            names = []
            reason = reason_of(error)
            notes.append(f"the wheels in {options.wheels} could not be unpacked: {reason}")
        notes.append(f"from {options.wheels}: {', '.join(names) or 'nothing'}")
        paths.append(str(to))
    environment = dict(os.environ)
    before = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([*paths, *([before] if before else [])])
    environment["HF_HUB_OFFLINE"] = "1"
    environment["TOKENIZERS_PARALLELISM"] = "false"
    environment["PYTHONUNBUFFERED"] = "1"
    environment.setdefault("TRITON_CACHE_DIR", str(scratch / "triton"))
    environment.pop("REFORMER_OPS", None)  # it would choose operators for the CPU as well
    found = operator_library_folder()
    if found is not None:
        # Only this library: the library for torch beside it may be for another version of torch.
        alone = scratch / "operators"
        alone.mkdir()
        shutil.copy(found / "libreformer_ops_ort.so", alone)
        environment["REFORMER_OPS_LIBRARY_DIR"] = str(alone)
    return environment, notes


def _wrong(result: PartResult) -> list[str]:
    wrong = [case for case in result.cases.values() if case.status == "failed"]
    lines = [f"{case.name}: {case.why}" for case in wrong[:10]]
    return lines + ([f"and {len(wrong) - 10} more"] if len(wrong) > 10 else [])


def _parse(arguments: Sequence[str] | None, parts: Sequence[Part]) -> argparse.Namespace:
    known = [part.name for part in parts]
    parser = argparse.ArgumentParser(prog="tests.gpu.check", description="Check what needs a GPU.")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="for the report")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="packages to use: wheels, parts")
    parser.add_argument("--unpacked", type=Path, metavar="DIR", help="packages already unpacked")
    parser.add_argument("--only", default="", metavar="NAME,...", help=f"of {', '.join(known)}")
    parser.add_argument("--cases", default="", metavar="TEXT", help="only those with it in them")
    parser.add_argument("--budget", type=float, default=BUDGET, metavar="SECONDS")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, a few cases of each")
    options = parser.parse_args(arguments)
    options.only = [name for name in options.only.split(",") if name]
    for name in options.only:
        if name not in known:
            parser.error(f"--only {name}: choose one of {', '.join(known)}")
    for folder in (options.wheels, options.unpacked):
        if folder is not None and not folder.is_dir():
            parser.error(f"{folder} is no folder")
    if options.budget <= 0:
        parser.error(f"--budget {options.budget:g}: it takes some seconds")
    return options


if __name__ == "__main__":
    sys.exit(main())
