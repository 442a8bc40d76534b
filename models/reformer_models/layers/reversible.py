"""Reversible layers: two streams, each updated from the other (Reformer, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from reformer_models.config import ReformerConfig
from reformer_models.layers.attention import ReformerAttention
from reformer_models.layers.dropout import Dropout
from reformer_models.layers.feed_forward import ReformerFeedForward
from reformer_models.layers.hashing import BucketMemory, BucketSource, draw_rotations
from reformer_models.layers.recompute import Autocast, RandomState

Streams = tuple[torch.Tensor, torch.Tensor]
Gradients = tuple[torch.Tensor | None, ...]


class ReversibleLayer(nn.Module):
    """`y1 = x1 + attention(x2)`, `y2 = x2 + feed_forward(y1)`: the outputs determine the inputs."""

    def __init__(self, config: ReformerConfig, kind: str, rotations: torch.Tensor | None) -> None:
        super().__init__()
        self.attention = ReformerAttention(config, kind, rotations)
        self.feed_forward = ReformerFeedForward(config)

    def forward(
        self, x1: torch.Tensor, x2: torch.Tensor, mask: torch.Tensor, source: BucketSource | None
    ) -> Streams:
        """Both streams `[batch, length, hidden]` -> the same."""
        y1 = self.attention.add(x1, x2, mask, source)
        y2 = self.feed_forward.add(x2, y1)
        return y1, y2


class ReversibleLayers(nn.Module):
    """The layers, and how both of their streams become one.

    Attributes:
        recompute: True (the default) if a backward pass recomputes the activations, starting from
            the outputs of the last layer, so that none of them is stored. This costs one more
            forward pass; the memory does not grow with the number of layers.
    """

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        rotations = draw_rotations(config) if "lsh" in config.attn_layers else None
        self.layers = nn.ModuleList(
            ReversibleLayer(config, kind, rotations) for kind in config.attn_layers
        )
        self.merges_by_mean = config.stream_merge == "mean"
        self.recompute = True

    def streams(
        self, hidden: torch.Tensor, mask: torch.Tensor, source: BucketSource | None
    ) -> Streams:
        """`[batch, length, hidden]`, from which both streams start -> both after the last layer."""
        if self.recompute and torch.is_grad_enabled() and not _is_traced():
            return _run_reversibly(self.layers, hidden, mask, source)
        y1, y2 = hidden, hidden
        for layer in self.layers:
            y1, y2 = layer(y1, y2, mask, source)
        return y1, y2

    def merged(self, y1: torch.Tensor, y2: torch.Tensor) -> torch.Tensor:
        """Both streams `[.., hidden]` -> `[.., output]`, as the config's `stream_merge` says."""
        return (y1 + y2) / 2 if self.merges_by_mean else torch.cat([y1, y2], dim=-1)


