"""The keys of a config.json that do not affect what the model computes.

Transformers writes about eighty keys that are the same for every model; the set depends on the
release. A key that is neither here nor a field of `ReformerConfig` is refused: it may change the
results, and an export that ignored it would be silently wrong. The keys come from the configuration
classes of Transformers 2.11, 3.5, 4.57 and 5.23.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Final

_WITHOUT_EFFECT: Final[Mapping[str, tuple[str, ...]]] = {
    "where the file came from": (
        "_commit_hash",
        "_name_or_path",
        "finetuning_task",
        "model_type",  # checked on its own
        "name_or_path",
    ),
    "how Transformers runs the model: the same numbers": (
        "_attn_implementation_autoset",
        "_attn_implementation_internal",
        "_experts_implementation_internal",
        "attn_implementation",
        "dtype",  # of the weights in the file; the tensors have it too
        "experts_implementation",
        "gradient_checkpointing",
        "tf_legacy_loss",
        "torch_dtype",
        "torchscript",
        "use_bfloat16",
        "use_cache",
        "xla_device",
    ),
    "what a call returns beside the result": (
        "output_attentions",
        "output_hidden_states",
        "output_past",
        "return_dict",
        "tie_last_hidden_states",
        "use_return_dict",
    ),
    "names, tokenizer and special tokens; padding has a field of its own": (
        "bos_token_id",
        "cls_token_id",
        "decoder_start_token_id",
        "eos_token_id",
        "eos_token_ids",
        "label2id",
        "mask_token_id",
        "prefix",
        "sep_token_id",
        "tokenizer_class",
        "unk_token_id",
    ),
    "the loss": ("problem_type",),
    "defaults for text generation": (
        "assistant_confidence_threshold",
        "assistant_lookbehind",
        "bad_words_ids",
        "begin_suppress_tokens",
        "diversity_penalty",
        "do_sample",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "encoder_repetition_penalty",
        "epsilon_cutoff",
        "eta_cutoff",
        "exponential_decay_length_penalty",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "length_penalty",
        "max_length",
        "min_length",
        "no_repeat_ngram_size",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_scores",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict_in_generate",
        "suppress_tokens",
        "target_lookbehind",
        "task_specific_params",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
    ),
    # These names were used while Reformer was being added to Transformers. The published
    # checkpoints still contain them beside the final names; no release has ever read them.
    "left over in the first published checkpoints": (
        "attention_probs_dropout_prob",
        "intermediate_size",
        "num_chunks_after",
        "num_chunks_before",
        "sinusoidal_pos_embds",
    ),
    "cross-attention, which a Reformer does not have": ("cross_attention_hidden_size",),
}

KEYS_WITHOUT_EFFECT: Final = frozenset(chain.from_iterable(_WITHOUT_EFFECT.values()))
"""Keys whose values are ignored."""

KEYS_OF_OTHER_MODELS: Final[Mapping[str, object]] = {
    "add_cross_attention": False,
    "is_encoder_decoder": False,
    "pruned_heads": {},
    "tie_encoder_decoder": False,
}
"""Keys that every model of Transformers has, and the only value that each may have here."""
