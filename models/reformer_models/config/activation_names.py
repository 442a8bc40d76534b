"""The names of the activation functions, in a module that does not need torch."""

from __future__ import annotations

from typing import Final

ACTIVATION_NAMES: Final = frozenset(
    {
        "gelu",
        "gelu_10",
        "gelu_accurate",
        "gelu_fast",
        "gelu_new",
        "gelu_python",
        "gelu_python_tanh",
        "gelu_pytorch_tanh",
        "hardswish",
        "laplace",
        "leaky_relu",
        "linear",
        "mish",
        "quick_gelu",
        "relu",
        "relu2",
        "relu6",
        "sigmoid",
        "silu",
        "sqrtsoftplus",
        "swish",
        "tanh",
    }
)
"""Every `hidden_act` of Transformers' ACT2FN that has no weights of its own.

`prelu` and `xielu` have weights, which the feed-forward layer of a Reformer cannot store.
`activations.py` defines one function for each of these names, under that name.
"""
