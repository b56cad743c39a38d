"""What the processes of a run tell each other: small Python values, once a step or a checkpoint.

Everything here is a collective: all processes call it equally often. With one process nothing is
sent.
"""

import sys
from collections.abc import Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")


def gather(value: Value) -> list[Value]:
    """The values of all processes, by rank, on each of them.

    They may differ in length and in keys: a reduction of tensors would hang.
    """
    if not _is_distributed():
        return [value]
    values: list[Value | None] = [None] * world_size()
    _distributed().all_gather_object(values, value)
    return values  # type: ignore[return-value]


def sum_over(values: Mapping[str, float]) -> dict[str, float]:
    """Sums by name over all processes; a name that a process lacks counts as 0 there."""
    total: dict[str, float] = {}
    for part in gather(dict(values)):
        for name, value in part.items():
            total[name] = total.get(name, 0.0) + value
    return total


def rank() -> int:
    """This process among all."""
    return _distributed().get_rank() if _is_distributed() else 0


def world_size() -> int:
    """How many processes there are."""
    return _distributed().get_world_size() if _is_distributed() else 1


def leave() -> None:
    """End what connects the processes, once nothing is left to tell.

    Gloo's threads abort a process now and then that ends with them still there (torch 2.14).
    """
    if _is_distributed():
        _distributed().destroy_process_group()


def _is_distributed() -> bool:
    """Tools that do without torch are one process."""
    if "torch" not in sys.modules:
        return False
    return _distributed().is_available() and _distributed().is_initialized()


def _distributed() -> Any:
    return sys.modules["torch"].distributed
