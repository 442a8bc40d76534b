"""A whole artifact in an ONNX Runtime session, with the same launches as on a GPU."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import onnx
import pytest

pytest.importorskip("triton", reason="Triton is not installed: it is made for Linux")

from reformer_export.exporters.cuda.export import KERNELS, add_cuda_kernels
from reformer_ops.triton import compile as triton_compile

from ..tools.model_fixtures import Fixtures, feeds
from .emulation import compile_launch
from .process import beside_stand_in, stand_in
from .sessions import open_session
from .stand_in import Launched


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_every_node_launches_what_it_needs(
    dtype: str, fixtures: Fixtures, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "artifact"
    shutil.copytree(fixtures.artifact("question-answering", dtype=dtype).path, folder)
    monkeypatch.setattr(triton_compile, "compile_launch", compile_launch)
    add_cuda_kernels(folder, targets=["sm80"])
    run_artifact(folder)


@beside_stand_in
def run_artifact(folder: Path) -> None:
    """A local and an LSH layer with three rounds. Nothing computes, so outputs are meaningless."""
    driver = stand_in(86)
    found: list[Launched] = []
    driver.on_launch(found.append)
    session = open_session(onnx.load(folder / "model.onnx"), folder / KERNELS)
    session.run(None, feeds(64, 2, vocab_size=258))
    assert Counter(launch.entry for launch in found) == {
        "add_norm_kernel": 3,
        "chunk_attention_kernel": 1,
        "lsh_bucket_kernel": 1,
        "sort_pass_kernel": 1,
        "attend_rounds_kernel": 1,
        "combine_rounds_kernel": 1,
    }
    found.clear()
    session.run(None, feeds(4, 1, vocab_size=258))  # a sequence of one chunk is not sorted
    assert "sort_pass_kernel" not in {launch.entry for launch in found}
