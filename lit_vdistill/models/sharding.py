"""Whether and how weights are spread over processes."""

from torch import nn
from torch.distributed.tensor import DTensor


def is_sharded(module: nn.Module) -> bool:
    """Whether a process holds a part of the weights only: by ZeRO-3 (`ds_id`) or FSDP2 (DTensor).

    Each call of such a module is a collective: all processes must make it together.
    """
    return any(hasattr(p, "ds_id") or isinstance(p, DTensor) for p in module.parameters())
