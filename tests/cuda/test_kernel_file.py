"""Kernel files that are damaged or malicious: each is refused with a message."""

from __future__ import annotations

import copy
import json
import random
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from reformer_export.exporters.cuda.export import KIND

from .building import run_program
from .kernel_files import Json, amount, document, encoded, kernels_for

HEADER = 8
"""Bytes before the header. They hold its size."""


def sound() -> bytes:
    programs, images = kernels_for("sm80", "sm90a", scratch={"order": amount(4)})
    return encoded(document(programs), images)


def read(folder: Path, files: Sequence[bytes], sanitize: str = "") -> list[str]:
    """The result of reading each file. No file may crash the program."""
    paths = []
    for number, data in enumerate(files):
        paths.append(folder / f"{number}.cuda")
        paths[-1].write_bytes(data)
    answers = run_program("read_kernels", *paths, sanitize=sanitize).splitlines()
    assert len(answers) == len(files)  # this also checks that each message is one line
    return answers


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path (keys and indices) to every value inside a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*path, key)
        if isinstance(inner, dict | list):
            yield from places(inner, (*path, key))


def changed(value: Any, path: tuple[Any, ...], change: Callable[[Any, Any], None]) -> Any:
    """A copy, in which `change(container, key)` was applied at `path`."""
    result = copy.deepcopy(value)
    inner = result
    for key in path[:-1]:
        inner = inner[key]
    change(inner, path[-1])
    return result


def remove(container: Any, key: Any) -> None:
    del container[key]


def put(value: Any) -> Callable[[Any, Any], None]:
    def change(container: Any, key: Any) -> None:
        container[key] = value

    return change


MAY_BE_LEFT_OUT = ("domain", "arguments", "attributes", "sizes", "scratch", "programs", "launches")
"""An element of these may be missing. The reader does not check the domain."""

STRANGE: tuple[Any, ...] = (
    None,
    -1,
    0,
    2**31,
    2**62,
    2**63,
    2**64 - 1,
    2**200,
    1.5,
    1e300,
    "x",
    [],
    [[]],
    {},
    True,
)


def test_a_sound_file(tmp_path: Path) -> None:
    """read_kernels counts the bytes of an image before its first zero byte: nine in a cubin."""
    images = kernels_for("sm80", "sm90a")[1]
    size = sum(len(data) if name.endswith("ptx") else 9 for name, data in images.items())
    assert read(tmp_path, [sound()]) == [f"read 2 programs, {size} bytes"]


def test_files_that_are_cut_off(tmp_path: Path) -> None:
    data = sound()
    answers = read(tmp_path, [data[:size] for size in range(len(data))])
    for size, answer in enumerate(answers):
        assert answer.startswith("refused "), (size, answer)
        assert f"{size}.cuda is not a valid file of kernels (" in answer
        assert answer.endswith("): make it again with reformer-export add-kernels")
    assert "it ends before its header" in answers[HEADER - 1]
    assert "its header is cut off" in answers[HEADER]
    assert "reaches beyond the end of the file" in answers[-1]


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 2**64 - 8, 10**9, 0])
def test_headers_of_any_size(size: int, tmp_path: Path) -> None:
    data = struct.pack("<Q", size) + sound()[HEADER:]
    (answer,) = read(tmp_path, [data])
    assert "is not a valid file of kernels" in answer


def fields_left_out() -> tuple[list[tuple[Any, ...]], list[bytes]]:
    programs, images = kernels_for("sm80", scratch={"order": amount(4)})
    whole = document(programs)
    paths = [
        path
        for path in places(whole)
        if not (len(path) > 1 and path[-2] in MAY_BE_LEFT_OUT) and path[-1] != "domain"
    ]
    return paths, [encoded(changed(whole, path, remove), images) for path in paths]


def test_a_field_that_is_left_out(tmp_path: Path) -> None:
    paths, files = fields_left_out()
    assert len(paths) > 20
    for path, answer in zip(paths, read(tmp_path, files), strict=True):
        assert answer.startswith("refused "), (path, answer)
        assert f"'{path[-1]}' not found" in answer, (path, answer)


def strange_values() -> tuple[list[tuple[Any, ...]], list[bytes]]:
    programs, images = kernels_for("sm80", scratch={"order": amount(4)})
    whole = document(programs)
    cases = [(path, value) for path in places(whole) for value in STRANGE]
    return cases, [encoded(changed(whole, path, put(value)), images) for path, value in cases]


def test_a_field_with_a_strange_value(tmp_path: Path) -> None:
    """Numbers outside their bounds are refused, and so are values that are not numbers."""
    cases, files = strange_values()
    numbers = ("times", "multiplier", "divisor", "threads", "shortest", "longest", "target")
    for (path, value), answer in zip(cases, read(tmp_path, files), strict=True):
        # True is 1 in Python, but not a number in JSON.
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if path[-1] in numbers and not (is_number and 0 < value <= 2**62):
            assert answer.startswith("refused "), (path, value, answer)
        if path[-1] in ("shortest", "longest", "divisor", "multiplier") and value == 2**31:
            assert f"{path[-1]} is {2**31}" in answer
        if "attributes" in path and path[-1] != "attributes" and isinstance(value, float):
            assert "is no integer" in answer, (path, value, answer)
        if path[-1] == "portable" and value is not True:
            assert answer.startswith("refused "), (path, value, answer)


