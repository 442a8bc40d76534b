"""Finds out what this machine can do with an artifact, and what is missing.

Everything that could crash while it loads (a runtime, a shared library built for another release)
is loaded in a separate process, so that a crash does not end the diagnosis.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reformer_export.errors import RuntimeUnavailableError
from reformer_export.host import cpp_program
from reformer_export.host.optional import installed_version
from reformer_ops.core.native import CHOICE_VARIABLE

GROUPS = ("system", "runtime", "kernel", "package", "compiler")  # in the order of the output
SYSTEM, RUNTIME, KERNEL, PACKAGE, COMPILER = GROUPS
OK, MISSING, BROKEN, INFO = "ok", "missing", "broken", "info"

_PATIENCE = 120.0  # seconds for one probe; importing torch from a slow disk takes tens of seconds
_PACKAGES = {
    "numpy": "arrays",
    "onnx": "reading and writing graphs",
    "safetensors": "loading checkpoints",
    "huggingface_hub": "checkpoints by hub id",
    "transformers": "verify against Hugging Face",
    "tokenizers": "run --text with a tokenizer.json",
    "sentencepiece": "run --text with a spiece.model",
    "starlette": "serve",
    "uvicorn": "serve",
    "orjson": "serve",
    "prometheus-client": "serve",
    "pyarrow": "map",
    "ray": "map without --local",
}


@dataclass(frozen=True)
class Fact:
    """One finding: `status` is ok, missing, broken or info; `remedy` is a command or advice."""

    group: str
    name: str
    status: str
    detail: str
    remedy: str | None = None

    def advice(self) -> str:
        """The finding, and the remedy if there is one."""
        return f"{self.detail}: {self.remedy}" if self.remedy else self.detail

    def to_json(self) -> dict[str, Any]:
        """The fact as an object."""
        return asdict(self)


def diagnose() -> list[Fact]:
    """All facts, sorted by group. No finding raises an error."""
    with ThreadPoolExecutor(max_workers=4) as pool:  # the probes wait for other processes
        probes = [
            pool.submit(_torch),
            pool.submit(_triton),
            pool.submit(_onnxruntime),
            pool.submit(_onnxruntime_on_cuda),
            pool.submit(_openvino),
            pool.submit(_executorch),
            pool.submit(_tensorrt, "tensorrt"),
            pool.submit(_tensorrt, "tensorrt-rtx"),
        ]
        probes.append(pool.submit(_cpp))
        kernels = pool.submit(lambda: list(_kernels()))
        facts = [*_system(), *_packages(), *_compilers(), *kernels.result()]
        facts.extend(probe.result() for probe in probes)
    return sorted(facts, key=lambda fact: GROUPS.index(fact.group))


def healthy(facts: Iterable[Fact]) -> bool:
    """True if some runtime can run an artifact here."""
    return any(fact.group == RUNTIME and fact.status == OK for fact in facts)


def _system() -> Iterator[Fact]:
    from reformer_export import __version__

    yield Fact(SYSTEM, "reformer-export", INFO, __version__)
    yield Fact(SYSTEM, "python", INFO, f"{platform.python_version()} ({sys.executable})")
    yield Fact(SYSTEM, "platform", INFO, f"{platform.system()} {platform.machine()}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Fact(SYSTEM, "cpu", INFO, f"{cores} cores usable{_vector_units()}")
    yield _gpu()


def _vector_units() -> str:
    """The instruction sets that our kernels use, from /proc/cpuinfo."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""
    flags = next((x.partition(":")[2] for x in text.splitlines() if x.startswith("flags")), "")
    known = [flag for flag in ("avx2", "fma", "avx512f", "amx_tile") if flag in flags.split()]
    return f", {' '.join(known)}" if known else ""


