"""Which networks a checkpoint has: a stage may have let one go on its way."""

from collections.abc import Collection
from pathlib import Path

import torch
from torch.distributed.checkpoint.filesystem import FileSystemReader

_STATE = "state_dict"


def saved_weights(path: Path) -> Collection[str]:
    """Names of the weights in a checkpoint of one file, or in a folder that FSDP2 has written.

    No weight is read.

    Raises:
        FileNotFoundError: When it is not there.
    """
    if path.is_dir():
        names = FileSystemReader(path).read_metadata().state_dict_metadata
        return [name.removeprefix(f"{_STATE}.") for name in names if name.startswith(_STATE)]
    return torch.load(path, mmap=True, map_location="meta", weights_only=True)[_STATE].keys()


def has_network(weights: Collection[str], name: str) -> bool:
    """Whether weights of a network are among these.

    Args:
        weights: Names of weights, as `state_dict` has them.
        name: Of the network within the stage.
    """
    return any(weight.startswith(f"{name}.") for weight in weights)
