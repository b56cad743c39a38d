"""Networks whose weights several processes hold in parts: DeepSpeed ZeRO-3 and FSDP2.

Each gathers the weights of a module as it is called and drops them afterwards, by hooks. A module's
call is then a collective that all processes must take part in, in the same order.
"""

import inspect
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from lit_vdistill.models.families import tower_of

_MARGIN = 1.2
"""Free memory over the weights' size that is asked for: the rest is activations and caches."""


def is_zero3_sharded(module: nn.Module) -> bool:
    """Whether DeepSpeed ZeRO-3 has sharded the weights."""
    return any(hasattr(parameter, "ds_id") for parameter in module.parameters())


def is_sharded(module: nn.Module) -> bool:
    """Whether calling the module is a collective: its weights are sharded, by whatever."""
    # FSDP2's weights are no DTensors while they are gathered; its modules stay what they are.
    is_fsdp = any(isinstance(m, FSDPModule) for m in module.modules())
    return is_fsdp or is_zero3_sharded(module) or _has_dtensors(module)


def _has_dtensors(module: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def shard(network: nn.Module, mesh: DeviceMesh) -> None:
    """Shard a network by FSDP2, in place: the vision tower and each decoder layer are units.

    What is left is the root's: embeddings, last norm and heads, one group, since an embedding may
    be a head's weight too. The root's own forward, whose hooks would gather them, is never called:
    backbone and head are, each by itself. So modules at which a pass begins gather the root's group
    before they run; FSDP2 reduces its gradients and drops it at the end of the backward pass, as it
    does for any root. Without a backward pass it stays whole.

    Args:
        network: A backbone and heads beside it.
        mesh: The processes that share the weights.
    """
    backbone: Any = next(p for p in network.children() if isinstance(p, PreTrainedModel))
    tower = tower_of(backbone)
    looking = [*tower] if isinstance(tower, nn.ModuleList) else [tower]
    for unit in (*looking, *backbone.language_model.layers):
        fully_shard(unit, mesh=mesh)
    root = fully_shard(network, mesh=mesh)

    def begin(module: nn.Module, inputs: Any) -> None:
        # The first to be initialised is taken for the root, which units would be here.
        root._get_fsdp_state()._lazy_init()
        if not isinstance(module, FSDPModule):
            root.unshard()

    heads = [part for part in network.children() if part is not backbone]
    for module in (*looking, backbone.language_model.embed_tokens, *heads):
        module.register_forward_pre_hook(begin, prepend=True)


def drop_gathered(network: nn.Module) -> None:
    """Leave nothing but shards of a sharded network, so that these may be edited; a collective.

    A gathered copy would be used in their place, or written back over them.
    """
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    if is_zero3_sharded(network):
        import deepspeed
        from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

        parameters: list[Any] = list(network.parameters())  # DeepSpeed adds attributes
        whole = [p for p in parameters if p.ds_status == ZeroParamStatus.AVAILABLE]
        if whole:
            with deepspeed.zero.GatheredParameters(whole):
                pass  # leaving frees them


def free_weights(network: nn.Module) -> None:
    """Give back the memory of a network that is not called again; a collective.

    Whoever drops its last own reference to a network leaves others': DDP's and DeepSpeed's lists of
    parameters. So the weights themselves are let go, and ZeRO-3 told not to expect them: it would
    gather what it has seen in earlier steps, and small weights behind each.
    """
    drop_gathered(network)
    parameters: list[Any] = list(network.parameters())
    if is_zero3_sharded(network) and (offload := _zero3_offload(network)) is not None:
        coordinator = offload.get_param_coordinator()
        if coordinator.is_complete_trace():
            coordinator._invalidate_trace()
        freed = {id(parameter) for parameter in parameters}
        kept = [p for p in offload.persistent_parameters if id(p) not in freed]
        offload.persistent_parameters[:] = kept  # the optimizer's list, too
    for tensor in [*parameters, *network.buffers()]:
        for part in (tensor, getattr(tensor, "ds_tensor", None)):
            if part is not None and not isinstance(part, DTensor):
                part.data = part.data.new_empty(0)


def even_turns(turns: Sequence[list[int]], device: torch.device) -> list[list[int]]:
    """As many turns as any process has, the last one repeated; a collective.

    For turns that call sharded networks; what a repeated one gives is what it has given.
    """
    missing = largest_anywhere(len(turns), device) - len(turns)
    return [*turns, *[turns[-1]] * missing]


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
def gathered(model: nn.Module) -> Iterator[None]:
    """All weights are whole on every process, so that calls within are no collectives.

    Entering and leaving are collective; within, each process may call what it likes, without
    gradients and without changing weights. Hooks of the network's modules, all of them, rest
    meanwhile: ZeRO-3's and FSDP2's would drop the weights again. A network that is not sharded is
    left alone.

    Args:
        model: The network; under ZeRO-3 a part of what an engine holds will do, under FSDP2 it is
            what `shard` was given.
    """
    if not is_sharded(model):
        yield
        return
    with _zero3_gathered(model) if is_zero3_sharded(model) else _fsdp_gathered(model):
        yield


@contextmanager
def _zero3_gathered(model: nn.Module) -> Iterator[None]:
    import deepspeed
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

    _drop_prefetched(model)
    parameters: list[Any] = list(model.parameters())  # DeepSpeed adds attributes
    apart = [p for p in parameters if p.ds_status == ZeroParamStatus.NOT_AVAILABLE]
    with deepspeed.zero.GatheredParameters(apart), _hooks_resting(model):
        yield


def _drop_prefetched(model: nn.Module) -> None:
    """Wait for what ZeRO-3 is gathering ahead of its use, and drop it.

    What is still on its way can be neither used nor dropped by others. It is gathered again where
    it is missed, so the coordinator's trace of modules stays valid.
    """
    offload = _zero3_offload(model)
    if offload is not None:
        offload.get_param_coordinator()._clean_inflight_param_registry()


def _zero3_offload(model: nn.Module) -> Any:
    """What gathers weights for an engine; None where none has the network yet.

    Only hooks know it.
    """
    for hook in model._forward_pre_hooks.values():
        found: Any = inspect.getclosurevars(inspect.unwrap(hook)).nonlocals.get("self")
        if hasattr(found, "get_param_coordinator"):
            return found
    return None


@contextmanager
def _fsdp_gathered(model: nn.Module) -> Iterator[None]:
    groups = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for group in groups:
        group._get_fsdp_state()._lazy_init()  # the root comes first, and does it for all
        group.unshard()
    try:
        with _hooks_resting(model):
            yield
    finally:
        drop_gathered(model)


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
