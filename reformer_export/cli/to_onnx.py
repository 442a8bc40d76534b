"""reformer-export to-onnx"""

from __future__ import annotations

from pathlib import Path

import click

from reformer_export.cli.options import PATH, IntegerList, common_options, pass_output
from reformer_export.cli.output import Output

TASKS = (
    "auto",
    "feature-extraction",
    "text-generation",
    "fill-mask",
    "text-classification",
    "question-answering",
)


@click.command("to-onnx")
@click.option(
    "-m",
    "--model",
    required=True,
    metavar="PATH_OR_HUB_ID",
    help="A Hugging Face Reformer: a local folder or a name on the hub.",
)
@click.argument("out", type=PATH)
@click.option("--task", type=click.Choice(TASKS), default="auto", show_default=True)
@click.option("--dtype", type=click.Choice(["fp32", "fp16"]), default="fp32", show_default=True)
@click.option("--opset", type=click.IntRange(min=1), metavar="N", help="ONNX operator set.")
@click.option(
    "--max-length",
    type=click.IntRange(min=1),
    metavar="N",
    help="Longest sequence to take.  [default: the checkpoint's]",
)
@click.option(
    "--num-buckets",
    type=IntegerList(minimum=2),
    help="Hash buckets, in one factor or more.  [default: the checkpoint's]",
)
@click.option(
    "--hash-seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="Seed of the hash rotations.  [default: the checkpoint's]",
)
@click.option(
    "--ops",
    type=click.Choice(["auto", "portable"]),
    default="auto",
    show_default=True,
    help="auto: our operators with bodies in standard ones; portable: standard ones only.",
)
@click.option("--external-data", is_flag=True, help="Keep the weights in model.onnx_data.")
@click.option("--no-verify", is_flag=True, help="Do not run the artifact against the checkpoint.")
@click.option("--force", is_flag=True, help="Replace the artifact at OUT.")
@click.option("--revision", metavar="REF", help="Branch, tag or commit of a hub model.")
@click.option(
    "--ignore-config-key",
    "ignore_config_keys",
    multiple=True,
    metavar="KEY",
    help="A key of config.json to pass over; may be repeated.",
)
@common_options
@pass_output
def command(
    output: Output,
    model: str,
    out: Path,
    task: str,
    dtype: str,
    opset: int | None,
    max_length: int | None,
    num_buckets: tuple[int, ...] | None,
    hash_seed: int | None,
    ops: str,
    external_data: bool,
    no_verify: bool,
    force: bool,
    revision: str | None,
    ignore_config_keys: tuple[str, ...],
) -> int:
    """Export a checkpoint to the folder OUT and verify it.

    The numbers of the artifact are compared with the checkpoint's in onnxruntime; a miss is exit
    code 3 and leaves nothing at OUT.
    """
    with output.working() as progress:
        from reformer_export.pipeline import to_onnx

        artifact = to_onnx(
            model,
            out,
            verify=not no_verify,
            task=task,
            dtype=dtype,
            opset=opset,
            max_length=max_length,
            num_buckets=num_buckets,
            hash_seed=hash_seed,
            ops=ops,
            external_data=external_data,
            force=force,
            revision=revision,
            ignore_config_keys=ignore_config_keys,
            progress=progress,
        )
    if output.as_json:
        output.document(artifact.to_json())
        return 0
    manifest = artifact.manifest
    for note in manifest.hashing.notes:
        output.note(note)
    output.rows(
        [
            ("artifact", str(artifact.path)),
            ("model", f"{manifest.architecture}, {manifest.task}, {manifest.dtype}"),
            ("size", f"{sum(r.bytes for r in manifest.files.values()) / 1e6:.1f} MB"),
            ("verified", "no (--no-verify)" if manifest.parity is None else "yes"),
        ]
    )
    return 0
