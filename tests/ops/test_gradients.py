"""The gradients of the attention operators: numbers, bits, saved tensors, refused arguments."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch._dynamo.backends.common import aot_autograd
from torch.library import opcheck

from reformer_ops import native_status
from reformer_ops.chunk_attention.cases import make_case as make_chunk_attention
from reformer_ops.core.cases import Case
from reformer_ops.core.errors import OpError
from reformer_ops.core.spec import OpSpec
from reformer_ops.core.torch_library import PORTABLE, decomposed
from reformer_ops.sorted_chunk_attention.cases import make_case as make_sorted_chunk_attention

from ..tools.operator_calls import Calls
from . import strategies, tolerances
from .examples import EXAMPLES
from .gradient_backends import BACKENDS, Backend
from .gradients import (
    ATTENTIONS,
    CASES,
    DROPOUT,
    Expected,
    bits,
    check,
    differentiate,
    expected,
    float_inputs,
    numeric_derivatives_agree,
    operator,
    plain,
    python_function,
    upstream,
    with_dropout,
)
from .test_native_library import python
from .test_native_results import LARGE
from .tolerances import torch_arguments
from .torch_process import call_in

by_attention = pytest.mark.parametrize("op", ATTENTIONS, ids=lambda op: op.name)
few = settings(max_examples=25, suppress_health_check=[HealthCheck.filter_too_much])

PORTABLE_PROCESS = (("REFORMER_OPS", "portable"),)

SMALL = {"batch": 1, "heads": 2, "head_dim": 3, "seed": 5}
SMALL_CASES: list[tuple[str, Case]] = [
    *(
        ("ChunkAttention", make_chunk_attention(**SMALL, **chunks))
        for chunks in (
            {"length": 6, "chunk_length": 2},
            {"length": 6, "chunk_length": 3, "before": 0, "after": 1, "causal": False},
            {"length": 3, "chunk_length": 4},
            {"length": 4, "chunk_length": 4, "causal": False, "mask": "holes"},
            {"length": 4, "chunk_length": 2, "before": 2, "after": 1, "causal": False},
            {"length": 8, "chunk_length": 2, "mask": "holes"},
        )
    ),
    *(
        (
            "SortedChunkAttention",
            make_sorted_chunk_attention(**SMALL, num_buckets=3, **chunks),
        )
        for chunks in (
            {"length": 6, "chunk_length": 2, "num_hashes": 1},
            {"length": 6, "chunk_length": 3, "num_hashes": 3},
            {"length": 6, "chunk_length": 2, "num_hashes": 2, "after": 1, "causal": False},
            {"length": 3, "chunk_length": 4, "num_hashes": 2},
            {"length": 4, "chunk_length": 4, "num_hashes": 1, "causal": False, "mask": "holes"},
            {"length": 4, "chunk_length": 2, "num_hashes": 1, "before": 2, "causal": False},
            {"length": 8, "chunk_length": 2, "num_hashes": 2, "mask": "holes"},
        )
    ),
]


# -- the numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "case"),
    [
        *(pytest.param(n, c, id=f"{n}-{c.name}") for n, c in SMALL_CASES),
        *(
            pytest.param(n, with_dropout(c, DROPOUT), id=f"{n}-{c.name}-dropout")
            for n, c in SMALL_CASES
        ),
    ],
)
def test_numeric_derivatives(name: str, case: Case) -> None:
    """In fp64, which the portable operators accept for this purpose."""
    function = f"{numeric_derivatives_agree.__module__}:{numeric_derivatives_agree.__name__}"
    assert call_in(PORTABLE_PROCESS, function, name, case)


@cache
def prepared(op: OpSpec, number: int, dtype: str, dropout: bool) -> tuple[Case, Expected]:
    """A case in the model's type and its expected results, made once for all backends."""
    case = tolerances.exact_in(tolerances.cases(op)[number], op, dtype)
    if dropout:
        case = with_dropout(case, DROPOUT)
    return case, expected(op, case, dtype)


def calls() -> Iterator[Any]:
    """Every case on every backend in every type; `make test` skips two thirds for half types."""
    for backend in BACKENDS:
        for place, dtype in enumerate(backend.dtypes):
            for count, (op, number) in enumerate(CASES):
                late = dtype != "float32" and (count + place) % 3
                late = late or (backend.slow and (dtype != "float32" or count % 12))
                name = f"{backend}-{dtype}-{op.name}-{tolerances.cases(op)[number].name}"
                marks = [pytest.mark.slow] if late else []
                yield pytest.param(backend, dtype, op, number, False, id=name, marks=marks)
                if dtype == "float32":
                    name = f"{name}-dropout"
                    yield pytest.param(backend, dtype, op, number, True, id=name, marks=marks)


