"""Networks whose weights several processes hold in parts: DeepSpeed ZeRO-3 and FSDP2.

Each gathers the weights of a module as it is called and drops them afterwards, by hooks. A module's
call is then a collective that all processes must take part in, in the same order.
"""

import inspect
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

_MARGIN = 1.2
"""Free memory over the weights' size that is asked for: the rest is activations and caches."""


def is_zero3_sharded(module: nn.Module) -> bool:
    """Whether DeepSpeed ZeRO-3 has sharded the weights."""
    return any(hasattr(parameter, "ds_id") for parameter in module.parameters())


def is_sharded(module: nn.Module) -> bool:
    """Whether calling the module is a collective: its weights are sharded, by whatever."""
    return is_zero3_sharded(module) or any(isinstance(p, DTensor) for p in module.parameters())


def largest_anywhere(value: int, device: torch.device) -> int:
    """The largest of all processes' values; a collective."""
    largest = torch.tensor(value, device=device)
    torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX)
    return int(largest)


@dataclass(frozen=True, slots=True)
class Room:
    """Whether all of a network's weights fit beside what is in memory."""

    weight_bytes: int
    """Of the whole network."""
    free_bytes: int | None
    """What this process can still allocate on the network's device; None on CPU: not asked."""
    is_enough: bool
    """On every process."""


def room_for_whole(model: nn.Module) -> Room:
    """Whether every process has room for a sharded network's whole weights; a collective."""
    parameters = list(model.parameters())
    size = sum(getattr(p, "ds_numel", p.numel()) * p.element_size() for p in parameters)
    device = parameters[0].device
    free = None
    if device.type == "cuda":
        # The allocator's unused blocks are free to it, though not to the driver.
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = torch.cuda.mem_get_info(device)[0] + unused
    is_short = free is not None and free < _MARGIN * size
    return Room(size, free, not largest_anywhere(int(is_short), device))


@contextmanager
def gathered(model: nn.Module, *, is_whole: bool = True) -> Iterator[None]:
    """All weights are whole on every process, so that calls within are no collectives.

    Entering and leaving are collective; within, each process may call what it likes, without
    gradients and without changing weights. Hooks of the network's modules, all of them, rest
    meanwhile: ZeRO-3's and FSDP2's would drop the weights again. A network that is not sharded is
    left alone.

    Args:
        model: The network; a part of what an engine holds will do.
        is_whole: False gathers only what no hook does when the network's parts are called and the
            network itself is not: FSDP2's outermost group. Calls remain collectives.
    """
    if not is_sharded(model):
        yield
    elif is_zero3_sharded(model):
        with _zero3_gathered(model, is_whole):
            yield
    else:
        with _fsdp_gathered(model, is_whole):
            yield


@contextmanager
def _zero3_gathered(model: nn.Module, is_whole: bool) -> Iterator[None]:
    if not is_whole:
        yield
        return
    import deepspeed
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

    _drop_prefetched(model)
    parameters: list[Any] = list(model.parameters())  # DeepSpeed adds attributes
    apart = [p for p in parameters if p.ds_status == ZeroParamStatus.NOT_AVAILABLE]
    with deepspeed.zero.GatheredParameters(apart), _hooks_resting(model):
        yield


def _drop_prefetched(model: nn.Module) -> None:
    """Wait for what ZeRO-3 is gathering ahead of its use, and drop it.

    What is still on its way can be neither used nor dropped by others. Only the engine's
    coordinator knows it, and only hooks know the coordinator. It gathers again what it misses, so
    its trace of modules stays valid.
    """
    for hook in model._forward_pre_hooks.values():
        offload: Any = inspect.getclosurevars(inspect.unwrap(hook)).nonlocals.get("self")
        if hasattr(offload, "get_param_coordinator"):
            offload.get_param_coordinator()._clean_inflight_param_registry()
            return


@contextmanager
def _fsdp_gathered(model: nn.Module, is_whole: bool) -> Iterator[None]:
    groups = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for group in groups:
        # The first to be initialised is the root, which layers would be that are called directly.
        group._get_fsdp_state()._lazy_init()
    held = groups if is_whole else [g for g in groups if g._get_fsdp_state()._is_root]
    for group in held:
        group.unshard()
    try:
        if is_whole:
            with _hooks_resting(model):
                yield
        else:
            yield
    finally:
        for group in held:
            group.reshard()


@contextmanager
def _hooks_resting(model: nn.Module) -> Iterator[None]:
    """Modules are called without their forward hooks, which come back as they were."""
    modules = list(model.modules())
    kept = [(module._forward_pre_hooks, module._forward_hooks) for module in modules]
    for module in modules:
        module._forward_pre_hooks, module._forward_hooks = OrderedDict(), OrderedDict()
    try:
        yield
    finally:
        for module, hooks in zip(modules, kept, strict=True):
            module._forward_pre_hooks, module._forward_hooks = hooks
