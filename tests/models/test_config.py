"""`ReformerConfig` against Transformers' own: what it reads, refuses and writes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.reformer.modeling_reformer import LSHSelfAttention

from reformer_models.config import ReformerConfig
from reformer_models.errors import ConfigError

from .config_files import CRIME_AND_PUNISHMENT, OF_ANY_MODEL, as_hf, configs


def raw(**changes: Any) -> dict[str, Any]:
    return {"model_type": "reformer", **changes}


# Reading


def test_defaults_are_those_of_transformers() -> None:
    theirs = transformers.ReformerConfig().to_dict()
    ours = ReformerConfig().to_hf()
    ours["architectures"] = None  # which we write as an empty list
    ours["transformers_version"] = transformers.__version__
    assert ours.pop("num_labels") == len(theirs["id2label"])
    assert ours == {name: theirs[name] for name in ours}


@pytest.mark.parametrize("use_diff", [True, False])
def test_reads_what_transformers_writes(use_diff: bool) -> None:
    theirs = transformers.ReformerConfig(
        attn_layers=["lsh", "local"],
        dtype="float16",
        hash_seed=5,
        hidden_dropout_prob=0,
        is_decoder=True,
        num_buckets=[4, 8],
        num_labels=7,
        pad_token_id=3,
        torch_dtype="float16",
    )
    config = ReformerConfig.from_hf(json.loads(theirs.to_json_string(use_diff=use_diff)))
    assert config == ReformerConfig(
        attn_layers=("lsh", "local"),
        hash_seed=5,
        hidden_dropout_prob=0.0,
        is_decoder=True,
        num_buckets=(4, 8),
        num_labels=7,
        pad_token_id=3,
        transformers_version=transformers.__version__,
    )


def test_reads_the_first_published_checkpoints() -> None:
    config = ReformerConfig.from_hf(CRIME_AND_PUNISHMENT)
    assert config.architectures == ("ReformerModelWithLMHead",)
    assert config.axial_pos_shape == (512, 1024)
    assert config.bucket_count == 64 * 128
    assert config.is_decoder
    assert config.max_length == 524288
    assert config.transformers_version is None


def test_reads_keys_of_any_model() -> None:
    config = ReformerConfig.from_hf({**CRIME_AND_PUNISHMENT, **OF_ANY_MODEL})
    assert config.num_labels == 3
    assert config.transformers_version == "4.57.1"


def test_a_single_number_of_buckets_is_one_factor() -> None:
    config = ReformerConfig.from_hf(raw(num_buckets=32))
    assert config.num_buckets == (32,)
    assert config.to_hf()["num_buckets"] == 32
    assert ReformerConfig.from_hf(raw(num_buckets=[32])) == config


def test_no_padding_token_is_token_0() -> None:
    assert ReformerConfig.from_hf(raw(pad_token_id=None)).pad_token_id == 0


def test_null_where_no_layer_looks() -> None:
    nulls = dict.fromkeys(
        [
            "lsh_attention_probs_dropout_prob",
            "lsh_attn_chunk_length",
            "lsh_num_chunks_after",
            "lsh_num_chunks_before",
        ]
    )
    config = ReformerConfig.from_hf(raw(attn_layers=["local"], **nulls))
    assert config == ReformerConfig(attn_layers=("local",))
    for name in nulls:
        with pytest.raises(ConfigError, match=f"{name} must be .*, found None"):
            ReformerConfig.from_hf(raw(attn_layers=["local", "lsh"], **{name: None}))


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        ({}, 2),
        ({"num_labels": 5}, 5),
        ({"num_labels": None, "id2label": None}, 2),
        ({"id2label": {"0": "no", "1": "yes", "2": "maybe"}}, 3),
        ({"id2label": {"0": "no"}, "num_labels": 1}, 1),
    ],
)
def test_number_of_labels(labels: dict[str, Any], count: int) -> None:
    assert ReformerConfig.from_hf(raw(**labels)).num_labels == count


@pytest.mark.parametrize(
    ("attn_layers", "num_hidden_layers"),
    [
        (["lsh", "local"], None),
        (["lsh", "local", "lsh"], 3),
        (["lsh", "local", "lsh"], 2),
        (["lsh"], 3),
        (["local", "local", "local"], 1),
    ],
)
def test_layers_are_those_that_transformers_builds(
    attn_layers: list[str], num_hidden_layers: int | None
) -> None:
    given_keys: dict[str, Any] = {"attn_layers": attn_layers}
    if num_hidden_layers is not None:
        given_keys["num_hidden_layers"] = num_hidden_layers
    with torch.device("meta"):
        model = transformers.ReformerModel(transformers.ReformerConfig(**given_keys))
    kinds = [
        "lsh" if isinstance(layer.attention.self_attention, LSHSelfAttention) else "local"
        for layer in model.encoder.layers
    ]
    config = ReformerConfig.from_hf(raw(**given_keys))
    assert list(config.attn_layers) == kinds
    assert config.num_hidden_layers == len(kinds)


# Refusing


def test_unknown_keys_are_named() -> None:
    keys = raw(num_hashs=4, rope_theta=1e4)
    with pytest.raises(ConfigError) as caught:
        ReformerConfig.from_hf(keys)
    message = str(caught.value)
    assert "'num_hashs' (is it num_hashes?)" in message
    assert "'rope_theta'" in message
    assert "ignore_config_keys" in message
    with pytest.raises(ConfigError, match="'rope_theta'"):
        ReformerConfig.from_hf(keys, ignore_keys=["num_hashs"])
    accepted = ReformerConfig.from_hf(keys, ignore_keys=["num_hashs", "rope_theta"])
    assert accepted == ReformerConfig()


@pytest.mark.parametrize("key", ["auto_map", "quantization_config", "per_layer_config"])
def test_keys_that_change_the_model_are_not_taken_for_granted(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        ReformerConfig.from_hf(raw(**{key: {}}))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model_type": "bert"}, "model_type must be 'reformer'.*found 'bert'"),
        ({"model_type": None}, "model_type must be 'reformer'.*found None"),
        ({}, 'model_type is missing.*"model_type": "reformer"'),
        (raw(is_encoder_decoder=True), "is_encoder_decoder must be False"),
        (raw(pruned_heads={"0": [1]}), "pruned_heads must be {}"),
        (raw(num_labels=3, id2label={"0": "a"}), "num_labels must be 1.*found 3"),
        (raw(id2label=["a"]), "id2label must be a table"),
        (raw(attn_layers=["lsh", "local"], num_hidden_layers=3), r"num_hidden_layers .* in 1\.\.2"),
        (raw(attn_layers=["lsh", "local"], num_hidden_layers=1), "num_hidden_layers must be 2"),
        (raw(attn_layers=["lsh"], num_hidden_layers="3"), "num_hidden_layers must be an integer"),
    ],
)
def test_what_is_no_reformer_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ReformerConfig.from_hf(keys)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("architectures", "ReformerModel"),
        ("architectures", [1]),
        ("attention_head_size", 0),
        ("attn_layers", []),
        ("attn_layers", "lsh"),
        ("attn_layers", ["lsh", "dense"]),
        ("attn_layers", None),
        ("axial_norm_std", -1.0),
        ("axial_pos_embds", 1),
        ("axial_pos_embds_dim", [64, 64]),
        ("axial_pos_embds_dim", [256, 0]),
        ("axial_pos_shape", [4096]),
        ("axial_pos_shape", [16, 16, 16]),
        ("axial_pos_shape", [0, 64]),
        ("chunk_size_feed_forward", -1),
        ("classifier_dropout", 1.5),
        ("feed_forward_size", 512.0),
        ("hash_seed", 2**64),
        ("hash_seed", "0"),
        ("hidden_act", "prelu"),
        ("hidden_act", ["relu"]),
        ("hidden_dropout_prob", math.nan),
        ("hidden_size", None),
        ("hidden_size", True),
        ("initializer_range", math.inf),
        ("is_decoder", "false"),
        ("layer_norm_eps", "1e-12"),
        ("local_attn_chunk_length", 0),
        ("lsh_num_chunks_after", -1),
        ("max_position_embeddings", 0),
        ("num_attention_heads", -2),
        ("num_buckets", 0),
        ("num_buckets", 7),
        ("num_buckets", True),
        ("num_buckets", []),
        ("num_buckets", [4, 3]),
        ("num_buckets", [2**16, 2**16]),
        ("num_buckets", "64"),
        ("num_hashes", 0),
        ("num_labels", 0),
        ("pad_token_id", -1),
        ("pad_token_id", 320),
        ("transformers_version", "unknown"),
        ("transformers_version", 4),
        ("vocab_size", 1.5),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^{name}.* must be .*, found ") as caught:
        ReformerConfig.from_hf(raw(**{name: value}))
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match=f"^{name}"):
        ReformerConfig(**{name: value})  # type: ignore[arg-type]


def test_a_long_wrong_value_is_cut() -> None:
    with pytest.raises(ConfigError) as caught:
        ReformerConfig.from_hf(raw(hidden_act="relu\n" * 1000))
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


def test_unused_axial_dimensions_need_not_fit() -> None:
    config = ReformerConfig.from_hf(raw(axial_pos_embds=False, hidden_size=12))
    assert config.max_length == 4096


# Writing


@given(configs(), st.sampled_from([None, 2, (4,), (2, 6), (2, 4, 8)]), st.sampled_from([None, 7]))
@settings(max_examples=40)
def test_round_trip(config: ReformerConfig, num_buckets: Any, hash_seed: int | None) -> None:
    config = replace(
        config,
        architectures=("ReformerModel",),
        hash_seed=hash_seed,
        num_buckets=num_buckets,
        num_labels=5,
        transformers_version=transformers.__version__,
    )
    written = json.loads(json.dumps(config.to_hf()))
    assert ReformerConfig.from_hf(written) == config
    theirs = transformers.ReformerConfig.from_dict(written)
    assert ReformerConfig.from_hf(json.loads(theirs.to_json_string())) == config


def test_transformers_builds_the_same_model_from_what_is_written() -> None:
    config = ReformerConfig.from_hf({**CRIME_AND_PUNISHMENT, "hidden_act": "gelu_new"})
    legacy = transformers.ReformerConfig.from_dict(
        {**CRIME_AND_PUNISHMENT, "hidden_act": "gelu_new"}
    )
    with torch.device("meta"):
        before = transformers.ReformerModelWithLMHead(legacy)
        after = transformers.ReformerModelWithLMHead(as_hf(config))
    assert str(after) == str(before)
    shapes = {name: tensor.shape for name, tensor in before.state_dict().items()}
    assert {name: tensor.shape for name, tensor in after.state_dict().items()} == shapes
    for name in config.to_hf().keys() - {"num_labels", "transformers_version"}:
        assert getattr(after.config, name) == getattr(legacy, name), name


def test_what_transformers_does_not_have_is_written_only_if_it_is_used() -> None:
    config = ReformerConfig()
    assert config.output_size == 2 * config.hidden_size
    assert config.beyond_transformers == ()
    assert not {"attention_output_bias", "stream_merge"} & config.to_hf().keys()
    config = ReformerConfig(attention_output_bias=True, stream_merge="mean")
    assert config.output_size == config.hidden_size
    assert config.beyond_transformers == ("attention_output_bias", "stream_merge")
    assert ReformerConfig.from_hf(config.to_hf()) == config
