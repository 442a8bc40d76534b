"""The choice of kernels for a node: by GPU, type, attributes and heads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from reformer_ops.chunk_attention.spec import CHUNK_ATTENTION

from .kernel_files import ATTRIBUTES, SIZES, kernels_for, launch, program, write
from .process import beside_stand_in, stand_in
from .sessions import (
    Array,
    Node,
    attention_inputs,
    failure,
    model_of,
    new_library,
    open_session,
    run,
)
from .stand_in import Launched, StandIn

ALL = ("sm75", "sm80", "sm90a", "sm100a", "sm120a")


def launched_by(driver: StandIn, path: Path, node: Node) -> bytes:
    """The image of the node's only launch."""
    found: list[Launched] = []
    driver.on_launch(found.append)
    run(open_session(model_of(node), path), attention_inputs(sizes=node.sizes))
    (only,) = found
    return only.image


@pytest.mark.parametrize(
    ("gpu", "targets", "chosen"),
    [
        pytest.param(80, ALL, "sm80.cubin", marks=pytest.mark.slow),
        (90, ALL, "sm90a.cubin"),
        (75, ALL, "sm75.cubin"),
        (86, ALL, "sm80.cubin"),
        (86, (*ALL, "sm86"), "sm86.cubin"),
        (89, ("sm80", "sm86", "sm90a"), "sm86.cubin"),
        (100, ("sm75", "sm80", "sm90a"), "sm80.ptx"),
        (120, ("sm80", "sm90a", "sm100a"), "sm80.ptx"),
        (121, ("sm80", "sm89", "sm120a"), "sm89.ptx"),
        (90, ("sm75", "sm80", "sm89"), "sm89.ptx"),
        (90, ("sm89", "sm80"), "sm89.ptx"),
        (90, ("sm90", "sm80"), "sm90.cubin"),
        (87, ("sm75", "sm90a"), "sm75.ptx"),
    ],
)
@beside_stand_in
def test_the_best_that_runs_on_the_gpu(
    gpu: int, targets: tuple[str, ...], chosen: str, tmp_path: Path
) -> None:
    """Machine code is preferred to PTX, then the latest target; sm90a runs only on sm_90."""
    driver = stand_in(gpu)
    programs, images = kernels_for(*targets)
    path = write(tmp_path / "model.cuda", programs, images)
    assert launched_by(driver, path, Node()) == images[chosen]
    assert driver.calls().count("cuLibraryLoadData") == 1


