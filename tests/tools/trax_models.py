"""trax's `ReformerLM`, stated again in NumPy from its published source, and checkpoints of it.

Nothing here uses our own code. Weights are a flat list in trax's order, as its files have them.
"""

from __future__ import annotations

import gzip
import json
import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

BASE: Mapping[str, Any] = {
    "vocab_size": 50,
    "d_model": 32,
    "d_ff": 64,
    "d_attention_key": 8,
    "d_attention_value": 8,
    "n_layers": 2,
    "n_heads": 2,
    "max_len": 64,
    "attention_type": ["SelfAttention", "LSHSelfAttention"],
    "SelfAttention": {"chunk_len": 8, "n_chunks_before": 1},
    "LSHSelfAttention": {"chunk_len": 8, "n_hashes": 2, "n_buckets": 8},
}
DEFAULTS: Mapping[str, Any] = {"pos_type": None, "pos_axial_shape": (), "ff_activation": "FastGelu"}
LOCAL: Mapping[str, Any] = {"chunk_len": None, "n_chunks_before": 0}
LSH: Mapping[str, Any] = {"n_chunks_before": 1, "n_hashes": 1}
BASES, DIGITS = (11, 13, 14, 15), 8


def kinds(model: Mapping[str, Any]) -> list[str]:
    """The class of attention of each layer."""
    given = model.get("attention_type", "SelfAttention")
    pattern = [given] if isinstance(given, str) else list(given)
    return pattern * (model["n_layers"] // len(pattern))


def weights(model: Mapping[str, Any]) -> list[Array]:
    """Random weights in the order in which trax flattens its tree."""
    random = np.random.default_rng(0)
    size, hidden, vocabulary = model["d_model"], model["d_ff"], model["vocab_size"]
    heads, key = model["n_heads"], model["d_attention_key"]
    shapes: list[tuple[int, ...]] = [(vocabulary, size), *_position_shapes(model)]
    for kind in kinds(model):
        projections = 2 if kind == "LSHSelfAttention" else 3
        shapes += [(size,), (size,), *[(heads, size, key)] * projections, (heads, key, size)]
        shapes += [(size,), (size,), (size, hidden), (hidden,), (hidden, size), (size,)]
    shapes += [(2 * size,), (2 * size,), (2 * size, vocabulary), (vocabulary,)]
    return [random.normal(0, 0.3, shape).astype(np.float32) for shape in shapes]


def _position_shapes(model: Mapping[str, Any]) -> list[tuple[int, ...]]:
    kind, size = model.get("pos_type"), model["d_model"]
    if kind == "axial":
        grid = model["pos_axial_shape"]
        return [
            (1, *(length if axis == place else 1 for place, length in enumerate(grid)), part)
            for axis, part in enumerate(model["pos_d_axial_embs"])
        ]
    if kind == "fixed-base":
        return [(1, size // DIGITS)] * (len(BASES) * DIGITS) + [(1, 1, size)]
    return [] if kind else [(model["max_len"], size)]


def save(folder: Path, model: Mapping[str, Any], flat: Sequence[Array]) -> Path:
    """A folder as trax's older releases and the user write it."""
    folder.mkdir(exist_ok=True)
    (folder / "trax_reformer.json").write_text(json.dumps({"class": "ReformerLM", **model}))
    with gzip.open(folder / "model.pkl.gz", "wb") as file:
        pickle.dump({"flat_weights": list(flat), "flat_state": [], "step": 1}, file)
    return folder


def logits(
    model: Mapping[str, Any], flat: Sequence[Array], tokens: Array, rotations: Sequence[Array]
) -> Array:
    """The logits of one sequence in eval mode, `[length, vocab_size]`; all but scores in fp64.

    `tokens` is `[length]`. Each layer of LSH attention has rotations `[heads, d_attention_key,
    hashes, buckets / 2]`.
    """
    model = {**DEFAULTS, **model}
    rest = iter([weight.astype(np.float64) for weight in flat])
    embedding = next(rest)
    shifted = np.concatenate([[0], tokens[:-1]])
    first = second = embedding[shifted] + _positions(model, rest, len(tokens))
    turns = iter(rotations)
    for kind in kinds(model):
        # Each half adds to one stream what it computes from the other; then they change places.
        normed = _layer_norm(second, next(rest), next(rest))
        if kind == "LSHSelfAttention":
            attention = _lsh({**LSH, **model.get(kind, {})}, normed, rest, next(turns))
        else:
            attention = _local({**LOCAL, **model.get(kind, {})}, normed, rest)
        first, second = second, first + attention
        normed = _layer_norm(second, next(rest), next(rest))
        activated = ACTIVATIONS[model["ff_activation"]](normed @ next(rest) + next(rest))
        first, second = second, first + (activated @ next(rest) + next(rest))
    both = np.concatenate([first, second], axis=-1)
    result: Array = _layer_norm(both, next(rest), next(rest)) @ next(rest) + next(rest)
    assert next(rest, None) is None
    return result


def _erf(x: Array) -> Array:
    return np.vectorize(math.erf)(x)


ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "Relu": lambda x: np.maximum(x, 0),
    "Gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "FastGelu": lambda x: 0.5 * x * (1 + np.tanh(0.7978845608 * x * (1 + 0.044715 * x * x))),
}


def _layer_norm(x: Array, scale: Array, bias: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * scale + bias


def _positions(model: Mapping[str, Any], rest: Any, length: int) -> Array:
    kind, size = model["pos_type"], model["d_model"]
    places = np.arange(length)
    if kind is None:
        table: Array = next(rest)[:length]
        return table
    if kind == "no":
        return np.zeros((length, size))
    if kind == "sin-cos":
        angles = np.outer(places, 10000.0 ** (-np.arange(0, size, 2) / size))
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    if kind == "axial":
        coordinates = np.unravel_index(places, model["pos_axial_shape"])
        parts = [next(rest).reshape(-1, part) for part in model["pos_d_axial_embs"]]
        pairs = zip(parts, coordinates, strict=True)
        return np.concatenate([part[coordinate] for part, coordinate in pairs], axis=1)
    total = np.zeros((length, size))
    for base in BASES:
        digits = [(places // base**place) % base for place in range(DIGITS)]
        total += np.concatenate([np.outer(one, next(rest)) for one in digits], axis=1)
    total[0] += next(rest)[0, 0]
    return total


def _attend(
    query: Array, key: Array, value: Array, places: Array, own: float, layer: Mapping[str, Any]
) -> tuple[Array, Array]:
    """Attention within a chunk and those before, around the start; the sums of the scores, too.

    `own` is subtracted from the score of a token with itself.
    """
    chunk = layer["chunk_len"] or len(query)
    count = len(query) // chunk
    outputs, sums = [], []
    for index in range(count):
        near = range(index - layer["n_chunks_before"], index + 1)
        seen = np.concatenate([np.arange(chunk) + chunk * (one % count) for one in near])
        mine = np.arange(chunk) + chunk * index
        scores = query[mine] @ key[seen].T / math.sqrt(query.shape[1])
        scores = scores - 1e9 * (places[mine][:, None] < places[seen])
        scores = scores - own * (places[mine][:, None] == places[seen])
        # In fp32 as in trax: near -1e5, this rounds the scores of tokens that see only themselves.
        scores = scores.astype(np.float32)
        total = np.logaddexp.reduce(scores, axis=-1, keepdims=True)
        outputs.append(np.exp(scores - total) @ value[seen])
        sums.append(total[:, 0])
    return np.concatenate(outputs), np.concatenate(sums)


def _local(layer: Mapping[str, Any], x: Array, rest: Any) -> Array:
    query, key, value, out = next(rest), next(rest), next(rest), next(rest)
    places = np.arange(len(x))
    result = np.zeros_like(x)
    for q, k, v, o in zip(query, key, value, out, strict=True):
        result += _attend(x @ q, x @ k, x @ v, places, 0.0, layer)[0] @ o
    return result


def _buckets(query: Array, rotation: Array, given: Any) -> Array:
    """The bucket of every token in one round; `rotation` is `[d_attention_key, buckets / 2]`."""
    factors = [given] if isinstance(given, int) else list(given)
    buckets, start, weight = np.zeros(len(query), int), 0, 1
    for factor in factors:
        turned = query @ rotation[:, start : start + factor // 2]
        buckets += weight * np.concatenate([turned, -turned], axis=1).argmax(1)
        start, weight = start + factor // 2, weight * factor
    return buckets


def _lsh(layer: Mapping[str, Any], x: Array, rest: Any, rotations: Array) -> Array:
    query, value, out = next(rest), next(rest), next(rest)
    result = np.zeros_like(x)
    for w_q, w_v, w_o, turn in zip(query, value, out, rotations, strict=True):
        q, v = x @ w_q, x @ w_v
        key = q / np.sqrt((q**2).mean(1, keepdims=True) + 1e-6)
        rounds = [
            np.argsort(_buckets(q, turn[:, one], layer["n_buckets"]), kind="stable")
            for one in range(layer["n_hashes"])
        ]
        order = np.concatenate(rounds)
        attended, sums = _attend(q[order], key[order], v[order], order, 1e5, layer)
        outputs = np.zeros((layer["n_hashes"], len(x), v.shape[1]))
        totals = np.zeros((layer["n_hashes"], len(x)), np.float32)
        for one, placed in enumerate(rounds):
            part = slice(one * len(x), (one + 1) * len(x))
            outputs[one, placed], totals[one, placed] = attended[part], sums[part]
        shares = np.exp(totals - np.logaddexp.reduce(totals, axis=0))
        result += (outputs * shares[:, :, None]).sum(0) @ w_o
    return result
