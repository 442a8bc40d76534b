"""Keys of config.json files that exist in practice, and configurations to try."""

from __future__ import annotations

from typing import Any

import transformers
from hypothesis import strategies as st

from reformer_models.config import ReformerConfig

transformers.logging.set_verbosity_error()

# The config.json of the first published checkpoints, with key names from before the release.
CRIME_AND_PUNISHMENT: dict[str, Any] = {
    "architectures": ["ReformerModelWithLMHead"],
    "attention_head_size": 64,
    "attention_probs_dropout_prob": 0.1,
    "attn_layers": ["local", "lsh", "local", "lsh", "local", "lsh"],
    "axial_norm_std": 1.0,
    "axial_pos_embds": True,
    "axial_pos_embds_dim": [64, 192],
    "axial_pos_shape": [512, 1024],
    "chunk_size_feed_forward": 0,
    "chunk_size_lm_head": 0,
    "eos_token_id": 2,
    "feed_forward_size": 512,
    "hash_seed": None,
    "hidden_act": "relu",
    "hidden_dropout_prob": 0.05,
    "hidden_size": 256,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "is_decoder": True,
    "layer_norm_eps": 1e-12,
    "local_attention_probs_dropout_prob": 0.05,
    "local_attn_chunk_length": 64,
    "local_num_chunks_after": 0,
    "local_num_chunks_before": 1,
    "lsh_attention_probs_dropout_prob": 0.0,
    "lsh_attn_chunk_length": 64,
    "lsh_num_chunks_after": 0,
    "lsh_num_chunks_before": 1,
    "max_position_embeddings": 524288,
    "model_type": "reformer",
    "num_attention_heads": 2,
    "num_buckets": [64, 128],
    "num_chunks_after": 0,
    "num_chunks_before": 1,
    "num_hashes": 1,
    "num_hidden_layers": 6,
    "output_past": True,
    "pad_token_id": 0,
    "sinusoidal_pos_embds": True,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 100}},
    "vocab_size": 320,
}

# Keys that any release from 2.11 to 4.57 may add, in a complete (`use_diff=False`) file.
OF_ANY_MODEL: dict[str, Any] = {
    "_attn_implementation_autoset": False,
    "_commit_hash": None,
    "_name_or_path": "somewhere",
    "add_cross_attention": False,
    "bad_words_ids": None,
    "begin_suppress_tokens": None,
    "bos_token_id": None,
    "cross_attention_hidden_size": None,
    "decoder_start_token_id": None,
    "diversity_penalty": 0.0,
    "do_sample": False,
    "early_stopping": False,
    "encoder_no_repeat_ngram_size": 0,
    "exponential_decay_length_penalty": None,
    "finetuning_task": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "gradient_checkpointing": False,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"},
    "is_encoder_decoder": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2},
    "length_penalty": 1.0,
    "max_length": 20,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "output_attentions": False,
    "output_hidden_states": False,
    "output_scores": False,
    "prefix": None,
    "problem_type": None,
    "pruned_heads": {},
    "remove_invalid_values": False,
    "repetition_penalty": 1.0,
    "return_dict": True,
    "return_dict_in_generate": False,
    "sep_token_id": None,
    "suppress_tokens": None,
    "temperature": 1.0,
    "tf_legacy_loss": False,
    "tie_encoder_decoder": False,
    "tie_word_embeddings": False,
    "tokenizer_class": None,
    "top_k": 50,
    "top_p": 1.0,
    "torch_dtype": "float32",
    "torchscript": False,
    "transformers_version": "4.57.1",
    "typical_p": 1.0,
    "use_bfloat16": False,
    "use_cache": True,
    "xla_device": None,
}


def as_hf(config: ReformerConfig) -> transformers.ReformerConfig:
    return transformers.ReformerConfig.from_dict(config.to_hf())


@st.composite
def configs(draw: st.DrawFn) -> ReformerConfig:
    """Small configurations of every shape, to test effects of chunk lengths and positions."""
    shape = (draw(st.integers(1, 12)), draw(st.integers(1, 12)))
    return ReformerConfig(
        attn_layers=tuple(
            draw(st.lists(st.sampled_from(["local", "lsh"]), min_size=1, max_size=3))
        ),
        attention_head_size=2,
        axial_pos_embds=draw(st.booleans()),
        axial_pos_shape=shape,
        axial_pos_embds_dim=(1, 3),
        feed_forward_size=2,
        hidden_size=4,
        local_attn_chunk_length=draw(st.integers(1, 12)),
        lsh_attn_chunk_length=draw(st.integers(1, 12)),
        max_position_embeddings=draw(st.integers(1, 100)),
        num_attention_heads=1,
        vocab_size=8,
    )
