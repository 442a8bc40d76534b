"""The base model of tokens and its four heads: one class for each task, with named outputs."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Final

import torch
from torch import nn

from reformer_models.config import ReformerConfig
from reformer_models.errors import ConfigError
from reformer_models.layers.dropout import Dropout
from reformer_models.layers.feed_forward import in_chunks
from reformer_models.layers.hashing import BucketSource
from reformer_models.layers.linear import Linear, linear
from reformer_models.layers.quantised import is_quantised
from reformer_models.layers.reformer import Reformer
from reformer_models.layers.task_model import Axes, Outputs, TaskModel


class ReformerForTask(TaskModel):
    """A Reformer of tokens with the head of a task.

    Attributes:
        last_only: True if the head gets only the last token of each row.
    """

    config: ReformerConfig
    axes: ClassVar[Axes]
    """The axes of each output by name, if the head gets all tokens."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.config = config
        self.reformer = Reformer(config)

    @abstractmethod
    def head(self, hidden: torch.Tensor) -> Outputs:
        """`[batch, length, output_size]` -> the task's outputs."""

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        source: BucketSource | None = None,
    ) -> Outputs:
        """The task's outputs; the arguments are those of `Reformer.forward`."""
        return self.head(self.reformer(input_ids, attention_mask, source, self.last_only))

    @property
    def output_axes(self) -> Axes:
        """The axes of each output by name: a name if dynamic, else the size."""
        config = self.config
        sizes: dict[str | int, str | int] = {
            "output_size": config.output_size,
            "vocab_size": config.vocab_size,
            "num_labels": config.num_labels,
        }
        if self.last_only:
            sizes["sequence"] = 1
        return {
            name: tuple(sizes.get(axis, axis) for axis in axes) for name, axes in self.axes.items()
        }

    @property
    def dtype(self) -> torch.dtype:
        """The type that the model computes in."""
        return self.reformer.encoder.layer_norm.weight.dtype


class FeatureExtraction(ReformerForTask):
    """No head. `last_hidden_state`: `[batch, sequence, output_size]`."""

    axes: ClassVar[Axes] = {"last_hidden_state": ("batch", "sequence", "output_size")}

    def head(self, hidden: torch.Tensor) -> Outputs:
        """The hidden states themselves."""
        return {"last_hidden_state": hidden}


class LMHead(nn.Module):
    """Logits over the vocabulary, in pieces along the sequence if the config says so."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.chunk_size = config.chunk_size_lm_head
        self.decoder = Linear(config.output_size, config.vocab_size, bias=False)
        # Not trained: transformers 4 adds it, transformers 5 does not.
        self.bias = nn.Parameter(torch.zeros(config.vocab_size), requires_grad=False)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[.., output_size]` -> `[.., vocab]`, all at once."""
        if is_quantised(self.decoder):
            logits: torch.Tensor = self.decoder(hidden)
            return logits
        return linear(hidden, self.decoder.weight, self.bias, training=self.training)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[batch, length, output_size]` -> `[batch, length, vocab]`."""
        if is_quantised(self.decoder):
            return self.logits(hidden)
        return in_chunks(self.logits, self.chunk_size, hidden)


class _LanguageModel(ReformerForTask):
    axes: ClassVar[Axes] = {"logits": ("batch", "sequence", "vocab_size")}

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__(config)
        self.lm_head = LMHead(config)

    def head(self, hidden: torch.Tensor) -> Outputs:
        """Logits of every token."""
        return {"logits": self.lm_head(hidden)}


class TextGeneration(_LanguageModel):
    """Causal language model. `logits`: `[batch, sequence, vocab_size]`."""

    def __init__(self, config: ReformerConfig) -> None:
        if not config.is_decoder:
            raise ConfigError(
                "text-generation needs a causal model; this config has is_decoder false: "
                "use --task fill-mask, or set is_decoder if the model was trained as a decoder"
            )
        after = {"lsh": config.lsh_num_chunks_after, "local": config.local_num_chunks_after}
        for kind in sorted(set(config.attn_layers)):
            if after.get(kind):
                raise ConfigError(
                    f"text-generation sees no later chunk; this config has {kind}_num_chunks_after "
                    f"{after[kind]}: set it to 0"
                )
        super().__init__(config)


class FillMask(_LanguageModel):
    """Masked language model. `logits`: `[batch, sequence, vocab_size]`."""

    def __init__(self, config: ReformerConfig) -> None:
        if config.is_decoder:
            raise ConfigError(
                "fill-mask needs a bidirectional model; this config has is_decoder true: "
                "use --task text-generation"
            )
        super().__init__(config)


class ClassificationHead(nn.Module):
    """Two dense layers over the first token."""

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__()
        self.dense = Linear(config.output_size, config.hidden_size)
        asked = config.classifier_dropout
        self.dropout = Dropout(config.hidden_dropout_prob if asked is None else asked)
        self.out_proj = Linear(config.hidden_size, config.num_labels)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """`[batch, length, output_size]` -> `[batch, labels]`."""
        pooled = torch.tanh(self.dense(self.dropout(hidden[:, 0])))
        result: torch.Tensor = self.out_proj(self.dropout(pooled))
        return result


class TextClassification(ReformerForTask):
    """Sequence classification. `logits`: `[batch, num_labels]`."""

    axes: ClassVar[Axes] = {"logits": ("batch", "num_labels")}

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__(config)
        self.classifier = ClassificationHead(config)

    def head(self, hidden: torch.Tensor) -> Outputs:
        """Logits of every sequence."""
        return {"logits": self.classifier(hidden)}


class QuestionAnswering(ReformerForTask):
    """Extractive question answering. `start_logits`, `end_logits`: `[batch, sequence]`."""

    axes: ClassVar[Axes] = {
        "start_logits": ("batch", "sequence"),
        "end_logits": ("batch", "sequence"),
    }

    def __init__(self, config: ReformerConfig) -> None:
        super().__init__(config)
        if config.num_labels != 2:
            raise ConfigError(
                f"question-answering needs two labels (start and end); got {config.num_labels}"
            )
        self.qa_outputs = Linear(config.output_size, config.num_labels)

    def head(self, hidden: torch.Tensor) -> Outputs:
        """For every token, the logits that the answer starts and ends there."""
        logits = self.qa_outputs(hidden)
        return {"start_logits": logits[..., 0], "end_logits": logits[..., 1]}


MODELS: Final[dict[str, type[ReformerForTask]]] = {
    "feature-extraction": FeatureExtraction,
    "text-generation": TextGeneration,
    "fill-mask": FillMask,
    "text-classification": TextClassification,
    "question-answering": QuestionAnswering,
}
"""The model of each task of tokens, `reformer_models.tasks.TASKS`."""
