"""Saves random state and autocast settings, to repeat a computation with the same results."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch.utils.checkpoint import get_device_states, set_device_states


class RandomState:
    """The state of the global generators that a computation on `tensor` draws from."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._on_cpu = torch.get_rng_state()
        self._devices, self._on_devices = get_device_states(tensor)

    @contextmanager
    def again(self) -> Iterator[None]:
        """A context in which the generators start from this state; their old state is restored."""
        with torch.random.fork_rng(self._devices):
            torch.set_rng_state(self._on_cpu)
            set_device_states(self._devices, self._on_devices)
            yield


class Autocast:
    """The settings of `torch.autocast` for the device of `tensor`."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._device = tensor.device.type
        self._enabled = torch.is_autocast_enabled(self._device)
        self._dtype = torch.get_autocast_dtype(self._device)

    def again(self) -> AbstractContextManager[object]:
        """A context with these settings.

        It does not cache cast weights: a weight that was cast without gradients would be used again
        where gradients are needed, and would get none.
        """
        if not self._enabled and not torch.is_autocast_enabled(self._device):
            return nullcontext()  # cheaper
        return torch.autocast(
            self._device, dtype=self._dtype, enabled=self._enabled, cache_enabled=False
        )