@pytest.mark.parametrize(("backend", "dtype", "op", "number", "dropout"), list(calls()))
def test_the_law(backend: Backend, dtype: str, op: OpSpec, number: int, dropout: bool) -> None:
    case, wanted = prepared(op, number, dtype, dropout)
    check(op, wanted, backend.run(op.name, case, dtype))


@by_attention
@given(data=st.data())
@few
def test_random_cases(op: OpSpec, data: st.DataObject) -> None:
    case = data.draw(strategies.CASES[op.name])
    if data.draw(st.booleans()):
        case = with_dropout(case, data.draw(st.sampled_from((0.05, 0.5, 0.9))))
    wanted = expected(op, case, "float32")
    for backend in BACKENDS:
        if backend.slow:
            continue
        check(op, wanted, backend.run(op.name, case, "float32"))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
def test_chunks_of_any_size_against_the_kernels_blocks(count: int) -> None:
    """The kernels process queries and keys in blocks of 64."""
    for causal in (True, False):
        local = make_chunk_attention(
            batch=1, length=2 * count, heads=1, head_dim=17, chunk_length=count, causal=causal
        )
        hashed = make_sorted_chunk_attention(
            batch=1,
            length=2 * count,
            heads=1,
            head_dim=17,
            num_hashes=2,
            num_buckets=4,
            chunk_length=count,
            causal=causal,
        )
        for op, case in zip(ATTENTIONS, (hashed, local), strict=True):
            for taken in (case, with_dropout(case, DROPOUT)):
                found = BACKENDS[0].run(op.name, taken, "float32")
                check(op, expected(op, taken, "float32"), found)


@by_attention
def test_only_what_is_wanted(op: OpSpec) -> None:
    case = EXAMPLES[op.name]
    every = dict(
        zip(float_inputs(op), differentiate(operator(op), op, case, "float32"), strict=True)
    )
    for name, gradient in every.items():
        (alone,) = differentiate(operator(op), op, case, "float32", [name])
        assert torch.equal(alone, gradient)


def split_arguments(
    op: OpSpec, case: Case, dtype: str = "float32"
) -> tuple[list[torch.Tensor], list[Any]]:
    given = torch_arguments(op, case, dtype)
    return given[: len(op.inputs)], given[len(op.inputs) :]


# -- the bits -------------------------------------------------------------------------------------


@by_attention
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_number_of_threads_changes_nothing(op: OpSpec, dtype: str, torch_threads: None) -> None:
    assert native_status("torch").available
    for case in (LARGE[op.name], with_dropout(LARGE[op.name], DROPOUT)):
        results = set()
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            results.add(bits(op, case, dtype))
        assert len(results) == 1


@by_attention
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_are_computed_in_fp32_and_rounded_once(op: OpSpec, dtype: str) -> None:
    case = with_dropout(tolerances.exact_in(EXAMPLES[op.name], op, dtype), DROPOUT)
    tensors, attributes = split_arguments(op.with_lse, case, dtype)
    output, lse = operator(op.with_lse)(*tensors, *attributes)
    gradient = upstream(case, dtype)
    found = operator(op.backward)(*tensors, output, lse, gradient, *attributes)
    wide = [t.float() if t.is_floating_point() else t for t in (*tensors, output, lse, gradient)]
    for narrow, exact in zip(found, operator(op.backward)(*wide, *attributes), strict=True):
        assert torch.equal(narrow, exact.to(narrow.dtype))


# -- as part of torch -----------------------------------------------------------------------------


@by_attention
def test_which_operators_run(op: OpSpec) -> None:
    given = torch_arguments(op, EXAMPLES[op.name], "float32")
    with Calls() as calls:
        operator(op)(*given)
        given[0].requires_grad_()
        with torch.no_grad():
            operator(op)(*given)
    assert calls.names == [op.torch_name] * 2
    with Calls() as calls:
        operator(op)(*given).sum().backward()
    assert calls.names == [op.with_lse.torch_name, op.backward.torch_name]


