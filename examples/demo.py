"""The main job on real input: a checkpoint is exported, verified and run on a text.

    make demo

Everything below is what you would type yourself; the lines after `$` are the commands.
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
from pathlib import Path
from typing import Any

import numpy as np
from make_checkpoint import make_checkpoint
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "demo"
TEXT = ROOT / "LICENSE"

console = Console()


def command(*arguments: str, may_fail: bool = False) -> dict[str, Any]:
    """Run `reformer-export` as a user would and give back what `--json` prints."""
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


def without_python(artifact: Path) -> tuple[str, str, str]:
    """Pack the artifact for this machine, unpack it, run it, compare: a row of the summary."""
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
    told = json.loads(done.stdout)
    with np.load(FOLDER / "logits.npz") as ours, np.load(FOLDER / "device.npz") as theirs:
        error = np.abs(ours["logits"] - theirs["logits"]).max()
    if error > 1e-5:
        sys.exit(f"reformer-run differs from Python by {error:.1e}")
    same = "the same numbers as Python" if error == 0 else f"within {error:.1e} of Python"
    return name, f"reformer-run, {same}: {told['description']}", f"{told['run_seconds']:.2f} s"


def main() -> None:
    """Make a checkpoint, export and verify it, run a text, build an engine, say what happened."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    checkpoint, artifact, engine = (FOLDER / name for name in ("checkpoint", "artifact", "engine"))
    console.print(
        f"[bold]$ python examples/make_checkpoint.py {checkpoint.relative_to(ROOT)}[/bold]"
    )
    make_checkpoint(checkpoint)

    exported = command("to-onnx", "-m", str(checkpoint), str(artifact))
    inspected = command("inspect", str(artifact))
    ran = command(
        "run", str(artifact), "--text-file", str(TEXT), "--tokenizer", "bytes",
        "--output", str(FOLDER / "logits.npz"),
    )  # fmt: skip
    built = command(
        "to-tensorrt", str(artifact), str(engine), "--flavor", "rtx", "--dtype", "fp16",
        "--maxShapes", "input_ids:1x16384",
    )  # fmt: skip
    on_gpu = command(
        "run", str(engine), "--text", "Raskolnikov", "--tokenizer", "bytes", may_fail=True
    )

    parity = inspected["manifest"]["parity"]
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
    console.print("The weights are random, so the predictions mean nothing; the numbers are exact.")


if __name__ == "__main__":
    main()
