"""Memory of tensors, counted from every allocation, so that every run gives the same value."""

from __future__ import annotations

from collections.abc import Callable

# The name of an allocator event in PyTorch's profiler; its bytes are negative if memory is freed.
_MEMORY_EVENT = "[memory]"


def peak_allocated(function: Callable[[], object]) -> int:
    """The largest increase in the bytes of all tensors while `function` runs.

    Memory that kernels allocate without PyTorch is not counted.
    """
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    results = profiler.profiler.kineto_results
    events = [event for event in results.events() if event.name() == _MEMORY_EVENT]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