@by_attention
def test_nothing_as_large_as_scores_is_kept(op: OpSpec) -> None:
    """Only the inputs, the output, the logsumexp and the seed are kept."""
    given = torch_arguments(op, LARGE[op.name], "float32")
    tensors = given[: len(op.inputs)]
    for tensor in tensors:
        tensor.requires_grad_(tensor.is_floating_point())
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = operator(op)(*given)
    batch, length, heads, _ = output.shape
    lse, seed = torch.Size([batch, heads, length]), torch.Size([])
    shapes = [t.shape for t in (*tensors, output)] + [lse, seed]
    assert sorted(t.shape for t in kept) == sorted(shapes)


@by_attention
def test_twice_from_one_graph(op: OpSpec) -> None:
    """A reversible layer does this: it builds a graph of its own inside a backward pass."""
    case = EXAMPLES[op.name]
    given = torch_arguments(op, case, "float32")
    leaves = [given[place].requires_grad_() for place in range(len(float_inputs(op)))]
    with torch.no_grad(), torch.enable_grad():
        output = operator(op)(*given)
        first = torch.autograd.grad(output, leaves, upstream(case, "float32"), retain_graph=True)
        again = torch.autograd.grad(output, leaves, upstream(case, "float32"))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@by_attention
def test_autocast_changes_nothing(op: OpSpec) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        found = differentiate(operator(op), op, EXAMPLES[op.name], "float32")
    wanted = differentiate(operator(op), op, EXAMPLES[op.name], "float32")
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@by_attention
def test_decomposed_operators_have_gradients_too(op: OpSpec) -> None:
    def run(*arguments: Any) -> torch.Tensor:
        with decomposed():
            result: torch.Tensor = PORTABLE[op.torch_name](*arguments)
        return result

    found = differentiate(run, op, EXAMPLES[op.name], "float32")
    wanted = differentiate(operator(op), op, EXAMPLES[op.name], "float32")
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@by_attention
def test_compiled(op: OpSpec) -> None:
    """The forward graph has one node, the backward graph has one, and the graph does not break."""
    seen: dict[str, list[Any]] = {}

    def compiler(which: str) -> Callable[..., Any]:
        def compile_graph(graph: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
            seen[which] = [node.target for node in graph.graph.nodes]
            return make_boxed_func(graph.forward)

        return compile_graph

    backend = aot_autograd(fw_compiler=compiler("forward"), bw_compiler=compiler("backward"))
    case = EXAMPLES[op.name]
    for function in (operator(op), python_function(op, case, dropout=DROPOUT)):

        def run(*arguments: Any, function: Callable[..., torch.Tensor] = function) -> torch.Tensor:
            return function(*arguments) * 2

        torch._dynamo.reset()
        compiled = torch.compile(run, backend=backend, fullgraph=True)
        torch.manual_seed(0)
        found = differentiate(compiled, op, case, "float32")
        torch.manual_seed(0)
        wanted = differentiate(run, op, case, "float32")
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)
        assert seen["forward"].count(operator(op.with_lse)) == 1
        assert seen["backward"].count(operator(op.backward)) == 1


@by_attention
def test_traces_hold_the_operator_itself(op: OpSpec) -> None:
    """Also if gradients are enabled while the trace is recorded."""
    case = EXAMPLES[op.name]
    given = torch_arguments(op, case, "float32")
    tensors, attributes = tuple(given[: len(op.inputs)]), given[len(op.inputs) :]
    tensors[0].requires_grad_()

    class Module(torch.nn.Module):
        def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = operator(op)(*tensors, *attributes)
            return result

    program = torch.export.export(Module(), tensors)
    assert [n.target for n in program.graph.nodes].count(operator(op)) == 1
    graph = torch.jit.trace(Module(), tensors).graph
    kinds = [node.kind() for node in graph.nodes()]
    assert [kind for kind in kinds if kind.startswith("reformer::")] == [
        f"reformer::{op.torch_name}"
    ]


@by_attention
def test_opcheck(op: OpSpec) -> None:
    case = with_dropout(EXAMPLES[op.name], DROPOUT)
    tensors, attributes = split_arguments(op.with_lse, case)
    opcheck(operator(op.with_lse), (*tensors, *attributes))
    output, lse = operator(op.with_lse)(*tensors, *attributes)
    gradient = upstream(case, "float32")
    opcheck(operator(op.backward), (*tensors, output, lse, gradient, *attributes))


# -- what is refused ------------------------------------------------------------------------------


