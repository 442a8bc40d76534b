"""A C++ program with libtorch and no Python gets the same numbers from model.pt and model.pt2."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from reformer_export.artifact import Artifact
from reformer_export.runtimes import open_runner
from reformer_ops import library_path

from ...tools.model_fixtures import worst_error

PROGRAM = r"""
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/script.h>

#include <cstdio>
#include <cstdlib>
#include <string>

// program LIBRARY MODEL LENGTH OUT: ids 0, 1, 2 ... in two rows, of which the second ends half way.
int main(int, char** arguments) {
    const std::string library = arguments[1], model = arguments[2];
    if (!library.empty() && dlopen(library.c_str(), RTLD_NOW) == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    const int64_t length = std::atol(arguments[3]);
    const auto ids = (torch::arange(2 * length) % 258).reshape({2, length});
    auto mask = torch::ones_like(ids);
    mask.index_put_({1, torch::indexing::Slice((length + 1) / 2)}, 0);
    torch::NoGradGuard guard;
    torch::Tensor logits;
    if (model.substr(model.size() - 3) == ".pt") {
        auto module = torch::jit::load(model);
        logits = module.forward({ids, mask}).toGenericDict().at("logits").toTensor();
    } else {
        torch::inductor::AOTIModelPackageLoader loader(model);
        logits = loader.run({ids, mask})[0];
    }
    logits = logits.contiguous();
    FILE* file = std::fopen(arguments[4], "wb");
    std::fwrite(logits.data_ptr<float>(), sizeof(float), logits.numel(), file);
    return std::fclose(file);
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "program.cpp").write_text(PROGRAM)
    root = Path(torch.__file__).parent
    command = ["c++", "-std=c++20", "-O0", str(folder / "program.cpp")]
    for include in ("include", "include/torch/csrc/api/include"):
        command += ["-isystem", str(root / include)]
    command += [f"-L{root / 'lib'}", f"-Wl,-rpath,{root / 'lib'}"]
    command += ["-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10", "-ldl"]
    command += ["-o", str(folder / "program")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "program"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchscript", "torchscript portable", "aoti"])
def test_a_program_without_python(
    program: Path, artifact: Artifact, portable: Artifact, tmp_path: Path, name: str
) -> None:
    held = portable if "portable" in name else artifact
    runtime = name.split()[0]
    library = "" if "portable" in name else str(library_path("torch"))
    runner = open_runner(held, runtime=runtime)
    for length in (1, 5, 13, 64, 120):
        out = tmp_path / "logits"
        done = subprocess.run(
            [str(program), library, str(held.format_path(runtime)), str(length), str(out)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        ids = (np.arange(2 * length) % 258).reshape(2, length)
        mask = np.ones_like(ids)
        mask[1, (length + 1) // 2 :] = 0
        expected = runner.run({"input_ids": ids, "attention_mask": mask})
        found = np.fromfile(out, np.float32).reshape(expected["logits"].shape)
        assert worst_error({"logits": found}, expected) < 1e-6
    runner.close()


@pytest.mark.slow
def test_without_the_library(program: Path, artifact: Artifact, tmp_path: Path) -> None:
    """libtorch names the operator that is missing."""
    arguments = [str(artifact.path / "model.pt"), "5", str(tmp_path / "logits")]
    done = subprocess.run(
        [str(program), "", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "reformer::" in done.stderr