@pytest.mark.parametrize(
    ("gpu", "targets", "expected"),
    [
        (80, ("sm90a",), "has kernels for sm90, and this GPU (Stand-in 0) is sm80"),
        (
            100,
            ("sm90a", "sm120a"),
            "has kernels for sm120, sm90, and this GPU (Stand-in 0) is sm100",
        ),
        (75, ("sm80",), "has kernels for sm80, and this GPU (Stand-in 0) is sm75"),
        (80, ("sm86",), "has kernels for sm86, and this GPU (Stand-in 0) is sm80"),
    ],
)
@beside_stand_in
def test_nothing_that_runs_on_the_gpu(
    gpu: int, targets: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    driver = stand_in(gpu)
    path = write(tmp_path / "model.cuda", *kernels_for(*targets))
    message = failure(open_session, model_of(Node()), path)
    assert f"{path} {expected}" in message, message
    assert f"add it with reformer-export add-kernels ARTIFACT --target sm{gpu}" in message
    assert "cuLibraryLoadData" not in driver.calls()


@beside_stand_in
def test_kernels_for_another_version_of_the_operator(tmp_path: Path) -> None:
    path = write(tmp_path / "model.cuda", *kernels_for("sm80", version=CHUNK_ATTENTION.version + 1))
    message = failure(open_session, model_of(Node()), path)
    assert "has kernels for version 2 of ChunkAttention, and this library runs version 1" in message
    assert "add-kernels ARTIFACT --target sm80" in message


@beside_stand_in
def test_a_node_that_the_file_does_not_know(tmp_path: Path) -> None:
    path = write(tmp_path / "model.cuda", *kernels_for("sm80"))
    others = {
        "ChunkAttention in float16 with causal 1, chunk_length 8, num_chunks_after 0, "
        "num_chunks_before 1": Node(dtype="float16"),
        "ChunkAttention in float32 with causal 0, chunk_length 8": Node(
            attributes={**ATTRIBUTES, "causal": 0}
        ),
        "LshBucket in float32 with factors 4x8": Node(
            "LshBucket", attributes={"factors": (4, 8)}, sizes={**SIZES, "num_hashes": 1}
        ),
    }
    for text, node in others.items():
        message = failure(open_session, model_of(node), path)
        assert f"{path} has no kernel for {text}" in message, message
        assert "add-kernels ARTIFACT --target sm80" in message


@beside_stand_in
def test_a_session_without_kernels() -> None:
    message = failure(open_session, model_of(Node()), None)
    assert "this session has no kernels for ChunkAttention on a GPU" in message
    assert "set the config entry reformer.kernels" in message
    assert "reformer-export add-kernels ARTIFACT makes it" in message


@beside_stand_in
def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    message = failure(open_session, model_of(Node()), tmp_path / "none.cuda")
    assert f"cannot read the kernels in {tmp_path / 'none.cuda'}" in message


def marked(
    number: int, attributes: Mapping[str, int], sizes: Mapping[str, int]
) -> dict[str, object]:
    """A program whose launch has a known number of threads, so that tests recognize it."""
    return program(
        launch("sm80", threads=32 * number), attributes=dict(attributes), sizes=dict(sizes)
    )


@beside_stand_in
def test_nodes_of_one_model_take_each_its_own(tmp_path: Path) -> None:
    """Nodes with other attributes, nodes with other heads only, and two equal nodes."""
    driver = stand_in(80)
    _, images = kernels_for("sm80")
    longer = {**ATTRIBUTES, "chunk_length": 16}
    wider = {"heads": 3, "head_dim": 8}
    kinds = [(ATTRIBUTES, SIZES), (longer, SIZES), (ATTRIBUTES, wider), (longer, wider)]
    programs = [marked(number, *kind) for number, kind in enumerate(kinds, start=1)]
    path = write(tmp_path / "model.cuda", programs, images)
    order = [3, 1, 4, 1, 2]
    nodes = [Node(attributes=kinds[number - 1][0], sizes=kinds[number - 1][1]) for number in order]
    inputs: dict[str, Array] = {}
    for place, node in enumerate(nodes):
        inputs |= attention_inputs(prefix=f"{place}." if place else "", sizes=node.sizes)
    found: list[Launched] = []
    driver.on_launch(found.append)
    run(open_session(model_of(*nodes), path), inputs)
    assert sorted(each.threads // 32 for each in found) == sorted(order)
    assert driver.calls().count("cuLibraryLoadData") == 1

    # Each node in its own session, so that the order of nodes cannot hide exchanged kernels.
    library = new_library()
    for number, node in zip(order, nodes, strict=True):
        found.clear()
        run(open_session(model_of(node), path, library), attention_inputs(sizes=node.sizes))
        assert [each.threads // 32 for each in found] == [number]


@beside_stand_in
def test_heads_that_the_file_does_not_know(tmp_path: Path) -> None:
    """If the heads of a model are dynamic, only a run can detect this."""
    driver = stand_in(80)
    path = write(tmp_path / "model.cuda", *kernels_for("sm80"))
    session = open_session(model_of(Node(sizes={})), path)
    run(session, attention_inputs())
    before = len(driver.log())
    message = failure(run, session, attention_inputs(sizes={"heads": 3, "head_dim": 4}))
    assert "model.cuda has no kernel for ChunkAttention with 4 head_dim, 3 heads" in message, (
        message
    )
    assert len(driver.log()) == before
    run(session, attention_inputs())


@beside_stand_in
def test_types_are_told_apart(tmp_path: Path) -> None:
    driver = stand_in(80)
    programs, images = kernels_for("sm80")
    halves = [program(launch("sm80", threads=96), dtype="float16")]
    path = write(tmp_path / "model.cuda", [*programs, *halves], images)
    found: list[Launched] = []
    driver.on_launch(found.append)
    inputs = {
        name: array if name == "mask" else array.astype("float16")
        for name, array in attention_inputs().items()
    }
    run(open_session(model_of(Node(dtype="float16")), path), inputs)
    assert [each.threads for each in found] == [96]
