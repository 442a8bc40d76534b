"""Memory of tensors, counted from every allocation, so it is the same in every run."""

from __future__ import annotations

from collections.abc import Callable

# What PyTorch's profiler calls an event of its allocators; its bytes are negative where freed.
_MEMORY_EVENT = "[memory]"


def peak_allocated(function: Callable[[], object]) -> int:
    """The most bytes that tensors held at once while `function` ran, beyond those of before it.

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
