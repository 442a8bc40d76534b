"""Linear layers as nodes of our operators: `exporters/onnx/linear.py`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch

import reformer_export
from reformer_export.artifact import Artifact
from reformer_export.artifact.manifest import DECODER_FILES
from reformer_export.exporters.tensorrt.graph import lower
from reformer_models.layers.fused import ACTIVATIONS
from reformer_ops import session_options
from reformer_ops.registry import LINEAR

from ..models import generating
from ..models.configs import WIDE
from ..models.reformers import token_ids
from ..tools.model_fixtures import Fixtures

LAYERS = len(WIDE["attn_layers"])
# A local layer has a query, a key and a value, an LSH layer a query_key and a value.
ATTENTION = {"LayerNormLinear": 5 * LAYERS // 2, "LinearAdd": LAYERS}
ALL = {**ATTENTION, "FeedForwardAdd": LAYERS}
NAMES = {op.name for op in LINEAR}


def count(path: Path) -> dict[str, int]:
    nodes = onnx.load(path, load_external_data=False).graph.node
    return Counter(node.op_type for node in nodes if node.op_type in NAMES)


def slow(value: object) -> Any:
    """A parameter that needs one more export, so only `make test-all` runs it."""
    return pytest.param(value, marks=pytest.mark.slow)


def wide(**changes: Any) -> dict[str, Any]:
    return {**WIDE, **changes}


def run(model: bytes, ids: np.ndarray, *, native: bool) -> np.ndarray:
    options = session_options() if native else onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    found: np.ndarray = session.run(["logits"], feeds)[0]
    return found


def check_numbers(artifact: Artifact, model: Any) -> None:
    """Kernels and bodies both give Transformers' numbers, at lengths within and beyond a chunk."""
    data = artifact.format_path("onnx").read_bytes()
    for batch, length in ((1, 1), (2, 5), (3, 23), (1, 120)):
        ids = token_ids(batch, length, WIDE["vocab_size"], seed=length)
        with torch.no_grad():
            wanted = model(ids).logits.numpy()
        for native in (True, False):
            found = run(data, ids.numpy(), native=native)
            assert np.abs(found - wanted).max() < 3e-5, (batch, length, native)


@pytest.mark.parametrize("activation", ["relu", *map(slow, ("gelu", "gelu_new", "silu"))])
def test_every_linear_layer_is_in_a_node_of_ours(fixtures: Fixtures, activation: str) -> None:
    config = wide(hidden_act=activation)
    artifact = fixtures.artifact(config=config)
    assert count(artifact.format_path("onnx")) == ALL
    graph = onnx.load(artifact.format_path("onnx")).graph
    kinds = Counter(node.op_type for node in graph.node)
    assert (kinds["Gemm"], kinds["MatMul"], kinds["LayerNormalization"]) == (1, 0, 1)  # the head's
    check_numbers(artifact, fixtures.model(config=config))


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({"hidden_act": "tanh"}, ATTENTION),
        ({"feed_forward_size": 40}, ATTENTION),
        ({"attention_head_size": 4}, {"FeedForwardAdd": LAYERS}),
        ({"hidden_size": 24, "axial_pos_embds_dim": [10, 14]}, {}),
    ],
    ids=str,
)
@pytest.mark.slow
def test_what_the_operators_cannot_do_stays_as_it_was(
    fixtures: Fixtures, changes: dict[str, Any], ours: dict[str, int]
) -> None:
    artifact = fixtures.artifact(config=wide(**changes))
    assert count(artifact.format_path("onnx")) == ours
    check_numbers(artifact, fixtures.model(config=wide(**changes)))


def test_every_activation_is_that_of_transformers() -> None:
    from transformers.activations import ACT2FN

    x = torch.linspace(-6, 6, 301, dtype=torch.float64)
    functions = {
        "linear": lambda x: x,
        "relu": torch.relu,
        "gelu": torch.nn.functional.gelu,
        "gelu_tanh": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        "silu": torch.nn.functional.silu,
    }
    for name, ours in ACTIVATIONS.items():
        torch.testing.assert_close(ACT2FN[name](x), functions[ours](x), rtol=0, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"ops": "portable"}, {"dtype": "bf16"}], ids=str)
