"""One artifact in every runtime: all give the same numbers, also from several threads at once."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reformer_export import to_aoti
from reformer_export.artifact import Artifact
from reformer_export.artifact.machine_code import check_machine, this_machine
from reformer_export.artifact.manifest import record_files, write_manifest
from reformer_export.errors import MissingDependencyError, RuntimeUnavailableError, UsageError
from reformer_export.runtimes import RUNTIMES, Runner, open_runner
from reformer_ops import native_status

from ...tools.artifact_fixtures import snapshot
from ...tools.model_fixtures import TINY, Fixtures, feeds, worst_error
from ...tools.threads import assert_threads_share

VOCABULARY = 258


@pytest.fixture(scope="module")
def runners(artifact: Artifact, portable: Artifact) -> Iterator[dict[str, Runner]]:
    """The runners of all runtimes that run in this process, by name."""
    here = [
        name
        for name, runtime in RUNTIMES.items()
        # test_openvino.py and test_executorch.py run the others.
        if runtime.module is not None and name not in ("openvino", "executorch")
    ]
    opened = {name: open_runner(artifact, runtime=name, threads=1) for name in here}
    opened["onnxruntime portable"] = open_runner(artifact, ops="portable", threads=1)
    opened["torchscript portable"] = open_runner(portable, threads=1)
    yield opened
    for runner in opened.values():
        runner.close()


def test_all_of_them_run(runners: dict[str, Runner], artifact: Artifact) -> None:
    assert artifact.formats == ("onnx", "decoder", "torchscript", "aoti")
    assert set(runners) == {
        "aoti",
        "onnxruntime",
        "onnxruntime portable",
        "torch",
        "torchscript",
        "torchscript portable",
    }
    operators = str(native_status("torch"))
    for name, runner in runners.items():
        assert runner.name == name.split()[0]
        assert runner.description.endswith("portable operators" if " " in name else operators)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 6, 7, 12, 13, 25, 64, 119, 120])
def test_every_pair_agrees(runners: dict[str, Runner], length: int) -> None:
    for batch in (1, 3):
        inputs = feeds(length, batch, vocab_size=VOCABULARY, seed=length)
        answers = {name: runner.run(inputs) for name, runner in runners.items()}
        for first, second in itertools.combinations(answers, 2):
            error = worst_error(answers[first], answers[second])
            assert error < 2e-6, f"{first} and {second} differ by {error} of their scale"


def test_native_torch_and_torchscript_are_the_same_bits(runners: dict[str, Runner]) -> None:
    inputs = feeds(29, 2, vocab_size=VOCABULARY)
    first, second = (runners[name].run(inputs) for name in ("torch", "torchscript"))
    assert np.array_equal(first["logits"], second["logits"])


@pytest.mark.parametrize(
    "name", ["onnxruntime", "onnxruntime portable", "torchscript", "torchscript portable", "aoti"]
)
def test_threads_share_a_session(runners: dict[str, Runner], name: str) -> None:
    cases = [feeds(length, 1 + length % 2, vocab_size=VOCABULARY) for length in (1, 5, 13, 64)]
    assert_threads_share(runners[name], cases)


def test_what_the_manifest_says_of_machine_code(artifact: Artifact) -> None:
    record = artifact.manifest.formats["aoti"]
    assert (record.file, record.ops) == ("model.pt2", "native")
    assert record.machine == this_machine()
    assert record.parity is not None
    assert record.parity["passed"] is True
    assert {row["length"] for row in record.parity["rows"]} >= {1, 4, 5, 6, 7, 12, 13, 29, 96}
    assert record.parity["decisions"] > 0


def test_machine_code_for_another_machine() -> None:
    here = this_machine()
    check_machine(here, "model.pt2")
    check_machine({}, "model.pt2")
    check_machine({"architecture": here["architecture"], "instructions": "default"}, "model.pt2")
    with pytest.raises(RuntimeUnavailableError, match="compiled for architecture z80; this"):
        check_machine({"architecture": "z80"}, "model.pt2")
    with pytest.raises(RuntimeUnavailableError, match="compiled for instructions sve256; this"):
        check_machine({"instructions": "sve256"}, "model.pt2")


@pytest.mark.parametrize("content", [b"", b"no package", None], ids=["empty", "text", "cut"])
def test_what_is_no_package(artifact: Artifact, tmp_path: Path, content: bytes | None) -> None:
    """The manifest matches the invalid file."""
    folder = shutil.copytree(artifact.path, tmp_path / "artifact")
    path = folder / "model.pt2"
    path.write_bytes(path.read_bytes()[:-3000] if content is None else content)
    write_manifest(folder, dataclasses.replace(artifact.manifest, files=record_files(folder)))
    with pytest.raises(RuntimeUnavailableError, match=r"cannot load .*model\.pt2") as caught:
        open_runner(folder, runtime="aoti")
    assert "\n" not in str(caught.value)


def test_without_a_compiler(source: Path, tmp_path: Path, artifact: Artifact) -> None:
    from torch._inductor import config, cpp_builder

    cpp_builder.cpp_compiler_search.cache_clear()
    before = snapshot(artifact.path)
    missing = pytest.raises(MissingDependencyError, match=r"apt install g\+\+, or name one in CXX")
    try:
        with config.patch({"cpp.cxx": (None, "no-such-compiler")}), missing:
            to_aoti(source, tmp_path / "out")
    finally:
        cpp_builder.cpp_compiler_search.cache_clear()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match=r"exists: .* replace its aoti"):
        to_aoti(source, artifact.path)
    assert snapshot(artifact.path) == before


def test_options_of_machine_code(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown instruction set 'mmx'"):
        to_aoti(source, tmp_path / "out", isa="mmx")
    with pytest.raises(UsageError, match="unknown ops 'auto'"):
        to_aoti(source, tmp_path / "out", ops="auto")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "config"),
    [
        ({"ops": "portable"}, {}),
        ({"ops": "portable", "isa": "avx2"}, {"attn_layers": ["local"]}),
        ({"dtype": "fp16"}, {}),
        ({"task": "text-classification"}, {"is_decoder": False, "num_hashes": 3}),
    ],
    ids=["portable", "avx2", "fp16", "classification"],
)
def test_machine_code_in_other_ways(
    fixtures: Fixtures, tmp_path: Path, options: dict[str, Any], config: dict[str, Any]
) -> None:
    """Each export verifies itself, also against Transformers if possible."""
    task = options.get("task", "text-generation")
    if options.get("isa") == "avx2" and this_machine()["instructions"] not in ("avx2", "avx512"):
        pytest.skip("this machine has no AVX2")
    made = to_aoti(fixtures.checkpoint(task, TINY | config), tmp_path / "out", **options)
    record = made.manifest.formats["aoti"]
    assert record.ops == options.get("ops", "native")
    assert record.parity is not None
    assert record.parity["passed"] is True


@pytest.mark.slow
def test_a_thousand_runs_take_no_more_memory(runners: dict[str, Runner]) -> None:
    """Runs of changing lengths, after enough runs to fill pools and caches."""
    page = 4096
    lengths = (1, 5, 13, 64, 120)
    cases = [feeds(length, 2, vocab_size=VOCABULARY) for length in lengths]

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    for name, runner in runners.items():
        for inputs in cases * 20:
            runner.run(inputs)
        before = resident()
        for inputs in cases * 200:
            runner.run(inputs)
        grown = resident() - before
        # One run of each length has 0.4 MB of logits, so runs that kept theirs would take more.
        assert grown < 4 * 2**20, f"{name} grew by {grown / 2**20:.1f} MiB"
