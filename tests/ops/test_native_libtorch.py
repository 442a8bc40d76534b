"""A C++ program with libtorch and no Python loads the library and has the operators."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from reformer_ops import library_path
from reformer_ops.core.spec import DOMAIN
from reformer_ops.registry import OPS

PROGRAM = r"""
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <dlfcn.h>

#include <iostream>

int main(int count, char** arguments) {
    if (dlopen(arguments[1], RTLD_NOW) == nullptr) {
        std::cerr << dlerror() << "\n";
        return 1;
    }
    auto& dispatcher = c10::Dispatcher::singleton();
    for (int i = 2; i < count; ++i)
        std::cout << dispatcher.findSchemaOrThrow(arguments[i], "").schema() << "\n";
    const auto op = dispatcher.findSchemaOrThrow("reformer::lsh_bucket", "");
    for (int factor : {4, 5}) {
        torch::jit::Stack stack{at::ones({1, 8, 1, 3}), at::ones({1, 3, 1, 2}),
                                at::ones({1, 8}, at::kBool), c10::List<int64_t>({factor})};
        try {
            op.callBoxed(stack);
            std::cout << stack[0].toTensor().sum().item<int64_t>() << "\n";
        } catch (const std::exception& error) {
            std::cout << error.what() << "\n";
        }
    }
}
"""


@pytest.mark.slow
def test_a_program_without_python(tmp_path: Path) -> None:
    (tmp_path / "program.cpp").write_text(PROGRAM)
    root = Path(torch.__file__).parent
    command = ["c++", "-std=c++20", "-O0", str(tmp_path / "program.cpp")]
    command += [
        "-isystem",
        str(root / "include"),
        f"-L{root / 'lib'}",
        f"-Wl,-rpath,{root / 'lib'}",
    ]
    command += ["-Wl,--no-as-needed", "-ltorch_cpu", "-lc10", "-ldl"]
    command += ["-o", str(tmp_path / "program")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = [f"{DOMAIN}::{op.torch_name}" for op in OPS]
    done = subprocess.run(
        [str(tmp_path / "program"), str(library_path("torch")), *names],
        capture_output=True,
        text=True,
        check=False,
    )
    declared = [str(torch._C.parse_schema(f"{DOMAIN}::{op.torch_schema}")) for op in OPS]
    refusal = "lsh_bucket takes one or more factors, even and >= 2; got [5]"
    assert done.stdout.splitlines() == [*declared, "0", refusal], done.stderr
