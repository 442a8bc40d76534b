"""Controls the stand-in for NVIDIA's driver from Python."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class _Launch(ctypes.Structure):
    """StandInLaunch of stand_in.h."""

    _fields_ = [
        ("entry", ctypes.c_char_p),
        ("image", ctypes.c_void_p),
        ("image_bytes", ctypes.c_size_t),
        ("gpu", ctypes.c_int),
        ("programs", ctypes.c_uint),
        ("threads", ctypes.c_uint),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("arguments", ctypes.POINTER(ctypes.c_void_p)),
    ]


_EXECUTE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Launch))


@dataclass(frozen=True)
class Launched:
    """A launch as the driver got it. `places` gives the address of each kernel argument."""

    entry: str
    image: bytes
    gpu: int
    programs: int
    threads: int
    shared_bytes: int
    stream: int | None
    places: Callable[[int], int]

    def pointer(self, number: int) -> int:
        """An argument that is a pointer; 0 for null."""
        return ctypes.c_void_p.from_address(self.places(number)).value or 0

    def number(self, number: int) -> int:
        """An argument that is an i32."""
        return ctypes.c_int32.from_address(self.places(number)).value


class StandIn:
    """Loads the stand-in under the name of the driver. A process may have only one.

    Code that loads libcuda.so.1 afterwards gets the stand-in.
    """

    def __init__(self, folder: Path, kind: str = "driver") -> None:
        self._library = ctypes.CDLL(str(folder / kind / "libcuda.so.1"), ctypes.RTLD_GLOBAL)
        self._library.stand_in_log.restype = ctypes.c_size_t
        self._library.stand_in_log.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        self._execute: object = None  # keeps the callback alive while it may be called
        self.errors: list[Exception] = []

    def reset(self, *capabilities: int) -> None:
        """Resets the stand-in to GPUs of these compute capabilities. Images stay loaded."""
        self._library.stand_in_reset(
            len(capabilities), (ctypes.c_int * len(capabilities))(*capabilities)
        )

    def fail(self, function: str, code: int = 999, after: int = 0) -> None:
        """The function fails with `code` from its call number `after` on, counted from zero."""
        self._library.stand_in_fail(function.encode(), code, after)

    def take_back(self) -> None:
        """Marks all images as unloaded, and removes the contexts that this thread has pushed."""
        self._library.stand_in_take_back()

    def compile_late(self) -> None:
        """PTX is compiled when a function of it is requested, not when it is loaded."""
        self._library.stand_in_compile_late(1)

    def log(self) -> list[str]:
        """Calls since the last reset, with their important arguments."""
        size = self._library.stand_in_log(None, 0)
        text = ctypes.create_string_buffer(size)
        self._library.stand_in_log(text, size)
        return text.value.decode().splitlines()

    def calls(self) -> list[str]:
        """The names of the calls since the last reset."""
        return [line.split()[0] for line in self.log()]

    @property
    def images(self) -> int:
        """Number of loaded images."""
        found: int = self._library.stand_in_images()
        return found

    @property
    def contexts(self) -> int:
        """Number of contexts that are pushed and not popped."""
        found: int = self._library.stand_in_contexts()
        return found

    def on_launch(self, execute: Callable[[Launched], None]) -> None:
        """Sets the callback that executes launches. If it raises, the launch and the test fail."""

        def call(pointer: ctypes._Pointer[_Launch]) -> int:
            launch = pointer.contents
            try:
                execute(
                    Launched(
                        launch.entry.decode(),
                        ctypes.string_at(launch.image, launch.image_bytes),
                        launch.gpu,
                        launch.programs,
                        launch.threads,
                        launch.shared_bytes,
                        launch.stream,
                        lambda number: launch.arguments[number] or 0,
                    )
                )
            except Exception as error:  # no exception may reach the driver's caller
                self.errors.append(error)
                return 719
            return 0

        self._execute = _EXECUTE(call)
        self._library.stand_in_on_launch(self._execute)
