"""The main tasks on real input: a trained model is exported, verified, run and continues a text.

    make demo

The texts are not from its training data. The lines after `$` are the commands that you would type.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from bits_per_byte import bits_per_byte
from byte_corpus import xz_bits_per_byte
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reformer_export import open_runner
from reformer_export.runtimes.base import Runner
from reformer_ops.core.errors import NativeLibraryError

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "demo"
CHECKPOINT = ROOT / "examples" / "bible-reformer"
HELD_OUT = CHECKPOINT / "held_out.txt"
TEXT = FOLDER / "passage.txt"

PASSAGE_BYTES = 1000
PROMPT_BYTES = 600
SAMPLING = ("--max-new-tokens", "300", "--temperature", "0.6", "--seed", "1")

RUNTIMES = (("torch", "auto"), ("onnxruntime", "portable"), ("onnxruntime", "native"))
SAME_BITS = 1e-4

console = Console()


def command(*arguments: str, may_fail: bool = False) -> dict[str, Any]:
    """Run `reformer-export` as a user would; returns the document that `--json` prints."""
    shown = " ".join(argument.replace(f"{ROOT}/", "") for argument in arguments)
    console.print(f"[bold]$ reformer-export {shown}[/bold]")
    start = time.perf_counter()
    # Progress goes to stderr, which stays the user's terminal.
    done = subprocess.run(
        [sys.executable, "-m", "reformer_export", *arguments, "--json"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode and not may_fail:
        console.print(done.stdout)
        sys.exit(done.returncode)
    document: dict[str, Any] = json.loads(done.stdout)
    document["seconds"] = time.perf_counter() - start
    return document


def logits_of(runner: Runner, ids: np.ndarray) -> np.ndarray:
    """Token ids `[batch, length]` -> logits of a runner."""
    return runner.run({"input_ids": ids})["logits"]


def compressed(artifact: Path) -> list[tuple[str, str, str]]:
    """Bits per byte of the held-out text in each runtime: rows of the summary."""
    text, bits = HELD_OUT.read_bytes(), []
    xz = f"{len(text):,} bytes; xz -9e needs {xz_bits_per_byte(text):.4f} bits for each"
    rows = [("held-out text", xz, "")]
    for runtime, ops in RUNTIMES:
        name = runtime if ops == "auto" else f"{runtime}, {ops}"
        try:
            runner = open_runner(artifact, runtime=runtime, ops=ops)
        except NativeLibraryError as error:
            rows.append((name, str(error), ""))
            continue
        console.print(f"[bold]bits per byte of {HELD_OUT.name} by {name}[/bold]")
        start = time.perf_counter()
        window = runner.signature.max_length
        bits.append(bits_per_byte(text, partial(logits_of, runner), window))
        runner.close()
        seconds = f"{time.perf_counter() - start:.1f} s"
        rows.append((name, f"{bits[-1]:.6f} bits per byte", seconds))
    if max(bits) - min(bits) > SAME_BITS:
        sys.exit(f"bits per byte differ by more than {SAME_BITS}: {rows}")
    return rows


def write_on(artifact: Path, text: bytes) -> None:
    """Let the model continue a text, and show the new text while it is generated."""
    prompt = FOLDER / "prompt.txt"
    prompt.write_bytes(text)
    arguments = ["generate", str(artifact), "--prompt-file", str(prompt), *SAMPLING]
    shown = " ".join(argument.replace(f"{ROOT}/", "") for argument in arguments)
    console.print(f"[bold]$ reformer-export {shown}[/bold]")
    console.print(Text("... " + text[-200:].decode("ascii", "replace"), style="dim"))
    subprocess.run([sys.executable, "-m", "reformer_export", *arguments], check=True)


def without_python(artifact: Path) -> tuple[str, str, str]:
    """Pack the artifact for this machine, unpack it, run it, compare; returns a summary row."""
    name = "without Python"
    console.print("[bold]$ make cpp[/bold]")
    start = time.perf_counter()
    tools = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    build = ROOT / "reformer_export/runtimes/cpp/build.sh"
    if subprocess.run(["sh", str(build)], env=os.environ | tools, check=False).returncode:
        return name, "the C++ runtime cannot be built here: see above", ""
    console.print(f"built in {time.perf_counter() - start:.0f} s")
    machine = f"linux-{platform.machine()}"
    command("package", str(artifact), str(FOLDER / "device.tar.gz"), "--platform", machine)
    with tarfile.open(FOLDER / "device.tar.gz") as archive:
        archive.extractall(FOLDER, filter="data")
    words = ["--text-file", str(TEXT), "--tokenizer", "bytes", "--json"]
    words += ["--output", str(FOLDER / "device.npz")]
    console.print(f"[bold]$ build/demo/device/run --text-file {TEXT.name} ...[/bold]")
    device = [str(FOLDER / "device/run"), *words]
    done = subprocess.run(device, env={}, stdout=subprocess.PIPE, text=True, check=True)
    result = json.loads(done.stdout)
    with np.load(FOLDER / "logits.npz") as ours, np.load(FOLDER / "device.npz") as theirs:
        error = np.abs(ours["logits"] - theirs["logits"]).max()
    if error > 1e-5:
        sys.exit(f"reformer-run differs from Python by {error:.1e}")
    same = "the same numbers as Python" if error == 0 else f"within {error:.1e} of Python"
    return name, f"reformer-run, {same}: {result['description']}", f"{result['run_seconds']:.2f} s"


def main() -> None:
    """Export and verify the model, run it on texts, build an engine, show a summary."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    artifact, engine = FOLDER / "artifact", FOLDER / "engine"
    passage = HELD_OUT.read_bytes()[:PASSAGE_BYTES]
    TEXT.write_bytes(passage)

    exported = command(
        "to-onnx", "-m", str(CHECKPOINT), str(artifact), "--task", "text-generation-with-past"
    )
    inspected = command("inspect", str(artifact))
    ran = command(
        "run", str(artifact), "--text-file", str(TEXT), "--tokenizer", "bytes",
        "--output", str(FOLDER / "logits.npz"),
    )  # fmt: skip
    built = command(
        "to-tensorrt", str(artifact), str(engine), "--flavor", "rtx", "--dtype", "fp16",
        "--maxShapes", "input_ids:1x1024",
    )  # fmt: skip
    on_gpu = command(
        "run", str(engine), "--text", "In the beginning", "--tokenizer", "bytes", may_fail=True
    )

    parity = inspected["manifest"]["formats"]["onnx"]["parity"]
    size = (artifact / "model.onnx").stat().st_size / 2**20
    table = Table(title="reformer-export: one artifact, the same numbers everywhere")
    table.add_column("step")
    table.add_column("result")
    table.add_column("time", justify="right")
    table.add_row(
        "to-onnx", f"model.onnx, {size:.1f} MiB, verified", f"{exported['seconds']:.1f} s"
    )
    table.add_row("parity", parity["summary"], "")
    table.add_row("compared with", ", ".join(parity["references"].values()), "")
    rate = ran["batch"] * ran["length"] / ran["run_seconds"]
    table.add_row(
        "run", f"{TEXT.name}: {ran['length']:,} tokens, {rate:,.0f} tokens/s",
        f"{ran['run_seconds']:.2f} s",
    )  # fmt: skip
    table.add_row("by", ran["description"], "")
    table.add_row(*without_python(artifact))
    outputs = ", ".join(f"{name} {out['shape']}" for name, out in ran["outputs"].items())
    table.add_row("output", f"{outputs} in build/demo/logits.npz", "")
    for row in compressed(artifact):
        table.add_row(*row)
    record = built["record"]
    engine_size = record["files"]["model.engine"]["bytes"] / 2**20
    table.add_row(
        "to-tensorrt",
        f"model.engine, {engine_size:.1f} MiB, {record['dtype']}, RTX {record['version']}, "
        f"1 to {record['signature']['max_length']:,} tokens, for {', '.join(record['targets'])}; "
        f"the build itself took {record['build']['seconds']:.1f} s",
        f"{built['seconds']:.1f} s",
    )
    table.add_row("its numbers", record["evidence"], "")
    table.add_row("parity", record["parity"]["summary"], "")
    ran_on = on_gpu.get("description", f"did not run: {on_gpu.get('error')}")
    table.add_row("the engine", ran_on, "")
    console.print(table)
    write_on(artifact, passage[:PROMPT_BYTES])


if __name__ == "__main__":
    main()
