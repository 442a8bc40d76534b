"""The native kernels drop what Python drops, for every instruction set of this machine."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest
import torch

from .isa_libraries import isa_libraries
from .test_dropout import FIRSTS, mask

ROOT = Path(__file__).resolve().parents[2]
FLAGS = {"avx2": ["-march=x86-64-v3"], "avx512": ["-march=x86-64-v4"]}


@pytest.fixture(scope="module", params=list(isa_libraries()))
def compiled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ctypes.CDLL:
    """`dropout_masks.cpp`, compiled for an instruction set that this machine has."""
    library = tmp_path_factory.mktemp(request.param) / "dropout_masks.so"
    command = ["c++", "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-psabi"]
    command += [*FLAGS.get(request.param, []), "-DREFORMER_ISA=isa", "-shared", "-fPIC"]
    command += ["-I", str(ROOT / "custom_ops/csrc"), "-o", str(library)]
    command.append(str(Path(__file__).with_name("dropout_masks.cpp")))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(library))


@pytest.mark.parametrize("seed", [0, 12345, -1])
@pytest.mark.parametrize("first", FIRSTS)
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1 - 2**-53])
def test_the_same_in_the_kernels(
    compiled: ctypes.CDLL, seed: int, first: int, share: float
) -> None:
    size = 192
    found = [torch.empty(size, size, dtype=torch.bool) for _ in range(3)]
    compiled.dropout_masks(
        ctypes.c_int64(seed),
        ctypes.c_double(share),
        ctypes.c_uint64(first),
        ctypes.c_uint32(first),
        ctypes.c_int64(size),
        *(ctypes.c_void_p(outcome.data_ptr()) for outcome in found),
    )
    wanted = mask(seed, share, size, row=first, column=first)
    for outcome in found:
        assert torch.equal(outcome, wanted)