class ReformerEncoder(ReversibleLayers):
    """The layers and the norm over both streams."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__(config)
        self.layer_norm = nn.LayerNorm(config.output_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        hidden: torch.Tensor,
        mask: torch.Tensor,
        source: BucketSource | None,
        last_only: bool = False,
    ) -> torch.Tensor:
        """`[batch, length, hidden]` -> `[batch, length, output]`: both streams, normalised.

        `output` is `config.output_size`. With `last_only`, `[batch, 1, output]`: the last token of
        each row that `mask` keeps.
        """
        y1, y2 = self.streams(hidden, mask, source)
        if last_only:
            y1, y2 = _last_tokens(mask, y1, y2)
        result: torch.Tensor = self.dropout(self.layer_norm(self.merged(y1, y2)))
        return result


def _last_tokens(mask: torch.Tensor, *streams: torch.Tensor) -> Iterator[torch.Tensor]:
    """`[batch, length, hidden]` -> `[batch, 1, hidden]`: the last token where `mask` is True; the
    first token of a row without one."""
    positions = torch.arange(mask.shape[1], dtype=torch.int32, device=mask.device)
    last = torch.where(mask, positions, 0).amax(dim=1).to(torch.int64)
    for stream in streams:
        yield stream.gather(1, last[:, None, None].expand(-1, 1, stream.shape[2]))


def _is_traced() -> bool:
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined]
    return tracing or torch.compiler.is_exporting()


# torch.compile compiles only the code around this function: compiled code draws other random
# numbers, and the backward pass must draw those of the forward pass.
@torch.compiler.disable
def _run_reversibly(
    layers: nn.ModuleList, hidden: torch.Tensor, mask: torch.Tensor, source: BucketSource | None
) -> Streams:
    steps = [_Step(cast(ReversibleLayer, layer), mask, source) for layer in layers]
    parameters = [parameter for step in steps for parameter in step.parameters]
    streams = _Reversible.apply(steps, hidden, hidden, *parameters)
    return cast(Streams, streams)


class _Step:
    """One layer in one forward pass; saves what its backward pass needs beside the outputs."""

    def __init__(
        self, layer: ReversibleLayer, mask: torch.Tensor, source: BucketSource | None
    ) -> None:
        self.buckets = BucketMemory(source)
        self.attention = _Half(layer.attention, lambda x: layer.attention(x, mask, self.buckets))
        self.feed_forward = _Half(
            layer.feed_forward, layer.feed_forward, layer.feed_forward.with_gradients
        )

    @property
    def parameters(self) -> list[nn.Parameter]:
        return self.attention.parameters + self.feed_forward.parameters

    def forward(self, x1: torch.Tensor, x2: torch.Tensor) -> Streams:
        """The outputs, which overwrite the inputs."""
        y1 = x1.add_(self.attention.first(x2))
        y2 = x2.add_(self.feed_forward.first(y1))
        return y1, y2

    def backward(self, outputs: Streams, gradients: Streams) -> tuple[Streams, Streams, Gradients]:
        """Inputs and their gradients, which overwrite the arguments; the parameters' gradients."""
        (y1, y2), (dy1, dy2) = outputs, gradients
        fed, dx, of_feed_forward = self.feed_forward.again(y1, dy2)
        x2, dx1 = y2.sub_(fed), dy1.add_(dx)
        attended, dx, of_attention = self.attention.again(x2, dx1)
        x1, dx2 = y1.sub_(attended), dy2.add_(dx)
        return (x1, x2), (dx1, dx2), of_attention + of_feed_forward


Differentiated = tuple[torch.Tensor, torch.Tensor, Gradients]
"""The output of a function, the gradient of its input, and those of its parameters."""


class _Half:
    """A function from one stream to the other. It runs once, and once more with gradients.

    `with_gradients` does the second run, from the input and the output's gradient. It may be
    missing or return None.
    """

    def __init__(
        self,
        module: nn.Module,
        function: Callable[[torch.Tensor], torch.Tensor],
        with_gradients: Callable[[torch.Tensor, torch.Tensor], Differentiated | None] | None = None,
    ) -> None:
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self._function = function
        self._with_gradients = with_gradients
        self._random: RandomState | None = None
        self._autocast: Autocast | None = None

    def first(self, x: torch.Tensor) -> torch.Tensor:
        self._random, self._autocast = RandomState(x), Autocast(x)
        with self._autocast.again():
            return self._function(x)

    def again(self, x: torch.Tensor, gradient: torch.Tensor) -> Differentiated:
        """The output, and the gradients of the input and of the trained parameters."""
        if self._random is None or self._autocast is None:
            raise RuntimeError("the backward pass of a layer comes after its forward pass")
        with self._random.again(), self._autocast.again():
            found = self._with_gradients and self._with_gradients(x, gradient)
            if found:
                return found
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                output = self._function(x)
        dx, *others = torch.autograd.grad(
            output, [x, *self.parameters], gradient.to(output.dtype), allow_unused=True
        )
        return output.detach(), dx, tuple(others)


class _Reversible(torch.autograd.Function):
    """All layers as one node of the autograd graph, which saves only its two output streams."""

    @staticmethod
    def forward(
        ctx: Any, steps: Sequence[_Step], x1: torch.Tensor, x2: torch.Tensor, *_: nn.Parameter
    ) -> Streams:
        x1, x2 = x1.clone(), x2.clone()  # the layers change their inputs
        for step in steps:
            x1, x2 = step.forward(x1, x2)
        ctx.steps = steps
        ctx.save_for_backward(x1, x2)
        return x1, x2

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy1: torch.Tensor, dy2: torch.Tensor) -> Any:
        y1, y2 = ctx.saved_tensors
        streams, gradients = (y1.clone(), y2.clone()), (dy1.clone(), dy2.clone())
        of_parameters: Gradients = ()
        for step in reversed(ctx.steps):
            streams, gradients, of_step = step.backward(streams, gradients)
            of_parameters = of_step + of_parameters
        return None, *gradients, *of_parameters
