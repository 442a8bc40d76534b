"""Gradients on CUDA against the CPU, and a training step that is the same every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from reformer_models.config import ReformerConfig
from reformer_models.layers.heads import ReformerForTask
from reformer_models.training.creating import create_model
from reformer_models.training.losses import language_model_loss
from reformer_ops.core.spec import OpSpec

from ..models.configs import CRIME_AND_PUNISHMENT
from ..ops import gradients, tolerances
from .comparing import Miss
from .operators import DTYPES
from .record import Place, Record

STEP = "a step of c&p"
LENGTH = 1024
TOLERANCE = 1e-3
"""For a gradient in fp32 on two devices, relative to its largest magnitude."""

_NO_DROPOUT = {
    "hidden_dropout_prob": 0.0,
    "local_attention_probs_dropout_prob": 0.0,
    "lsh_attention_probs_dropout_prob": 0.0,
}


def cases() -> list[str]:
    """Operators' gradients within the tolerances, then whole steps."""
    return [
        *_by_name(),
        f"{STEP}: the CPU's loss and gradients",
        f"{STEP}: twice the same bytes",
        f"{STEP}: twice the same bytes with dropout",
    ]


def run(names: Sequence[str], record: Record, place: Place) -> None:
    """Run each."""
    known = _by_name()
    for name in names:
        with record.case(name) as figures:
            if name in known:
                _gradients(*known[name], figures, place)
            elif "CPU" in name:
                _against_the_cpu(figures, place)
            else:
                _twice(place, dropout="dropout" in name)


def _by_name() -> dict[str, tuple[OpSpec, int, str]]:
    """All cases in fp32, some of them in half types."""
    found = {}
    for short, dtype in DTYPES.items():
        chosen = gradients.CASES if short == "fp32" else gradients.CASES[::4]
        for op, number in chosen:
            name = tolerances.cases(op)[number].name
            found[f"gradients of {op.name} {short}: {name}"] = op, number, dtype
    return found


def _gradients(op: OpSpec, number: int, dtype: str, figures: dict[str, Any], place: Place) -> None:
    case = tolerances.exact_in(tolerances.cases(op)[number], op, dtype)

    def on_device(*arguments: Any) -> torch.Tensor:
        given = [a.to(place.device) if isinstance(a, torch.Tensor) else a for a in arguments]
        return gradients.output_of(op)(*given).cpu()

    found = gradients.run_and_differentiate(on_device, op, case, dtype)
    arrays = [tensor.float().numpy() for tensor in found]
    expected = gradients.expected(op, case, dtype)
    shares = zip(arrays, expected.truth, expected.bounds, strict=True)
    figures["share of the bound"] = max(
        tolerances.error(array, truth) / bound for array, truth, bound in shares
    )
    gradients.check(op, expected, arrays)


def _against_the_cpu(figures: dict[str, Any], place: Place) -> None:
    # Both steps start from the same weights. No hash decision may be so close that it flips.
    there, here = (_step(device, {}) for device in (place.device, "cpu"))
    for name, wanted in here.items():
        scale = float(wanted.abs().max())
        error = float((there[name] - wanted).abs().max()) / max(scale, 1e-30)
        figures["error"] = max(figures.get("error", 0.0), error)
        if not error <= TOLERANCE:
            raise Miss(f"{name} differs by {error:.1e} of its largest magnitude")


def _twice(place: Place, *, dropout: bool) -> None:
    changes = {} if not dropout else dict.fromkeys(_NO_DROPOUT, 0.1)
    first, second = (_step(place.device, changes) for _ in range(2))
    different = [name for name in first if not torch.equal(first[name], second[name])]
    if different:
        raise Miss(f"{len(different)} of {len(first)} differ, {different[0]} first")


def _step(device: str, changes: dict[str, float]) -> dict[str, torch.Tensor]:
    """The loss, all gradients, and the weights after a step of SGD, copied to the CPU."""
    raw = {"model_type": "reformer", **CRIME_AND_PUNISHMENT, **_NO_DROPOUT, **changes}
    model = create_model(ReformerConfig.from_hf(raw)).to(device)
    ids = torch.randint(320, (2, LENGTH), generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    loss = language_model_loss(model, ids.to(device))
    loss.backward()
    values = {"the loss": loss.detach().cpu().reshape(1)}
    values |= _of_parameters(model, "gradient", lambda p: p.grad)
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    return values | _of_parameters(model, "weight", lambda p: p.detach())


def _of_parameters(
    model: ReformerForTask, what: str, read: Callable[[torch.Tensor], torch.Tensor | None]
) -> dict[str, torch.Tensor]:
    found = ((name, read(parameter)) for name, parameter in model.named_parameters())
    return {f"the {what} of {name}": t.cpu().clone() for name, t in found if t is not None}
