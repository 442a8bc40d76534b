"""Eight threads and several GPUs."""

from __future__ import annotations

import ctypes
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from .building import run_program
from .kernel_files import ATTRIBUTES, kernels_for, launch, program, write
from .process import beside_stand_in, stand_in
from .sessions import Array, Node, attention_inputs, model_of, new_library, open_session, run
from .stand_in import Launched


def for_gpus(folder: Path) -> Path:
    """A kernel file for sm_80 and sm_90, in float16, for chunks of 8 and of 16."""
    programs = []
    for chunk_length in (8, 16):
        attributes = {**ATTRIBUTES, "chunk_length": chunk_length}
        made, images = kernels_for("sm80", "sm90a", dtype="float16", attributes=attributes)
        programs += made
    return write(folder / "model.cuda", programs, images)


def check_gpus(folder: Path, sanitize: str = "") -> None:
    found = run_program("threads", for_gpus(folder), sanitize=sanitize)
    assert found == "3 images for 3 GPUs\n480 launches, 0 wrong, 0 images, 0 contexts\n"


def test_eight_threads_on_three_gpus(tmp_path: Path) -> None:
    """Loading, running and unloading in parallel: every thread gets its own launches."""
    check_gpus(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("sanitize", ["thread", "address,undefined"])
def test_eight_threads_have_no_finding(sanitize: str, tmp_path: Path) -> None:
    check_gpus(tmp_path, sanitize)


@beside_stand_in
def test_two_sessions_of_eight_threads(tmp_path: Path) -> None:
    """Each launch is in the context of its own thread, with the buffers of its own run."""
    driver = stand_in(80)
    images = kernels_for("sm80")[1]
    first = program(launch("sm80"), launch("sm80", threads=32))
    other = program(launch("sm80", threads=96), attributes={**ATTRIBUTES, "chunk_length": 16})
    kernels = write(tmp_path / "model.cuda", [first, other], images)
    library = new_library()
    attributes = {**ATTRIBUTES, "chunk_length": 16}
    sessions = [
        open_session(model_of(node), kernels, library)
        for node in (Node(), Node(attributes=attributes))
    ]

    def copy_query(launch: Launched) -> None:
        """Acts as the kernel. A second launch overwrites the whole output of the first."""
        length = launch.number(4)
        size = 2 * length * 2 * 4
        query, output = (
            np.ctypeslib.as_array((ctypes.c_float * size).from_address(launch.pointer(number)))
            for number in (0, 5)
        )
        output[:] = query + launch.threads

    driver.on_launch(copy_query)
    wrong: list[int] = []

    def work(number: int) -> None:
        for turn in range(20):
            inputs = attention_inputs(length=16 * (1 + number + 8 * turn))
            which = (number + turn) % 2
            found: Array = run(sessions[which], inputs)[0]
            if not (found == inputs["query"] + np.float32((32, 96)[which])).all():
                wrong.append(number)

    threads = [Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert driver.calls().count("cuLaunchKernel") == 8 * 10 * 3
    assert driver.contexts == 0
