"""The shapes that an engine is built for: optimisation profiles, checked before the build.

TensorRT accepts a profile that the model cannot run, and then fails on the device. So this module
compares lengths and batch sizes with the artifact's signature.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reformer_export.artifact.engine import Extent, Profile
from reformer_export.artifact.signature import INPUT_IDS, Signature
from reformer_export.errors import UsageError
from reformer_ops.core.spec import DOMAIN
from reformer_ops.tensorrt_forms import FORMS

if TYPE_CHECKING:
    import onnx_ir as ir

_MOST_ELEMENTS = 2**31 - 1  # of one tensor
_USUAL_LENGTH = 1024  # an engine is tuned for this unless the user says otherwise
_SHAPE = re.compile(r"([\w.]+):(\d{1,9})x(\d{1,9})")


def make_profiles(
    signature: Signature,
    smallest: Sequence[str] = (),
    usual: Sequence[str] = (),
    largest: Sequence[str] = (),
) -> tuple[Profile, ...]:
    """Profiles from --minShapes, --optShapes and --maxShapes; the n-th of each form profile n.

    A shape is written as for trtexec, "input_ids:1x64". The shape of another input may follow after
    a comma and must be the same. By default, the smallest shape is one sequence of the minimum
    length; the largest shape has the maximum length and the largest batch that is given, else one
    sequence; the usual shape has the batch of the largest and 1024 tokens, or the nearest length.

    Raises:
        UsageError: a shape cannot be read, the model has no such input, the options are not given
            equally often, or shapes are out of order or beyond the limits of the model.
    """
    given = {"--minShapes": smallest, "--optShapes": usual, "--maxShapes": largest}
    count = max(1, *(len(texts) for texts in given.values()))
    for option, texts in given.items():
        if texts and len(texts) != count:
            raise UsageError(
                f"{option} is given {len(texts)} times and another of the three {count} times: "
                "give each once for every profile, or leave it out"
            )
    read = {
        option: [_extent(signature, option, text) for text in texts]
        for option, texts in given.items()
    }
    profiles = []
    for number in range(count):
        low, middle, high = (found[number] if found else None for found in read.values())
        low = low or Extent(1, signature.min_length)
        # A batch that is given only for a smaller shape also applies to the larger ones.
        high = high or Extent(max(low.batch, middle.batch if middle else 1), signature.max_length)
        middle = middle or Extent(high.batch, min(max(_USUAL_LENGTH, low.length), high.length))
        _check_order(low, middle, high)
        profiles.append(Profile(low, middle, high))
    return tuple(profiles)


def check_volumes(model: ir.Model, profiles: Sequence[Profile]) -> None:
    """Compare the attention scores, which are the largest tensors, with TensorRT's limit.

    Many of TensorRT's kernels use 32-bit addresses, so a tensor must have fewer than 2**31
    elements. TensorRT-RTX builds engines with larger tensors without an error.

    Args:
        model: with our operators as nodes; other nodes are not checked.

    Raises:
        UsageError: the largest shape of a profile exceeds the limit.
    """
    from reformer_export.exporters.onnx.passes import fixed_sizes

    for node in model.graph:
        form = FORMS.get(node.op_type) if node.domain == DOMAIN else None
        if form is None:
            continue
        attributes = {name: attribute.value for name, attribute in node.attributes.items()}
        largest = form.largest_tensor(attributes, fixed_sizes(node, form.op))
        if largest is None:
            continue
        for profile in profiles:
            shape = profile.largest
            # At most a chunk of padding; longer chunks of other layers add only little.
            tokens = -(-shape.length // largest.padded_to) * largest.padded_to
            elements = shape.batch * tokens * largest.per_token
            if elements > _MOST_ELEMENTS:
                fitting = _MOST_ELEMENTS // largest.per_token
                raise UsageError(
                    f"--maxShapes {shape}: the scores of {node.name} would have {elements:,} "
                    f"elements, and TensorRT takes {_MOST_ELEMENTS:,}: ask for at most "
                    f"{fitting:,} tokens in a batch"
                )


def _extent(signature: Signature, option: str, text: str) -> Extent:
    known = [spec.name for spec in signature.inputs]
    found: dict[str, Extent] = {}
    for part in text.split(","):
        match = _SHAPE.fullmatch(part.strip())
        if match is None:
            raise UsageError(
                f"{option} {text}: {part.strip()!r} is not a shape such as {INPUT_IDS}:1x64 "
                "(batch x tokens)"
            )
        name, batch, length = match[1], int(match[2]), int(match[3])
        if name not in known:
            raise UsageError(
                f"{option} {text}: the model has no input {name!r}, it takes {', '.join(known)}"
            )
        if name in found:
            raise UsageError(f"{option} {text}: {name} is given twice")
        found[name] = Extent(batch, length)
    shapes = set(found.values())
    if len(shapes) > 1:
        raise UsageError(
            f"{option} {text}: all inputs have the same shape, found "
            f"{' and '.join(map(str, found.values()))}; {INPUT_IDS} alone is enough"
        )
    extent = shapes.pop()
    if extent.batch < 1:
        raise UsageError(f"{option} {text}: a batch has at least one sequence")
    if not signature.min_length <= extent.length <= signature.max_length:
        raise UsageError(
            f"{option} {text}: this model takes {signature.min_length} to "
            f"{signature.max_length} tokens"
        )
    return extent


def _check_order(low: Extent, middle: Extent, high: Extent) -> None:
    for axis in ("batch", "length"):
        sizes = [getattr(extent, axis) for extent in (low, middle, high)]
        if sizes != sorted(sizes):
            raise UsageError(
                f"the shapes {low}, {middle}, {high} are out of order: min, opt and max must not "
                f"decrease in {axis} (--minShapes, --optShapes, --maxShapes)"
            )