def _gpu() -> Fact:
    # In a separate process: a driver may crash.
    code = (
        "from reformer_export.host.gpu import find_gpus; gpus, reason = find_gpus();"
        "print('; '.join(map(str, gpus)) or 'none: ' + reason)"
    )
    ok, text = _import(code)
    return Fact(SYSTEM, "gpu", INFO if ok else BROKEN, text)


def _packages() -> Iterator[Fact]:
    for package, use in _PACKAGES.items():
        version = installed_version(package)
        if version is not None:
            yield Fact(PACKAGE, package, OK, version)
        else:
            yield Fact(PACKAGE, package, MISSING, f"for {use}", f"pip install {package}")


def _onnxruntime() -> Fact:
    code = (
        "import onnxruntime as o;"
        "print(o.__version__, 'with', ', '.join(o.get_available_providers()))"
    )
    return _loaded(RUNTIME, "onnxruntime", "run and verify", code)


def _openvino() -> Fact:
    code = "import openvino as o; print(o.__version__.partition('-')[0])"
    return _loaded(RUNTIME, "openvino", "--runtime openvino", code)


def _executorch() -> Fact:
    code = "import importlib.metadata as m, executorch.runtime;print(m.version('executorch'))"
    return _loaded(RUNTIME, "executorch", "to-executorch and --runtime executorch", code)


def _onnxruntime_on_cuda() -> Fact:
    """Whether onnxruntime can run a model on a GPU here and, if not, what is missing."""
    from reformer_export.runtimes.onnxruntime_cuda import PACKAGES, PROVIDER

    name = "onnxruntime on CUDA"
    code = (
        "import onnxruntime as o;"
        "from reformer_export.host.gpu import find_gpus;"
        f"has = {PROVIDER!r} in o.get_available_providers(); gpus, reason = find_gpus();"
        "print('no provider' if not has else 'no gpu: ' + reason if not gpus else 'try')"
    )
    ok, text = _import(code)
    state = text.splitlines()[-1] if text else ""
    if not ok or state == "no provider":
        return Fact(RUNTIME, name, MISSING, "for running on NVIDIA GPUs", PACKAGES)
    if state != "try":
        return Fact(RUNTIME, name, MISSING, state.removeprefix("no gpu: "))
    # The error of this import names the CUDA library that does not load.
    ok, text = _import(
        "import ctypes, pathlib, onnxruntime as o;"
        "getattr(o, 'preload_dlls', lambda **_: None)(cudnn=False);"
        "capi = pathlib.Path(o.__file__).parent / 'capi';"
        "ctypes.CDLL(str(capi / 'libonnxruntime_providers_shared.so'), ctypes.RTLD_GLOBAL);"
        "ctypes.CDLL(str(capi / 'libonnxruntime_providers_cuda.so'));"
        "from reformer_export.host.gpu import find_gpus;"
        "print(o.__version__, 'on', '; '.join(map(str, find_gpus()[0])))"
    )
    if ok:
        return Fact(RUNTIME, name, OK, text.splitlines()[-1])
    return Fact(RUNTIME, name, BROKEN, text, PACKAGES)


def _torch() -> Fact:
    code = (
        "import torch; c = torch.cuda;"
        "print(torch.__version__, 'with',"
        " c.get_device_name(0) if c.is_available() else 'no usable GPU')"
    )
    return _loaded(PACKAGE, "torch", "exporting, verify, TorchScript and AOTInductor", code)


def _tensorrt(package: str) -> Fact:
    # Listed as a package, not as a runtime: without a GPU it can at most build engines.
    code = (
        f"import {package.replace('-', '_')} as t; from reformer_export.host.gpu import find_gpus;"
        "t.Builder; gpu = find_gpus()[0]; ahead = hasattr(t, 'ComputeCapability');"
        "print(t.__version__, 'builds and runs engines' if gpu else"
        " 'builds engines; runs none without a GPU' if ahead else"
        " 'neither builds nor runs engines without a GPU')"
    )
    return _loaded(PACKAGE, package, "to-tensorrt and running engines", code)


