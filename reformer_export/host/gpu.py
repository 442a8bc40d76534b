"""Lists the NVIDIA GPUs of this machine through the driver; no framework is needed."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from reformer_export.errors import DeviceUnavailableError

_DRIVER = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


@dataclass(frozen=True)
class Gpu:
    """The name and compute capability of a GPU; the capability is 89 for 8.9."""

    name: str
    capability: int

    def __str__(self) -> str:
        return f"{self.name} (SM{self.capability})"


def require_gpu(purpose: str, *, index: int = 0) -> Gpu:
    """The GPU with CUDA's number `index`. `purpose` ("running an engine") is for the message.

    Raises:
        DeviceUnavailableError: there is no driver, it does not start, or it sees no such GPU.
    """
    gpus, reason = find_gpus()
    if not gpus:
        raise DeviceUnavailableError(f"{purpose} needs an NVIDIA GPU, and {reason}")
    if index >= len(gpus):
        raise DeviceUnavailableError(
            f"{purpose} needs the GPU number {index}, and the last one here has number "
            f"{len(gpus) - 1}"
        )
    return gpus[index]


def find_gpus() -> tuple[list[Gpu], str]:
    """The GPUs that CUDA programs see here, and the reason if there are none."""
    try:
        driver = ctypes.CDLL(_DRIVER)
    except OSError:
        return [], f"the NVIDIA driver ({_DRIVER}) is not found on this machine"
    if status := driver.cuInit(0):
        return [], f"the NVIDIA driver does not start here (cuInit gave error {status})"
    count = ctypes.c_int()
    if status := driver.cuDeviceGetCount(ctypes.byref(count)):
        return [], f"the NVIDIA driver lists no devices (error {status})"
    gpus = [_describe(driver, index) for index in range(count.value)]
    return gpus, "the NVIDIA driver sees none"


def _describe(driver: ctypes.CDLL, index: int) -> Gpu:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    major, minor = ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return Gpu(name.value.decode(errors="replace"), 10 * major.value + minor.value)
