"""Machines without a driver, or with one that is too old."""

from __future__ import annotations

from ctypes.util import find_library
from pathlib import Path

import numpy as np
import pytest

from reformer_ops import library_path

from .building import build
from .kernel_files import kernels_for, write
from .process import in_new_process
from .sessions import Node, attention_inputs, failure, model_of, open_session, run
from .stand_in import StandIn

without_driver = pytest.mark.skipif(
    find_library("cuda") is not None, reason="this machine has a driver (libcuda.so.1)"
)


@without_driver
@in_new_process
def test_without_a_driver_there_is_no_session_on_a_gpu(tmp_path: Path) -> None:
    kernels = write(tmp_path / "model.cuda", *kernels_for("sm80"))
    for _ in range(2):
        message = failure(open_session, model_of(Node()), kernels)
        assert "the NVIDIA driver (libcuda.so.1) is not found on this machine" in message, message


@in_new_process
def test_a_session_on_the_cpu_asks_no_driver(tmp_path: Path) -> None:
    """With the library that users install, without and with kernels for GPUs."""
    kernels = write(tmp_path / "model.cuda", *kernels_for("sm80"))
    StandIn(build()).reset(80)  # from now on, a search would find a driver
    for path in (None, kernels):
        session = open_session(model_of(Node()), path, library_path("ort"))
        (found,) = run(session, attention_inputs())
        assert np.isfinite(found).all()
        assert found.any()
    assert StandIn(build()).log() == []


@in_new_process
def test_a_driver_from_before_libraries(tmp_path: Path) -> None:
    StandIn(build(), "old_driver").reset(80)
    kernels = write(tmp_path / "model.cuda", *kernels_for("sm80"))
    for _ in range(2):
        message = failure(open_session, model_of(Node()), kernels)
        assert "the NVIDIA driver has no cuLibraryLoadData" in message, message
        assert "install a driver for CUDA 12.0 or later" in message, message


@without_driver
@in_new_process
def test_a_driver_that_appears(tmp_path: Path) -> None:
    """A failed search for the driver is not remembered: a later session finds the driver."""
    kernels = write(tmp_path / "model.cuda", *kernels_for("sm80"))
    failure(open_session, model_of(Node()), kernels)
    driver = StandIn(build())
    driver.reset(80)
    run(open_session(model_of(Node()), kernels), attention_inputs())
    assert driver.calls()[-1] == "cuLibraryUnload"
