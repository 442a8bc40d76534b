"""The model as modules that can be traced or exported for every batch and length.

For TorchScript, the code that branches on the length (how much to pad, whether to refuse) is
scripted. Everything else is traced: it computes with sizes but does not branch on them.
"""

# No `from __future__ import annotations`: TorchScript reads the annotations themselves.

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from reformer_export.source import decoder_modules, new_trace

if TYPE_CHECKING:
    from reformer_export.source import LoadedModel


class Traced(nn.Module):
    """The model in two parts; between them a padded sequence is cut to its length."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def hidden(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`[batch, padded]` int64 and bool -> hidden states, and buckets from `stacked`.

        The hidden states are of all tokens, or of one token per row if the model returns only the
        last logits.
        """
        reformer: Any = self.model.reformer
        trace = new_trace()
        last_only: Any = self.model.last_only
        hidden = reformer.encoder(reformer.embeddings(ids), mask, trace, last_only)
        return hidden, stacked(trace.computed)

    def head(self, hidden: torch.Tensor) -> dict[str, torch.Tensor]:
        """`[batch, length, output_size]` -> the task's outputs."""
        head: Any = self.model.head
        outputs: dict[str, torch.Tensor] = head(hidden)
        return outputs


class TracedGeneration(Traced):
    """The model, and the two parts that generate."""

    def __init__(self, loaded: "LoadedModel") -> None:
        super().__init__(loaded.model)
        # Not as submodules, because their weights are those of the model.
        self.generating = decoder_modules(loaded, in_place=True)[:2]

    def fill(
        self, ids: torch.Tensor, mask: torch.Tensor, unpadded: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """`[batch, padded]` int64 and bool, and the ids without padding -> logits and cache."""
        prefill, _ = self.generating
        return prefill.of_padded(ids, mask, unpadded.shape[1])

    def extend(
        self,
        input_ids: torch.Tensor,
        past_length: torch.Tensor,
        prompt_length: torch.Tensor,
        past: list[torch.Tensor],
    ) -> torch.Tensor:
        """Process one token of each row; writes into `past` and returns the logits."""
        _, step = self.generating
        return step.forward(input_ids, past_length, prompt_length, *past)["logits"]


class Deployed(nn.Module):
    """The module in model.pt; `forward` is the model, `probe` also returns its buckets."""

    def __init__(self, traced: torch.jit.ScriptModule, loaded: "LoadedModel", longest: int) -> None:
        super().__init__()
        self.traced = traced
        self.longest = longest
        config = loaded.token_config
        self.pad_token_id = config.pad_token_id
        self.chunk_multiple = config.chunk_multiple
        self.min_chunk_length = config.min_chunk_length
        # Hash rotations are fp32 in every model. This buffer shows if `half()` was called.
        self.register_buffer("in_fp32", torch.zeros(0))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """`[batch, length]` int64 each -> outputs by name. Without a mask, it is all ones."""
        return self.probe(input_ids, attention_mask)[0]

    @torch.jit.export
    def probe(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The outputs, and buckets from `stacked`."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if attention_mask.is_floating_point():
            raise ValueError("attention_mask must be integers or booleans, 1 for a token")
        ids, mask = self.padded(input_ids, attention_mask)
        hidden, buckets = self.traced.hidden(ids, mask)
        return self.traced.head(hidden[:, : input_ids.size(1)]), buckets

    def padded(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """`[batch, length]` int64 each -> `[batch, padded]` int64 and bool."""
        length = input_ids.size(1)
        if length < 1 or length > self.longest:
            raise ValueError(f"this model takes 1 to {self.longest} tokens; got {length}")
        if self.in_fp32.dtype != torch.float32:
            raise ValueError("model.pt cannot be converted by half() or bfloat16(): export it anew")
        padding = 0
        if length > self.min_chunk_length:
            padding = self.chunk_multiple - 1 - (length - 1) % self.chunk_multiple
        ids = nn.functional.pad(input_ids, [0, padding], value=float(self.pad_token_id))
        mask = nn.functional.pad(attention_mask, [0, padding]) != 0
        return ids, mask


class DeployedGeneration(Deployed):
    """The module in model.pt if the model generates: it also has `prefill` and `step`."""

    def __init__(
        self,
        traced: torch.jit.ScriptModule,
        loaded: "LoadedModel",
        longest: int,
        past_names: list[str],
    ) -> None:
        super().__init__(traced, loaded, longest)
        self.past_names = past_names

    @torch.jit.export
    def prefill(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        """`[batch, length]` int64 -> `logits` `[batch, 1, vocab_size]`, and the cache."""
        ids, mask = self.padded(input_ids, torch.ones_like(input_ids))
        return self.traced.fill(ids, mask, input_ids)

    @torch.jit.export
    def step(
        self,
        input_ids: torch.Tensor,
        past_length: torch.Tensor,
        prompt_length: torch.Tensor,
        past: dict[str, torch.Tensor],
    ) -> torch.Tensor:
        """Process one more token of each row; returns logits `[batch, 1, vocab_size]`.

        Writes the token into `past`, which must have room for it.
        """
        longest = int(past_length.max())
        if longest >= self.longest:
            raise ValueError(f"this model takes {self.longest} tokens; the cache has {longest}")
        tensors = [past[name] for name in self.past_names]
        return self.traced.extend(input_ids, past_length, prompt_length, tensors)


class TracedSeries(nn.Module):
    """A model of series; nothing in it branches on the length."""

    def __init__(self, model: nn.Module, has_time_features: bool) -> None:
        super().__init__()
        self.model = model
        self.has_time_features = has_time_features

    def outputs(
        self, series: torch.Tensor, time_features: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The inputs of the model -> its outputs, and buckets from `stacked`.

        A model without time features ignores them.
        """
        trace = new_trace()
        inputs = (series, time_features) if self.has_time_features else (series,)
        outputs = self.model(*inputs, source=trace)
        return outputs, stacked(trace.computed)


class DeployedSeries(nn.Module):
    """The module in model.pt of a model of series; it has the methods of `Deployed`."""

    def __init__(
        self,
        traced: torch.jit.ScriptModule,
        longest: int,
        has_time_features: bool,
    ) -> None:
        super().__init__()
        self.traced = traced
        self.longest = longest
        self.has_time_features = has_time_features
        self.register_buffer("in_fp32", torch.zeros(0))

    def forward(
        self, series: torch.Tensor, time_features: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """`[batch, length, channels]` and, for a model that takes them, `[batch, length + horizon,
        features]`, both fp32 -> outputs by name."""
        return self.probe(series, time_features)[0]

    @torch.jit.export
    def probe(
        self, series: torch.Tensor, time_features: torch.Tensor | None = None
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """The outputs, and buckets from `stacked`."""
        length = series.size(1)
        if length < 1 or length > self.longest:
            raise ValueError(f"this model takes 1 to {self.longest} steps; got {length}")
        if self.in_fp32.dtype != torch.float32:
            raise ValueError("model.pt cannot be converted by half() or bfloat16(): export it anew")
        if time_features is None:
            if self.has_time_features:
                raise ValueError("time_features are missing: give those of all steps")
            time_features = series.new_zeros(0)
        return self.traced.outputs(series, time_features)


class Flat(nn.Module):
    """The model with a tuple of tensors as its result: outputs, then buckets from `stacked`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The model's inputs -> its outputs, and buckets if it has LSH layers."""
        trace = new_trace()
        outputs = self.model(*inputs, source=trace)
        buckets = (stacked(trace.computed),) if trace.computed else ()
        return (*outputs.values(), *buckets)


class Bounded(Traced):
    """The model for a runtime that plans its memory at the export; it returns what `Flat` returns.

    The padded length is one number that is computed at run time, with a bound; all later sizes
    depend on it, and not on the length. Tensors are cut and extended by `index_select`: a slice
    would have to be proven to be within its tensor.
    """

    def __init__(self, loaded: "LoadedModel", longest: int) -> None:
        super().__init__(loaded.model)
        self.config = loaded.token_config
        self.longest = self.config.padded_length(longest)

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        """`[batch, length]` int64 each -> outputs, and buckets if the model has LSH layers."""
        length = input_ids.shape[1]
        padded = self._padded_length(length)
        places = torch.minimum(torch.arange(padded), torch.full((1,), length))
        ids = _extended(input_ids, self.config.pad_token_id).index_select(1, places)
        mask = _extended(attention_mask, 0).index_select(1, places) != 0
        hidden, buckets = self.hidden(ids, mask)
        if not self.model.last_only:
            hidden = hidden.index_select(1, torch.arange(length))
        outputs = self.head(hidden).values()
        return (*outputs, buckets) if buckets.numel() else tuple(outputs)

    def _padded_length(self, length: int) -> int:
        """`config.padded_length(length)`, computed by operators."""
        shortest, multiple = self.config.min_chunk_length, self.config.chunk_multiple
        before_last = torch.full((), length - 1, dtype=torch.int64)
        beyond = torch.clamp(before_last // shortest, max=1)  # 0 up to the shortest chunk, else 1
        to_multiple = multiple - 1 - before_last % multiple
        padded = cast(int, (before_last + 1 + beyond * to_multiple).item())
        torch._check(padded >= 1)
        torch._check(padded <= self.longest)
        return padded


def _extended(tokens: torch.Tensor, value: int) -> torch.Tensor:
    """`[batch, length]` -> `[batch, length + 1]`, with `value` at the end."""
    return torch.cat([tokens, torch.full_like(tokens[:, :1], value)], dim=1)


def stacked(computed: list[torch.Tensor]) -> torch.Tensor:
    """All buckets: `[lsh_layers, batch, heads, num_hashes, padded]` int32; `[0]` without any."""
    return torch.stack(computed) if computed else torch.zeros(0, dtype=torch.int32)
