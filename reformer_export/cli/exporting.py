"""Options that all exporting commands share: about the checkpoint, the model, and OUT."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from reformer_export.cli.options import PATH, IntegerList, NameList
from reformer_export.cli.output import Output

if TYPE_CHECKING:
    from reformer_export.artifact import Artifact
    from reformer_export.artifact.manifest import Manifest

Command = TypeVar("Command", bound=Callable[..., Any])

TASKS = (
    "auto",
    "feature-extraction",
    "text-generation",
    "text-generation-with-past",
    "fill-mask",
    "text-classification",
    "question-answering",
    "time-series",
    "series-encoding",
)

SOURCES = ("auto", "huggingface", "lucidrains", "trax", "time-series-library")

_CHECKPOINT = (
    click.option(
        "-m",
        "--model",
        required=True,
        metavar="PATH_OR_HUB_ID",
        help="A local folder or a name on the hub, of a library that --source lists.",
    ),
    click.argument("out", type=PATH),
    click.option(
        "--source",
        type=click.Choice(SOURCES),
        default="auto",
        show_default=True,
        help="Library that saved the checkpoint; auto: by its configuration file.",
    ),
)
_MODEL = (
    *_CHECKPOINT,
    click.option("--task", type=click.Choice(TASKS), default="auto", show_default=True),
    click.option(
        "--dtype",
        type=click.Choice(["fp32", "fp16", "bf16"]),
        default="fp32",
        show_default=True,
        help="bf16 is for GPUs; only to-onnx supports it.",
    ),
    click.option(
        "--max-length",
        type=click.IntRange(min=1),
        metavar="N",
        help="Maximum length of a sequence, in tokens.  [default: the checkpoint's]",
    ),
    click.option(
        "--num-buckets",
        type=IntegerList(minimum=2),
        help="Hash buckets, as one or more factors.  [default: the checkpoint's]",
    ),
    click.option(
        "--hash-seed",
        type=click.IntRange(min=0),
        metavar="N",
        help="Seed of the hash rotations.  [default: the checkpoint's]",
    ),
    click.option(
        "--weights",
        type=click.Choice(["int8", "int4", "fp16"]),
        help="Type that weights are stored in.  [default: the model's]",
    ),
    click.option(
        "--keep",
        type=NameList(),
        default=(),
        help="With --weights: weights that keep their type, such as query_key,head.",
    ),
    click.option(
        "--calibration",
        type=PATH,
        metavar="FILE",
        help="With --weights: a text or a .npy file of token ids to measure the quality on.",
    ),
    click.option(
        "--tokenizer",
        type=click.Choice(["auto", "bytes"]),
        default="auto",
        show_default=True,
        help="How the text of --calibration is encoded.",
    ),
    click.option(
        "--max-loss",
        type=click.FloatRange(min=0),
        metavar="X",
        help="With --weights: allow this relative increase of the bits per token; more is exit "
        "code 3.",
    ),
    click.option(
        "--logits",
        type=click.Choice(["all", "last"]),
        default="all",
        show_default=True,
        help="last: text-generation returns only the logits of each row's last token: less memory.",
    ),
)
_READING = (
    click.option("--revision", metavar="REF", help="Branch, tag or commit of a hub model."),
    click.option(
        "--ignore-config-key",
        "ignore_config_keys",
        multiple=True,
        metavar="KEY",
        help="A key of config.json to ignore; may be repeated.",
    ),
    click.option(
        "--ignore-weights",
        multiple=True,
        metavar="NAME",
        help="Tensors of the checkpoint to leave out, such as 'fc.*'; may be repeated.",
    ),
)
_OUT = (
    click.option("--no-verify", is_flag=True, help="Do not compare OUT with the checkpoint."),
    click.option(
        "--force",
        is_flag=True,
        help="Replace this format in OUT, or all of OUT if it is an artifact of another model.",
    ),
    *_READING,
)

compiled_ops_option = click.option(
    "--ops",
    type=click.Choice(["native", "portable"]),
    default="native",
    show_default=True,
    help="native: our operators, whose library must be loaded; portable: only torch's operators.",
)


def checkpoint_options(command: Command) -> Command:
    """Options for the checkpoint and OUT, without those about an export."""
    return _declared((*_CHECKPOINT, *_READING), command)


def model_options(command: Command) -> Command:
    """Options for the checkpoint, OUT, and the model."""
    return _declared(_MODEL, command)


def out_options(command: Command) -> Command:
    """Options for OUT and the source of the checkpoint; they come last in the help."""
    return _declared(_OUT, command)


def _declared(options: tuple[Callable[[Command], Command], ...], command: Command) -> Command:
    for declare in reversed(options):
        command = declare(command)
    return command


def _source_row(manifest: Manifest) -> list[tuple[str, str]]:
    """The library of the checkpoint; manifests of earlier releases do not have it."""
    library = manifest.source.library
    return [] if library == "auto" else [("source", library)]


def show(output: Output, artifact: Artifact, format_name: str) -> int:
    """Print a summary of an artifact that was just written; returns the exit code."""
    from reformer_export.artifact.manifest import CUDA

    if output.as_json:
        output.document(artifact.to_json())
        return 0
    manifest = artifact.manifest
    for note in manifest.hashing.notes:
        output.note(note)
    size = sum(record.bytes for record in manifest.files.values())
    rows = [
        ("artifact", str(artifact.path)),
        *_source_row(manifest),
        ("model", f"{manifest.architecture}, {manifest.task}, {manifest.dtype}"),
        ("formats", ", ".join(artifact.formats)),
        ("size", f"{size / 1e6:.1f} MB"),
    ]
    if manifest.weights is not None:
        rows.append(("weights", manifest.weights.describe()))
    if CUDA in artifact.formats:
        rows.append(("kernels", f"for {manifest.formats[CUDA].machine['targets']}"))
    if format_name != CUDA:
        verified = artifact.parity(format_name) is not None
        rows.append(("verified", "yes" if verified else "no (--no-verify)"))
    output.rows(rows)
    return 0
