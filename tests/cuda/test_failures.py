"""Failures of each CUDA driver function: the error is one line, nothing leaks, later calls work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from .kernel_files import (
    ARGUMENTS,
    ATTRIBUTES,
    SIZES,
    amount,
    cubin,
    kernels_for,
    launch,
    program,
    ptx,
    write,
)
from .process import beside_stand_in, stand_in
from .sessions import Node, attention_inputs, failure, model_of, new_library, open_session, run
from .stand_in import StandIn

LOADING = {
    "cuInit": "cannot start",
    "cuDeviceGetCount": "cannot list its GPUs",
    "cuDeviceGet": "cannot open GPU 0",
    "cuDeviceGetName": "cannot name GPU 0",
    "cuDeviceGetAttribute": "cannot describe GPU 0",
    "cuDevicePrimaryCtxRetain": "cannot use GPU 0",
    "cuCtxPushCurrent": "cannot enter the context of the GPU",
    "cuLibraryLoadData": "cannot load the kernel {image}",
    "cuLibraryGetKernel": "cannot find kernel in the kernel {image}",
    "cuKernelGetFunction": "cannot load the kernel {image}",
    "cuFuncSetAttribute": "cannot give the kernel {image} 65536 bytes of shared memory",
}
"""Driver functions that creating a session calls, and the error message when each one fails."""

RUNNING = {
    "cuCtxPushCurrent": "cannot enter the context of the GPU",
    "cuLaunchKernel": "cannot launch a kernel",
}

CALLS = [
    (function, after)
    for function in LOADING
    # The first call of each function; also the second call of functions called for every kernel.
    for after in ((0, 1) if "Library" in function or "Func" in function else (0,))
]


def two_kernels(path: Path) -> Path:
    """Write a program of two launches. Each has its own image and needs much shared memory."""
    first, second = (launch(name, shared_bytes=65536) for name in ("one", "two"))
    images = {
        f"{name}.{kind}": data
        for name in ("one", "two")
        for kind, data in (("cubin", cubin("kernel", 80)), ("ptx", ptx("kernel", "sm_80")))
    }
    return write(path, [program(first, second)], images)


def works(driver: StandIn, kernels: Path, library: Path) -> None:
    """Check that a session can be created and run, launches both kernels and leaks nothing."""
    session = open_session(model_of(Node()), kernels, library)
    before = len(driver.log())
    run(session, attention_inputs())
    assert driver.calls()[before:].count("cuLaunchKernel") == 2
    del session
    assert (driver.images, driver.contexts) == (0, 0)


@pytest.mark.parametrize(("function", "after"), CALLS)
@beside_stand_in
def test_a_session_says_what_fails(function: str, after: int, tmp_path: Path) -> None:
    driver = stand_in(80)
    kernels = two_kernels(tmp_path / "model.cuda")
    library = new_library()
    driver.fail(function, 719, after)
    message = failure(open_session, model_of(Node()), kernels, library)
    image = "two.cubin" if after else "one.cubin"
    expected = f"the NVIDIA driver {LOADING[function].format(image=image)}: error 719, "
    assert expected + "unspecified launch failure" in message, message
    assert "\n" not in message.strip()
    assert (driver.images, driver.contexts) == (0, 0)

    driver.fail(function, 0)
    works(driver, kernels, library)


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("function", list(RUNNING))
@beside_stand_in
def test_a_run_says_what_fails(function: str, after: int, tmp_path: Path) -> None:
    driver = stand_in(80)
    kernels = two_kernels(tmp_path / "model.cuda")
    library = new_library()
    session = open_session(model_of(Node()), kernels, library)
    if function == "cuCtxPushCurrent" and after:
        run(session, attention_inputs())  # a run enters the context once
        driver.fail(function, 719, 0)
    else:
        driver.fail(function, 719, after)
    message = failure(run, session, attention_inputs())
    expected = f"the NVIDIA driver {RUNNING[function]}: error 719, unspecified launch failure"
    assert expected in message, message
    assert "\n" not in message.strip()
    assert driver.contexts == 0
    driver.fail(function, 0, 0)
    run(session, attention_inputs())  # the same session, once the driver works again
    del session
    works(driver, kernels, library)


@beside_stand_in
def test_a_driver_that_goes_down_before_the_session(tmp_path: Path) -> None:
    """The driver shuts down before the session when a process ends."""
    driver = stand_in(80)
    kernels = write(tmp_path / "model.cuda", *kernels_for("sm80"))
    session = open_session(model_of(Node()), kernels)
    run(session, attention_inputs())
    driver.fail("cuLibraryUnload", 4)
    del session
    assert driver.images == 1
    assert driver.calls()[-1] == "cuLibraryUnload"
    driver.take_back()


@beside_stand_in
def test_an_error_that_the_driver_has_no_text_for(tmp_path: Path) -> None:
    driver = stand_in(80)
    kernels = write(tmp_path / "model.cuda", *kernels_for("sm80"))
    driver.fail("cuLibraryLoadData", 12345)
    message = failure(open_session, model_of(Node()), kernels)
    assert "cannot load the kernel sm80.cubin: error 12345, unknown error" in message, message


@pytest.mark.parametrize("late", [False, True])
@beside_stand_in
def test_what_the_compiler_of_ptx_says(late: bool, tmp_path: Path) -> None:
    """The message is one line, whether the driver compiles PTX at loading or later."""
    driver = stand_in(90)
    if late:
        driver.compile_late()
    programs, images = kernels_for("sm80")
    images["sm80.ptx"] += b"error\n"
    kernels = write(tmp_path / "model.cuda", programs, images)
    message = failure(open_session, model_of(Node()), kernels)
    expected = "error 218, a PTX JIT compilation failed "
    expected += "(ptxas stand-in.ptx, line 1; error   : as the test has it)"
    assert f"cannot load the kernel sm80.ptx: {expected}" in message, message
    assert "\n" not in message.strip()


@pytest.mark.parametrize("code", [200, 209, 222])
@beside_stand_in
def test_a_driver_that_is_older_than_the_kernel(code: int, tmp_path: Path) -> None:
    driver = stand_in(80)
    kernels = write(tmp_path / "model.cuda", *kernels_for("sm80"))
    driver.fail("cuLibraryLoadData", code)
    message = failure(open_session, model_of(Node()), kernels)
    assert f"sm80.cubin: error {code}, " in message
    assert "; a later driver may take it" in message


@beside_stand_in
def test_a_machine_without_a_gpu(tmp_path: Path) -> None:
    stand_in()
    kernels = write(tmp_path / "model.cuda", *kernels_for("sm80"))
    message = failure(open_session, model_of(Node()), kernels)
    assert "there is no GPU 0: the NVIDIA driver sees 0" in message


@beside_stand_in
def test_a_kernel_that_is_not_in_its_image(tmp_path: Path) -> None:
    programs, images = kernels_for("sm80")
    programs[0]["launches"][0]["entry"] = "another"
    kernels = write(tmp_path / "model.cuda", programs, images)
    message = failure(open_session, model_of(Node()), kernels)
    assert "cannot find another in the kernel sm80.cubin: error 500, named symbol" in message


@beside_stand_in
def test_an_image_that_is_not_in_the_file(tmp_path: Path) -> None:
    programs, images = kernels_for("sm80")
    del images["sm80.cubin"]
    kernels = write(tmp_path / "model.cuda", programs, images)
    message = failure(open_session, model_of(Node()), kernels)
    assert f"{kernels} is not a valid file of kernels (it has no sm80.cubin)" in message


@beside_stand_in
def test_an_argument_that_the_operator_does_not_have(tmp_path: Path) -> None:
    programs, images = kernels_for("sm80")
    programs[0]["launches"][0]["arguments"] = [*ARGUMENTS, "bias"]
    kernels = write(tmp_path / "model.cuda", programs, images)
    message = failure(open_session, model_of(Node()), kernels)
    assert "the kernel kernel takes bias, which ChunkAttention does not have" in message


@pytest.mark.parametrize(
    ("programs", "expected"),
    [
        (amount(2**30), "a GPU launches fewer than 2**31 at once: split the batch"),
        (amount(2**61), "the sequences are too long for a GPU: split the batch"),
    ],
)
@beside_stand_in
def test_more_programs_than_a_gpu_launches(
    programs: dict[str, int], expected: str, tmp_path: Path
) -> None:
    driver = stand_in(80)
    made, images = kernels_for("sm80")
    made[0]["launches"][0]["programs"] = programs
    session = open_session(model_of(Node()), write(tmp_path / "model.cuda", made, images))
    message = failure(run, session, attention_inputs())
    assert expected in message, message
    assert "cuLaunchKernel" not in driver.calls()


@pytest.mark.parametrize(
    "scratch",
    [
        {"one": amount(2**61)},
        {f"buffer {number}": amount(2**61, divisor=2**31 - 1) for number in range(8)},
        {f"buffer {number}": amount(2**60, divisor=2**31 - 1) for number in range(8)},
    ],
)
@beside_stand_in
def test_more_working_memory_than_there_is(scratch: dict[str, object], tmp_path: Path) -> None:
    """Also if the sum of all buffer sizes overflows a 64-bit integer."""
    driver = stand_in(80)
    made, images = kernels_for("sm80", scratch=scratch)
    session = open_session(model_of(Node()), write(tmp_path / "model.cuda", made, images))
    message = failure(run, session, attention_inputs())
    assert "too long for a GPU: split the batch" in message, message
    assert "cuLaunchKernel" not in driver.calls()


@beside_stand_in
def test_working_memory_that_the_allocator_refuses(tmp_path: Path) -> None:
    driver = stand_in(80)
    made, images = kernels_for("sm80", scratch={"much": amount(2**55, divisor=2**31 - 1)})
    session = open_session(model_of(Node()), write(tmp_path / "model.cuda", made, images))
    before = len(driver.log())
    assert "bad allocation" in failure(run, session, attention_inputs()).replace(
        "bad_alloc", "bad allocation"
    )
    assert len(driver.log()) == before


@beside_stand_in
def test_a_length_that_no_launch_is_for(tmp_path: Path) -> None:
    """Without this error, no kernel would run and the output would be uninitialized memory."""
    driver = stand_in(80)
    made, images = kernels_for("sm80")
    made[0]["launches"][0]["shortest"] = 4
    made[0]["launches"][0]["longest"] = 32
    session = open_session(model_of(Node()), write(tmp_path / "model.cuda", made, images))
    for length in (3, 40):
        message = failure(run, session, attention_inputs(length=length))
        assert f"ChunkAttention has no kernel for sequences of {length}" in message, message
    assert "cuLaunchKernel" not in driver.calls()
    for length in (4, 32):
        run(session, attention_inputs(length=length))
    assert driver.calls().count("cuLaunchKernel") == 2


@beside_stand_in
def test_memory_that_kernels_would_fault_on(tmp_path: Path) -> None:
    driver = stand_in(80)
    session = open_session(model_of(Node()), write(tmp_path / "model.cuda", *kernels_for("sm80")))
    inputs = attention_inputs()
    shifted = np.empty(inputs["key"].size + 8, np.float32)
    shifted = shifted[-(shifted.ctypes.data // 4) % 4 + 1 :][: inputs["key"].size]
    inputs["key"] = shifted.reshape(inputs["key"].shape)
    message = failure(run, session, inputs)
    assert "ChunkAttention takes key at an address that is a multiple of 16" in message, message
    assert "cuLaunchKernel" not in driver.calls()


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"key": (2, 16, 2, 4)}, "key as [batch, length, heads, head_dim] with length = 32"),
        ({"mask": (1, 32)}, "mask as [batch, length] with batch = 2"),
        ({"query": (2, 32, 2)}, "Invalid rank for input: query"),
        (
            {"query": (0, 32, 2, 4), "key": (0, 32, 2, 4), "value": (0, 32, 2, 4), "mask": (0, 32)},
            "with no axis empty; got shape [0, 32, 2, 4]",
        ),
    ],
)
@beside_stand_in
def test_inputs_that_do_not_fit(
    changed: dict[str, tuple[int, ...]], expected: str, tmp_path: Path
) -> None:
    driver = stand_in(80)
    kernels = write(tmp_path / "model.cuda", *kernels_for("sm80"))
    session = open_session(model_of(Node(sizes={})), kernels)
    inputs = attention_inputs()
    for name, shape in changed.items():
        inputs[name] = np.zeros(shape, inputs[name].dtype)
    message = failure(run, session, inputs)
    assert expected in message, message
    assert "cuLaunchKernel" not in driver.calls()


@pytest.mark.parametrize("op", ["ChunkAttention", "SortedChunkAttention"])
@beside_stand_in
def test_a_length_that_does_not_fall_into_chunks(op: str, tmp_path: Path) -> None:
    """The message is the same as that of the CPU kernels."""
    driver = stand_in(80)
    attributes, sizes = ATTRIBUTES, SIZES
    inputs = attention_inputs(length=20)
    if op == "SortedChunkAttention":
        attributes = {**ATTRIBUTES, "num_buckets": 4}
        sizes = {**SIZES, "num_hashes": 1}
        inputs = {
            "query_key": inputs["query"],
            "value": inputs["value"],
            "buckets": np.zeros((2, 2, 1, 20), np.int32),
            "mask": inputs["mask"],
        }
    arguments = [*inputs, "length", "output"]
    programs, images = kernels_for("sm80", operator=op, attributes=attributes, sizes=sizes)
    programs[0]["launches"][0]["arguments"] = arguments
    kernels = write(tmp_path / "model.cuda", programs, images)
    session = open_session(model_of(Node(op, attributes=attributes, sizes=sizes)), kernels)
    message = failure(run, session, inputs)
    assert "takes a length of at most chunk_length or a multiple of it" in message, message
    assert "got length 20 with chunk" in message, message
    assert "cuLaunchKernel" not in driver.calls()


@beside_stand_in
def test_rotations_that_are_not_those_of_the_factors(tmp_path: Path) -> None:
    """Without this error, a kernel would read beyond the end of the rotations."""
    driver = stand_in(80)
    sizes = {**SIZES, "num_hashes": 1}
    attributes = {"factors": (4, 8)}
    programs, images = kernels_for(
        "sm80", operator="LshBucket", attributes={"factors": [4, 8]}, sizes=sizes
    )
    programs[0]["launches"][0]["arguments"] = ["query", "rotations", "mask", "length", "buckets"]
    kernels = write(tmp_path / "model.cuda", programs, images)
    session = open_session(model_of(Node("LshBucket", attributes=attributes, sizes=sizes)), kernels)
    attention = attention_inputs()
    inputs = {"query": attention["query"], "mask": attention["mask"]}
    for columns in (5, 7):
        inputs["rotations"] = np.zeros((2, 4, 1, columns), np.float32)
        message = failure(run, session, inputs)
        expected = "takes rotations with 6 columns for the factors [4, 8]; got shape [2, 4, 1, "
        assert expected in message, message
    assert "cuLaunchKernel" not in driver.calls()
    inputs["rotations"] = np.zeros((2, 4, 1, 6), np.float32)
    run(session, inputs)
    assert driver.calls().count("cuLaunchKernel") == 1
