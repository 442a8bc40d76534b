"""Kernels are loaded and unloaded together with a session, never during a run."""

from __future__ import annotations

import os
from pathlib import Path

from .kernel_files import kernels_for, write
from .process import beside_stand_in, stand_in
from .sessions import Node, attention_inputs, model_of, new_library, open_session, run
from .stand_in import Launched

A_RUN = ["cuCtxPushCurrent", "cuLaunchKernel", "cuCtxPopCurrent"]


@beside_stand_in
def test_a_run_launches_and_does_nothing_else(tmp_path: Path) -> None:
    driver = stand_in(80)
    session = open_session(model_of(Node()), write(tmp_path / "model.cuda", *kernels_for("sm80")))
    before = driver.calls()
    assert "cuLaunchKernel" not in before
    assert before[-1] == "cuCtxPopCurrent"
    run(session, attention_inputs())
    run(session, attention_inputs(length=3))
    assert driver.calls()[len(before) :] == A_RUN + A_RUN


@beside_stand_in
def test_an_image_is_loaded_once_for_all_nodes_and_sessions(tmp_path: Path) -> None:
    driver = stand_in(80)
    kernels = write(tmp_path / "model.cuda", *kernels_for("sm80"))
    library = new_library()
    first = open_session(model_of(Node(), Node()), kernels, library)
    second = open_session(model_of(Node()), kernels, library)
    assert driver.calls().count("cuLibraryLoadData") == 1
    assert driver.calls().count("cuDevicePrimaryCtxRetain") == 1
    assert driver.images == 1
    inputs = attention_inputs() | attention_inputs(prefix="1.")
    run(first, inputs)
    del first
    assert "cuLibraryUnload" not in driver.calls()
    run(second, attention_inputs())
    del second
    assert driver.calls().count("cuLibraryUnload") == 1
    assert driver.images == 0


@beside_stand_in
def test_a_session_after_the_last_loads_anew_and_starts_no_driver(tmp_path: Path) -> None:
    """ONNX Runtime releases the library with its last session, but our library stays loaded."""
    driver = stand_in(80)
    kernels = write(tmp_path / "model.cuda", *kernels_for("sm80"))
    library = new_library()
    for _ in range(3):
        run(open_session(model_of(Node()), kernels, library), attention_inputs())
        assert driver.images == 0
    assert driver.calls().count("cuLibraryLoadData") == 3
    assert driver.calls().count("cuInit") == 1


@beside_stand_in
def test_files_do_not_share(tmp_path: Path) -> None:
    driver = stand_in(80)
    library = new_library()
    sessions = [
        open_session(model_of(Node()), write(tmp_path / name, *kernels_for("sm80")), library)
        for name in ("a.cuda", "b.cuda")
    ]
    assert driver.images == len(sessions)


@beside_stand_in
def test_a_file_that_was_replaced_is_another_file(tmp_path: Path) -> None:
    """Even if size and time are the same, as for files that are unpacked from archives."""
    driver = stand_in(80)
    path = tmp_path / "model.cuda"
    library = new_library()
    sizes = []
    for threads in (32, 64):
        made, images = kernels_for("sm80")
        made[0]["launches"][0]["threads"] = threads
        new = write(tmp_path / "new", made, images)
        os.utime(new, (10**9, 10**9))
        new.replace(path)
        sizes.append(path.stat().st_size)
        session = open_session(model_of(Node()), path, library)
        found: list[Launched] = []
        driver.on_launch(found.append)
        run(session, attention_inputs())
        assert [launch.threads for launch in found] == [threads]
    assert sizes[0] == sizes[1]