def spans(*found: Any) -> bytes:
    """A file whose tensors have these offsets."""
    header: Json = {"__metadata__": {KIND: json.dumps(document([]))}}
    for number, span in enumerate(found):
        header[f"{number}.ptx"] = {"dtype": "U8", "shape": [1], "data_offsets": span}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"0123456789"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([[0, 11]], "reaches beyond the end of the file"),
        ([[11, 11]], "reaches beyond the end of the file"),
        ([[3, 2]], "reaches beyond the end of the file"),
        ([[-1, 2]], "reaches beyond the end of the file"),
        ([[-5, -1]], "reaches beyond the end of the file"),
        ([[0, 2**64 - 1]], "too large"),
        ([[2**63, 2**63 + 1]], "too large"),
        ([[0, 1e300]], "is no integer"),
        ([[0.5, 1]], "is no integer"),
        ([[0]], "out of range"),
        ([[]], "out of range"),
        ([None], "cannot use at()"),
        ([{"0": 0, "1": 1}], "cannot use at()"),
        ([[0, 10], [0, 10]], "its kernels overlap"),
        ([[0, 10]] * 1000, "its kernels overlap"),
    ],
)
def test_kernels_that_lie_elsewhere(found: list[Any], message: str, tmp_path: Path) -> None:
    """The last file would need memory for the same bytes a thousand times."""
    (answer,) = read(tmp_path, [spans(*found)])
    assert answer.startswith("refused "), answer
    assert message in answer


def test_kernels_that_lie_where_they_may(tmp_path: Path) -> None:
    answers = read(tmp_path, [spans(), spans([0, 10]), spans([4, 10], [0, 4]), spans([10, 10])])
    assert answers == ["read 0 programs, 0 bytes"] * 4


def odd_headers() -> dict[str, bytes]:
    def file(text: bytes) -> bytes:
        return struct.pack("<Q", len(text)) + text

    def metadata(text: str) -> bytes:
        return file(json.dumps({"__metadata__": {KIND: text}}).encode())

    deep = 100_000
    return {
        "nothing": b"",
        "an empty header": file(b""),
        "no JSON": file(b"kernels"),
        "a list": file(b"[]"),
        "a number": file(b"1"),
        "no metadata": file(b"{}"),
        "metadata that is none": file(b'{"__metadata__": 1}'),
        "others' metadata": file(b'{"__metadata__": {"format": "pt"}}'),
        "our metadata, no text": file(b'{"__metadata__": {"%s": {}}}' % KIND.encode()),
        "a document that is none": metadata("[1]"),
        "a document cut off": metadata('{"schema_version": 1, "programs": ['),
        "a deep header": file(b"[" * deep + b"]" * deep),
        "a deep header that does not end": file(b'{"a":' * deep),
        "a deep document": metadata("[" * deep + "]" * deep),
        "text that is no UTF-8": file(b'{"__metadata__": "\xff\xfe"}'),
        "a long text": file(b'{"' + b"a" * 10**6),
        "a text of two lines": file(b'{"\n'),
        "a zero byte": file(b'{"__metadata__": "\0"}'),
        "programs that are a number": metadata('{"schema_version": 1, "programs": 3}'),
        "no programs": metadata('{"schema_version": 1}'),
        "a program that is null": metadata('{"schema_version": 1, "programs": [null]}'),
        "a release without number": metadata('{"schema_version": "1", "programs": []}'),
    }


def test_headers_that_are_none_of_ours(tmp_path: Path) -> None:
    named = odd_headers()
    for name, answer in zip(named, read(tmp_path, list(named.values())), strict=True):
        assert "is not a valid file of kernels (" in answer, (name, answer)
        assert answer.isascii()
        assert len(answer) < len(str(tmp_path)) + 400
    assert "nested too deeply" in read(tmp_path, [named["a deep header"]])[0]


def test_a_file_of_a_later_release(tmp_path: Path) -> None:
    (answer,) = read(tmp_path, [encoded(document([], schema_version=2), {})])
    message = "was made by a later release of reformer-export: update it here"
    assert answer == f"refused {tmp_path / '0.cuda'} {message}"


def test_what_is_no_file(tmp_path: Path) -> None:
    answers = run_program("read_kernels", tmp_path / "none", tmp_path).splitlines()
    assert answers[0].startswith(f"refused cannot read the kernels in {tmp_path / 'none'}")
    assert answers[1].startswith(f"refused {tmp_path} is not a valid file of kernels")


def mutants(count: int) -> list[bytes]:
    """Files with one to three errors each: bits flipped, pieces removed, doubled or overwritten."""
    rng = random.Random(0)
    whole = sound()
    end = HEADER + struct.unpack_from("<Q", whole)[0]
    found = []
    for _ in range(count):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(min(end, len(data)))
            piece = rng.randint(1, 20)
            kind = rng.randrange(4)
            if kind == 0:
                data[at] ^= 1 << rng.randrange(8)
            elif kind == 1:
                del data[at : at + piece]
            elif kind == 2:
                data[at:at] = data[at : at + piece]
            else:
                data[at : at + piece] = rng.choice((b"9" * piece, b"-", b"[", b"{", b'"', b"null"))
        found.append(bytes(data))
    return found


def test_files_with_errors_anywhere(tmp_path: Path) -> None:
    answers = read(tmp_path, mutants(400))
    refused = [answer for answer in answers if answer.startswith("refused ")]
    assert len(refused) > 300  # some errors change nothing that is read
    assert all(answer.startswith(("refused ", "read ")) for answer in answers)


@pytest.mark.slow
def test_no_file_has_a_finding(tmp_path: Path) -> None:
    """All files of the tests above and more, under the sanitizers."""
    data = sound()
    files = [data[:size] for size in range(len(data))] + mutants(5000)
    files += fields_left_out()[1] + strange_values()[1] + list(odd_headers().values())
    files += [spans([0, 10]), spans([-1, 2]), spans([0, 2**64 - 1]), spans([0, 1e300])]
    read(tmp_path, files, sanitize="address,undefined,float-cast-overflow")
