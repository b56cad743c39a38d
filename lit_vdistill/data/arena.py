"""Tensors that are kept for a run, in one block of memory."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_ALIGNMENT = 64


class Arena:
    """Keeps copies of tensors in a block of a fixed size, and nothing beyond it.

    Kept one by one they would lie between freed temporaries on the heap, which then cannot shrink:
    a process held twice of what was counted. The system gives the block its pages as they are
    written to, so that a large one costs nothing before it fills.
    """

    def __init__(self, size: int) -> None:
        """Set up; the block is reserved with the first tensor.

        Args:
            size: Bytes.
        """
        self.size, self.used, self._beside = size, 0, 0
        self._block: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """A loading process that is started anew begins with an empty one."""
        return {"size": self.size, "used": 0, "_beside": 0, "_block": None}

    def keep(self, tensors: Sequence[Tensor], overhead: int = 0) -> list[Tensor] | None:
        """Copies of tensors in the block; None, and nothing is kept, where there is no room.

        Args:
            tensors: On the CPU, of any kind and shape.
            overhead: Bytes to count in addition, for what lies beside the block.

        Raises:
            ValueError: When the system does not give as much memory; names the key.
        """
        starts, end = [], self.used
        for tensor in tensors:
            starts.append(end)
            size = tensor.numel() * tensor.element_size()
            end += -(-size // _ALIGNMENT) * _ALIGNMENT
        if end + self._beside + overhead > self.size:
            return None
        self.used = end
        self._beside += overhead
        return [self._copy(t, start) for t, start in zip(tensors, starts, strict=True)]

    def _copy(self, tensor: Tensor, start: int) -> Tensor:
        if self._block is None:
            try:
                self._block = torch.empty(self.size, dtype=torch.uint8)
            except RuntimeError as error:
                raise ValueError(
                    f"data.loader.memory_gib: {self.size / 2**30:.1f} GiB cannot be reserved on "
                    "this machine; set it lower (each of data.loader.num_workers keeps as much)"
                ) from error
        size = tensor.numel() * tensor.element_size()
        place = self._block[start : start + size].view(tensor.dtype).view(tensor.shape)
        return place.copy_(tensor)
