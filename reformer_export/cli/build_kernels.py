"""reformer-export build-kernels"""

from __future__ import annotations

from pathlib import Path

import click

from reformer_export.cli.options import PATH, IntegerList, NameList, common_options, pass_output
from reformer_export.cli.output import Output
from reformer_export.errors import UsageError


@click.command("build-kernels")
@click.argument("out", type=PATH)
@click.option("--artifact", type=PATH, help="Take the shapes and the type from this artifact.")
@click.option("--heads", type=click.IntRange(min=1), metavar="N", help="Attention heads.")
@click.option("--head-dim", type=click.IntRange(min=1), metavar="N", help="Size of a head.")
@click.option("--chunk-length", type=click.IntRange(min=1), metavar="N", help="Tokens in a chunk.")
@click.option("--num-chunks-before", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--num-chunks-after", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--causal", is_flag=True, help="Hide keys that come later in the sequence.")
@click.option(
    "--num-buckets",
    type=IntegerList(minimum=2),
    help="Hash buckets of an LSH layer, as one or more factors. Without it, the layer is local.",
)
@click.option("--num-hashes", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--dtype", "dtypes", type=NameList(), help="Any of fp32, fp16, bf16.")
@click.option("--target", "targets", type=NameList(), help="GPUs to compile for.  [default: all]")
@click.option("--force", is_flag=True, help="Replace the kernels at OUT.")
@common_options
@pass_output
def command(
    output: Output,
    out: Path,
    artifact: Path | None,
    heads: int | None,
    head_dim: int | None,
    chunk_length: int | None,
    num_chunks_before: int,
    num_chunks_after: int,
    causal: bool,
    num_buckets: tuple[int, ...] | None,
    num_hashes: int,
    dtypes: tuple[str, ...] | None,
    targets: tuple[str, ...] | None,
    force: bool,
) -> int:
    """Compile GPU kernels into the folder OUT: PTX, cubin and a manifest. No GPU is needed.

    Give --artifact, or the shape of one layer with --heads, --head-dim and --chunk-length.
    """
    with output.working() as progress:
        from reformer_export.exporters.cuda.kernel_folder import (
            build_kernels,
            layer_of,
            layers_of,
            target,
        )

        shape = (heads, head_dim, chunk_length)
        if (artifact is None) == (shape == (None, None, None)):
            raise UsageError("give either --artifact or --heads, --head-dim and --chunk-length")
        if artifact is not None:
            layers, dtype = layers_of(artifact)
            dtypes = dtypes or (dtype,)
        elif heads is None or head_dim is None or chunk_length is None:
            raise UsageError("a layer needs --heads, --head-dim and --chunk-length together")
        else:
            layers = layer_of(
                heads=heads,
                head_dim=head_dim,
                chunk_length=chunk_length,
                num_chunks_before=num_chunks_before,
                num_chunks_after=num_chunks_after,
                causal=causal,
                num_buckets=num_buckets,
                num_hashes=num_hashes,
            )
        kernels = build_kernels(
            out,
            **layers,
            dtypes=dtypes or ("fp32", "fp16"),
            targets=None if targets is None else [target(name) for name in targets],
            force=force,
            progress=progress,
        )
    if output.as_json:
        output.document(kernels.to_json())
        return 0
    for note in kernels.notes:
        output.note(note)
    output.rows(kernels.rows())
    return 0
