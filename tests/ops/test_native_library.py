"""The files of the native libraries: their location, their symbols, and programs that load them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import reformer_ops
import reformer_ops.torch_ops  # registers torch.ops.reformer
from reformer_ops import library_path, native_status
from reformer_ops.core import native
from reformer_ops.core.errors import NativeLibraryError, OpError
from reformer_ops.core.spec import DOMAIN, OpSpec
from reformer_ops.registry import OPS

from .examples import EXAMPLES
from .isa_libraries import INT8_ISAS, ISAS
from .onnx_models import make_model, make_session
from .tolerances import torch_arguments

KINDS = ("ort", "torch")
by_op = pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)


@pytest.fixture
def no_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(native.FOLDER_VARIABLE, str(tmp_path))
    return tmp_path


def python(code: str, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new process, with the import path of this process unless `-I` is a flag."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("REFORMER_")}
    inherited |= {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def folder() -> dict[str, str]:
    """Environment variables with which a process finds the same libraries as this one."""
    return {native.FOLDER_VARIABLE: str(library_path("ort").parent)}


# -- where they are -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_paths(kind: native.Kind) -> None:
    path = library_path(kind)
    assert path.is_absolute()
    assert path.name == f"libreformer_ops_{kind}.so"
    assert native_status(kind).path == path


def test_only_two_kinds() -> None:
    with pytest.raises(ValueError, match="'onnx': ask for one of torch, ort"):
        library_path("onnx")  # type: ignore[arg-type]


def test_no_library_is_told_with_the_remedy(no_libraries: Path) -> None:
    with pytest.raises(NativeLibraryError, match=f"no libreformer_ops_ort.so in {no_libraries}"):
        library_path("ort")


def test_libraries_are_looked_for_in_all_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editable install has its sources and its libraries in different folders."""
    monkeypatch.delenv(native.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(reformer_ops, "__path__", [str(tmp_path / "a"), str(tmp_path / "b")])
    with pytest.raises(NativeLibraryError, match=r"a/_native or .*b/_native: .*REFORMER_NATIVE=1"):
        library_path("torch")
    (tmp_path / "b/_native").mkdir(parents=True)
    (tmp_path / "b/_native/libreformer_ops_torch.so").touch()
    assert library_path("torch") == tmp_path / "b/_native/libreformer_ops_torch.so"


# -- what they export and need --------------------------------------------------------------------


def _lines(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def needed(path: Path) -> set[str]:
    dynamic = _lines("readelf", "--dynamic", "--wide", str(path))
    return {line.split("[")[1].rstrip("]") for line in dynamic if "(NEEDED)" in line}


@pytest.mark.parametrize(
    ("kind", "exported"), [("ort", "RegisterCustomOps"), ("torch", "reformer_ops_isa")]
)
def test_one_symbol_is_exported(kind: native.Kind, exported: str) -> None:
    lines = _lines("nm", "--dynamic", "--defined-only", str(library_path(kind)))
    assert [line.split()[-1] for line in lines] == [exported]


def test_the_onnxruntime_library_needs_libc_alone() -> None:
    assert {name.split(".")[0] for name in needed(library_path("ort"))} <= {
        "libc",
        "libm",
        "ld-linux-x86-64",
        "ld-linux-aarch64",
    }


def test_the_torch_library_takes_the_torch_that_is_loaded() -> None:
    path = library_path("torch")
    assert "libtorch_cpu.so" in needed(path)
    assert not {"libtorch.so", "libc10.so", "libtorch_python.so"} & needed(path)
    dynamic = _lines("readelf", "--dynamic", "--wide", str(path))
    assert not [line for line in dynamic if "RPATH" in line or "RUNPATH" in line]
    # The stable ABI is C: a C++ symbol of torch would tie our library to one release.
    undefined = _lines("nm", "--dynamic", "--undefined-only", "--demangle", str(path))
    assert not [line for line in undefined if "torch::" in line or "c10::" in line]


# -- who can load them ----------------------------------------------------------------------------


def test_someone_with_nothing_else_of_ours(tmp_path: Path) -> None:
    """A process that has only a model, the library and plain onnxruntime."""
    op = OPS[0]
    case = EXAMPLES[op.name]
    onnx.save(make_model(op, case.attributes, "float32", "node"), tmp_path / "model.onnx")
    np.savez(tmp_path / "inputs.npz", **case.inputs)
    done = python(
        f"""
import sys, numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.register_custom_ops_library({str(library_path("ort"))!r})
session = onnxruntime.InferenceSession({str(tmp_path / "model.onnx")!r}, options)
(output,) = session.run(None, dict(numpy.load({str(tmp_path / "inputs.npz")!r})))
numpy.save({str(tmp_path / "output.npy")!r}, output)
print([name for name in sys.modules if name.startswith("reformer")])
""",
        "-I",
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    tensors = torch_arguments(op, case, "float32")
    wanted = torch.ops.reformer.lsh_bucket(*tensors).numpy()
    assert np.array_equal(np.load(tmp_path / "output.npy"), wanted)


def test_torch_finds_the_schemas_of_the_specs() -> None:
    done = python(
        f"""
import torch
torch.ops.load_library({str(library_path("torch"))!r})
for name in {[op.torch_name for op in OPS]!r}:
    print(getattr(torch.ops.{DOMAIN}, name).default._schema)
""",
        "-I",
    )
    assert done.returncode == 0, done.stderr
    declared = [str(torch._C.parse_schema(f"{DOMAIN}::{op.torch_schema}")) for op in OPS]
    assert done.stdout.splitlines() == declared


@by_op
@pytest.mark.parametrize(("dtype", "named"), [("float32", "float"), ("float16", "float16")])
def test_onnxruntime_infers_types_and_shapes(op: OpSpec, dtype: str, named: str) -> None:
    """From the operator alone: the model declares no type for its output."""
    model = make_model(op, EXAMPLES[op.name].attributes, dtype, "node")
    (output,) = model.graph.output
    output.ClearField("type")
    session = make_session(model, library=library_path("ort"))
    (inferred,) = session.get_outputs()
    assert inferred.shape == list(op.outputs[0].axes)
    named = named if op.outputs[0].dtype == "float" else op.outputs[0].dtype
    assert inferred.type == f"tensor({named})"


def test_the_session_tells_the_instruction_set() -> None:
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library_path("ort")))
    isa = options.get_session_config_entry("reformer.isa")
    assert isa in ISAS + INT8_ISAS
    assert isa == native_status("ort").isa == native_status("torch").isa


# -- what is refused ------------------------------------------------------------------------------


def test_an_unknown_instruction_set_is_an_error_everywhere() -> None:
    done = python(
        """
import torch, onnxruntime, reformer_ops
for call in (
    lambda: reformer_ops.native_status("ort"),
    lambda: reformer_ops.native_status("torch"),
    lambda: onnxruntime.SessionOptions().register_custom_ops_library(
        str(reformer_ops.library_path("ort"))
    ),
):
    try:
        print("no error", call())
    except Exception as error:
        print(type(error).__name__, error)
""",
        REFORMER_FORCE_ISA="mmx",
        **folder(),
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert all("REFORMER_FORCE_ISA asks for mmx, which is unknown here: name" in x for x in lines)
    assert [line.split()[0] for line in lines[:2]] == ["OpError", "OpError"]


def _broken(op: OpSpec, **changes: Any) -> onnx.ModelProto:
    model = make_model(op, EXAMPLES[op.name].attributes | changes, "float32", "node")
    return model


@by_op
def test_a_node_without_its_attributes(op: OpSpec) -> None:
    model = _broken(op)
    name = op.attributes[0].name
    (node,) = model.graph.node
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend(kept)
    with pytest.raises(Exception, match=f"the attribute {name} is missing or has another type"):
        make_session(model, library=library_path("ort"))


@by_op
def test_a_session_survives_what_its_kernels_refuse(op: OpSpec) -> None:
    case = EXAMPLES[op.name]
    session = make_session(_broken(op), library=library_path("ort"))
    (before,) = session.run(None, case.inputs)
    mask = case.inputs["mask"]
    for wrong in (mask[:, :-1], mask[:1], mask[:0]):
        with pytest.raises(Exception, match=rf"{op.torch_name} takes mask as \[batch, length\]"):
            session.run(None, case.inputs | {"mask": wrong})
    (after,) = session.run(None, case.inputs)
    assert np.array_equal(before, after)


def test_buckets_out_of_range_come_as_an_error_from_the_threads() -> None:
    op = OPS[1]
    case = EXAMPLES[op.name]
    buckets = case.inputs["buckets"].copy()
    buckets[-1, -1, -1, -1] = case.attributes["num_buckets"] + 1  # type: ignore[operator]
    session = make_session(_broken(op), library=library_path("ort"), threads=3)
    with pytest.raises(Exception, match="takes buckets of 0 to num_buckets"):
        session.run(None, case.inputs | {"buckets": buckets})
    given = torch_arguments(op, case, "float32")
    with pytest.raises(ValueError, match="takes buckets of 0 to num_buckets"):
        torch.ops.reformer.sorted_chunk_attention(
            given[0], given[1], torch.from_numpy(buckets), *given[3:]
        )


# -- which operators run --------------------------------------------------------------------------


def registered(choice: native.Choice | None = None) -> native.NativeStatus:
    return native.register_with_onnxruntime(onnxruntime.SessionOptions(), choice)


def test_auto_tells_what_runs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    status = registered("auto")
    assert status.available
    assert caplog.messages == [f"ort runs native operators ({status.isa}) from {status.path}"]


def test_auto_without_a_library(no_libraries: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    status = registered("auto")
    assert not status.available
    assert str(status) == "portable operators"
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert caplog.messages[0].startswith("ort runs portable operators: there is no libreformer")


def test_auto_with_a_library_that_does_not_load(
    no_libraries: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (no_libraries / "libreformer_ops_ort.so").write_bytes(b"\x7fELF and no more")
    assert not registered("auto").available
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    with pytest.raises(NativeLibraryError, match=r"does not load .*: install again"):
        registered("native")


def test_native_insists(no_libraries: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NativeLibraryError, match=r"no libreformer_ops_ort\.so"):
        registered("native")
    monkeypatch.setenv(native.CHOICE_VARIABLE, "native")
    with pytest.raises(NativeLibraryError, match=r"no libreformer_ops_ort\.so"):
        registered()


def test_portable_registers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.CHOICE_VARIABLE, "portable")
    op = OPS[0]
    options = onnxruntime.SessionOptions()
    assert not native.register_with_onnxruntime(options).available
    model = make_model(op, EXAMPLES[op.name].attributes, "float32", "node")
    with pytest.raises(Exception, match="LshBucket"):
        onnxruntime.InferenceSession(model.SerializeToString(), options)


def test_a_choice_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.CHOICE_VARIABLE, "fast")
    with pytest.raises(OpError, match="REFORMER_OPS=fast: choose one of auto, native, portable"):
        native_status("ort")


@pytest.mark.parametrize(
    ("choice", "library", "expected"),
    [
        ("native", False, "NativeLibraryError: there is no libreformer_ops_torch.so"),
        ("auto", False, "CompositeExplicitAutograd False"),
        ("portable", True, "CompositeExplicitAutograd False"),
        ("native", True, "CPU True"),
    ],
)
def test_what_torch_runs(choice: str, library: bool, expected: str, tmp_path: Path) -> None:
    """The CPU has a kernel of its own or not; the operators are defined in both cases."""
    given = folder() if library else {native.FOLDER_VARIABLE: str(tmp_path)}
    done = python(
        """
import torch, reformer_ops.torch_ops
keys = [k for k in ("CPU", "CompositeExplicitAutograd")
        if torch._C._dispatch_has_kernel_for_dispatch_key("reformer::lsh_bucket", k)]
print(keys[0], reformer_ops.native_status("torch").available)
""",
        REFORMER_OPS=choice,
        **given,
    )
    assert expected in (done.stdout or done.stderr)


def test_portable_after_the_library_was_loaded_by_hand() -> None:
    done = python(
        "import torch, reformer_ops;"
        "torch.ops.load_library(reformer_ops.library_path('torch'));"
        "import reformer_ops.torch_ops",
        REFORMER_OPS="portable",
        **folder(),
    )
    assert "REFORMER_OPS=portable, but this process has loaded native operators" in done.stderr


def test_the_library_may_be_loaded_by_hand_after_python_has_defined_the_operators() -> None:
    done = python(
        "import torch, reformer_ops.torch_ops;"
        "torch.ops.load_library(reformer_ops.library_path('torch'));"
        "print(torch._C._dispatch_has_kernel_for_dispatch_key('reformer::lsh_bucket', 'CPU'))",
        REFORMER_OPS="portable",
        **folder(),
    )
    assert done.stdout == "True\n", done.stderr


def test_registering_twice_is_registering_once(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    for _ in range(2):
        options.register_custom_ops_library(str(library_path("onnxruntime")))
    assert options.get_session_config_entry("reformer.isa")
    options.add_session_config_entry(native.KERNELS_ENTRY, str(tmp_path / "other.cuda"))
    with pytest.raises(Exception, match=r"already, with other kernels: set reformer\.kernels"):
        options.register_custom_ops_library(str(library_path("ort")))


def test_session_options(monkeypatch: pytest.MonkeyPatch, no_libraries: Path) -> None:
    with pytest.raises(NativeLibraryError, match="there is no libreformer_ops_ort"):
        reformer_ops.session_options()
    monkeypatch.undo()
    options = reformer_ops.session_options(threads=1, kernels=None)
    assert options.get_session_config_entry("reformer.isa")
    assert (options.intra_op_num_threads, options.enable_mem_pattern) == (1, False)