def test_who_sees_standard_operators(fixtures: Fixtures, options: dict[str, str]) -> None:
    """Models without our nodes, and bf16, which no CPU kernel supports."""
    assert not count(fixtures.artifact(config=WIDE, **options).format_path("onnx"))


@pytest.mark.slow
def test_half_precision(fixtures: Fixtures) -> None:
    artifact = fixtures.artifact(config=WIDE, dtype="fp16")
    assert count(artifact.format_path("onnx")) == ALL
    data = artifact.format_path("onnx").read_bytes()
    ids = token_ids(2, 5, WIDE["vocab_size"])  # less than a chunk: nothing is hashed
    with torch.no_grad():
        wanted = fixtures.model(config=WIDE)(ids).logits.numpy()
    for native in (True, False):
        found = run(data, ids.numpy(), native=native)
        assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()


def test_no_weight_is_stored_twice(fixtures: Fixtures) -> None:
    artifact = fixtures.artifact(config=WIDE)
    names = {tensor.name for tensor in onnx.load(artifact.format_path("onnx")).graph.initializer}
    feed_forward = [name.rpartition(".")[2] for name in names if ".feed_forward." in name]
    assert Counter(feed_forward) == {
        "weight_panels": 2 * LAYERS,  # up and down
        "bias": 3 * LAYERS,  # and the norm
        "weight": LAYERS,
    }
    attention = [name.rpartition(".")[2] for name in names if ".attention." in name]
    assert Counter(attention)["weight_panels"] == 5 * LAYERS // 2 + LAYERS
    floats = sum(p.numel() for p in fixtures.model(config=WIDE).parameters())
    assert artifact.format_path("onnx").stat().st_size < 1.2 * 4 * floats + 100_000


@pytest.mark.slow
def test_both_graphs_that_generate_have_them(fixtures: Fixtures) -> None:
    artifact = fixtures.decoder(config=WIDE)
    for name in DECODER_FILES:
        assert count(artifact.path / name) == ALL
    model = fixtures.model(config=WIDE)
    for length in (3, 17):
        prompt = token_ids(1, length, WIDE["vocab_size"], seed=length)[0]
        wanted, _ = generating.generate(model, prompt, 12)
        for ops in ("native", "portable"):
            generator = reformer_export.open_generator(artifact, ops=ops)
            found = generator.generate(prompt.numpy(), max_new_tokens=12, stop=())
            np.testing.assert_array_equal(found[0], wanted.numpy())


@pytest.mark.parametrize(
    ("dtype", "activation"),
    [
        ("fp32", "relu"),
        ("fp16", "relu"),
        ("fp16", "gelu"),
        pytest.param("fp16", "gelu_new", marks=pytest.mark.slow),
        pytest.param("fp16", "silu", marks=pytest.mark.slow),
    ],
)
def test_tensorrt_sees_products_of_matrices(
    fixtures: Fixtures, dtype: str, activation: str
) -> None:
    config = wide(hidden_act=activation)
    artifact = fixtures.artifact(config=config)
    model = ir.load(artifact.format_path("onnx"))
    lower(model, dtype)
    assert {node.domain for node in model.graph} == {""}
    inside = Counter(n.op_type for n in model.graph if NAMES & set(str(n.name).split("/")))
    assert inside["Gemm"] == 2 * LAYERS
    assert inside["MatMul"] == sum(ATTENTION.values())
    assert inside["Transpose"] == 0
    assert not any("panels" in name for name in model.graph.initializers)
    ids = token_ids(2, 5, WIDE["vocab_size"])
    with torch.no_grad():
        wanted = fixtures.model(config=config)(ids).logits.numpy()
    found = run(ir.to_proto(model).SerializeToString(), ids.numpy(), native=False)
    assert np.abs(found - wanted).max() < (3e-5 if dtype == "fp32" else 0.1)