@by_attention
def test_second_derivatives_are_refused(op: OpSpec) -> None:
    given = torch_arguments(op, EXAMPLES[op.name], "float32")
    given[0].requires_grad_()
    output = operator(op)(*given)
    (gradient,) = torch.autograd.grad(output.square().sum(), given[0], create_graph=True)
    with pytest.raises(OpError, match=f"{op.torch_name} can be differentiated once, not twice"):
        gradient.sum().backward()


REFUSED = [
    ("output", lambda t: t[:, :8], r"takes output .* with length = 12 as in"),
    ("output", lambda t: t.half(), r"takes float32, .* for output"),
    ("lse", lambda t: t[..., None], r"takes lse as \[batch, heads, length\]; got shape"),
    ("lse", lambda t: t.half(), r"takes float32 for lse"),
    ("gradient", lambda t: t[..., :2], r"takes gradient .* with head_dim = 5 as in"),
    ("gradient", lambda t: t.bfloat16(), r"takes float32, .* for gradient"),
    ("mask", lambda t: t.float(), r"takes bool for mask"),
    ("seed", lambda t: t[None], r"takes seed as \[\]; got shape \[1\]"),
    ("seed", lambda t: t.int(), r"takes int64 for seed"),
    ("dropout", lambda p: 1.0, r"takes dropout >= 0 and < 1; got 1"),
    ("chunk_length", lambda n: 0, r"takes chunk_length >= 1; got 0"),
    ("chunk_length", lambda n: 5, r"takes a length of at most chunk_length or a multiple of it"),
    ("num_chunks_after", lambda n: -1, r"takes num_chunks_after >= 0; got -1"),
]


@by_attention
@pytest.mark.parametrize(("name", "change", "message"), REFUSED)
def test_what_the_backward_operators_refuse(
    op: OpSpec, name: str, change: Callable[[Any], Any], message: str
) -> None:
    case = with_dropout(EXAMPLES[op.name], DROPOUT)
    given = torch_arguments(op.with_lse, case, "float32")
    tensors = zip(op.with_lse.inputs, given, strict=False)
    outputs = zip(op.with_lse.outputs, operator(op.with_lse)(*given), strict=True)
    arguments = {operand.name: tensor for operand, tensor in (*tensors, *outputs)}
    arguments |= {"gradient": upstream(case, "float32"), **case.attributes}
    arguments[name] = change(arguments[name])
    with pytest.raises(ValueError, match=f"{op.backward.torch_name} {message}"):
        operator(op.backward)(*arguments.values())
    with pytest.raises(OpError, match=f"^{op.backward.torch_name} {message}"):
        PORTABLE[op.backward.torch_name](*arguments.values())


def test_buckets_out_of_range() -> None:
    op = ATTENTIONS[0]
    case = with_dropout(EXAMPLES[op.name], DROPOUT)
    tensors, attributes = split_arguments(op.with_lse, case)
    outputs = operator(op.with_lse)(*tensors, *attributes)
    tensors[2] = tensors[2].clone()  # the original shares memory with the example
    tensors[2][-1, -1, -1, -1] = -1
    with pytest.raises(ValueError, match=r"_backward takes buckets of 0 to num_buckets"):
        operator(op.backward)(*tensors, *outputs, upstream(case, "float32"), *attributes)


def test_a_library_from_before_there_were_gradients(tmp_path: Path) -> None:
    """The library loads but lacks operators, like an outdated build of ours."""
    source, library = tmp_path / "old.c", tmp_path / "libreformer_ops_torch.so"
    source.write_text(
        "#include <stdio.h>\n"
        'int reformer_ops_isa(char* text, size_t size) { snprintf(text, size, "old"); return 0; }\n'
    )
    command = ["cc", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    done = python("import reformer_ops.torch_ops", REFORMER_OPS_LIBRARY_DIR=str(tmp_path))
    assert done.returncode == 1
    assert (
        f"NativeLibraryError: the native library that is loaded, {library}, has no" in done.stderr
    )
    assert "which this version of reformer_ops has: install again" in done.stderr


@by_attention
def test_no_float64_where_kernels_are_native(op: OpSpec) -> None:
    assert native_status("torch").available
    case = replace(EXAMPLES[op.name])
    with pytest.raises(ValueError, match="takes float32, float16 or bfloat16"):
        differentiate(operator(op), op, case, "float64")
    wanted = differentiate(plain(op), op, case, "float64")
    assert all(gradient.dtype == torch.float64 for gradient in wanted)
