"""The main job on real input: a checkpoint is exported, verified and run on a text.

    make demo

Everything below is what you would type yourself; the lines after `$` are the commands.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from make_checkpoint import make_checkpoint
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "demo"
TEXT = ROOT / "LICENSE"

console = Console()


def command(*arguments: str) -> dict[str, Any]:
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
    if done.returncode:
        console.print(done.stdout)
        sys.exit(done.returncode)
    document: dict[str, Any] = json.loads(done.stdout)
    document["seconds"] = time.perf_counter() - start
    return document


def main() -> None:
    """Make a checkpoint, export and verify it, run a text, and say what happened."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    checkpoint, artifact = FOLDER / "checkpoint", FOLDER / "artifact"
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
    outputs = ", ".join(f"{name} {out['shape']}" for name, out in ran["outputs"].items())
    table.add_row("output", f"{outputs} in build/demo/logits.npz", "")
    console.print(table)
    console.print("The weights are random, so the predictions mean nothing; the numbers are exact.")


if __name__ == "__main__":
    main()