def _cpp() -> Fact:
    # Not listed as a runtime either: the machine that it is deployed to decides whether it finds
    # ONNX Runtime.
    try:
        program = cpp_program.find_program()
    except RuntimeUnavailableError as error:
        named = bool(os.environ.get(cpp_program.VARIABLE))
        return Fact(PACKAGE, cpp_program.PROGRAM, BROKEN if named else MISSING, str(error))
    detail = f"{program.version} with {', '.join(program.runtimes)}, {program.path}"
    return Fact(PACKAGE, cpp_program.PROGRAM, OK, detail)


def _triton() -> Fact:
    code = "import triton; print(triton.__version__)"
    return _loaded(KERNEL, "triton", "build-kernels and CUDA tensors", code)


def _loaded(group: str, name: str, use: str, code: str) -> Fact:
    """A package, tested by loading it: `code` loads it and prints a summary."""
    ok, text = _import(code)
    if ok:
        return Fact(group, name, OK, text)
    module = name.replace("-", "_")
    if f"No module named '{module}'" in text:
        return Fact(group, name, MISSING, f"for {use}", f"pip install {name}")
    return Fact(group, name, BROKEN, text, f"pip install --force-reinstall {name}")


def _kernels() -> Iterator[Fact]:
    """Whether our native operators are found, and whether their framework loads them."""
    for framework, kind in (("onnxruntime", "ort"), ("torch", "torch")):
        name = f"native for {framework}"
        code = (
            f"import json, reformer_ops; s = reformer_ops.native_status({kind!r});"
            "print(json.dumps([str(s.path or ''), s.isa, s.reason]))"
        )
        ok, text = _import(code)
        if not ok:
            absent = f"No module named '{framework}'" in text
            # The message of our own errors is clear without the name of the exception.
            detail = text.partition(": ")[2] if text.startswith("reformer_ops.") else text
            yield Fact(KERNEL, name, MISSING if absent else BROKEN, detail)
            continue
        path, isa, reason = json.loads(text.splitlines()[-1])
        if reason is None:
            yield Fact(KERNEL, name, OK, f"{isa}, {path}")
        elif path:
            yield Fact(KERNEL, name, BROKEN, reason)
        else:
            # Not an error: the operators run as standard operations, with the same results.
            chosen = os.environ.get(CHOICE_VARIABLE) == "portable"
            yield Fact(KERNEL, name, INFO if chosen else MISSING, reason)


def _compilers() -> Iterator[Fact]:
    for name, use, remedy in (
        ("g++", "building the native operators, and to-aoti", "apt install g++"),
        ("nvcc", "building CUDA code", None),
    ):
        path = shutil.which(name)
        if path is None:
            yield Fact(COMPILER, name, MISSING, f"for {use}", remedy)
            continue
        ok, text = _run([path, "--version"])
        lines = text.splitlines() or [""]
        release = next((line for line in lines if "release" in line), lines[0])  # line 4 of nvcc
        yield Fact(COMPILER, name, OK if ok else BROKEN, f"{release.strip()} ({path})")


def _import(code: str) -> tuple[bool, str]:
    """Run Python code that imports something, with exactly this process's search path."""
    prologue = f"import sys; sys.path[:] = {[p or os.getcwd() for p in sys.path]!r}; "
    return _run([sys.executable, "-I", "-c", prologue + code])


def _run(command: list[str]) -> tuple[bool, str]:
    """(True, stdout), or (False, the reason in one line)."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            stdin=subprocess.DEVNULL,
            cwd=tempfile.gettempdir(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False, f"gave no answer in {_PATIENCE:.0f} s"
    except OSError as error:
        return False, f"does not start: {error.strerror}"
    if done.returncode == 0:
        return True, done.stdout.strip()
    if done.returncode < 0:
        return False, f"crashed with signal {-done.returncode}"
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return False, lines[-1] if lines else f"failed with exit code {done.returncode}"
