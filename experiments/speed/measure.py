"""Time and memory of contestants that take turns in one process."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch.profiler import ProfilerActivity, profile


def medians(contestants: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each over `rounds` rounds, in which they take turns, after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            _settle()
            started = time.perf_counter()
            run()
            synchronize()
            if number:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def steady(
    contestants: Mapping[str, Callable[[], Sequence[float]]], rounds: int
) -> dict[str, float]:
    """Median seconds of an optimizer step inside a run.

    Args:
        contestants: Each runs some steps and returns the seconds of each.
        rounds: Runs of each, in turn; the first step of a run does not count.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, run in contestants.items():
            _settle()
            times[name] += run()[1:]
    return {name: statistics.median(values) for name, values in times.items()}


def peak_bytes(run: Callable[[], object]) -> int:
    """Most memory that tensors made by `run` hold at a time, gradients included.

    On GPU the allocator's own count; on CPU from the profiler's record of every allocation.
    """
    _settle()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    results = record.profiler.kineto_results if record.profiler else None
    assert results is not None, "the profiler has recorded nothing"
    changes = sorted((e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def _settle() -> None:
    gc.collect()
    synchronize()


def synchronize() -> None:
    """Wait for what a GPU has still to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
