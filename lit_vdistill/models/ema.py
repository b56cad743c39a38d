"""A teacher that follows its student slowly (VISD Eq. 8)."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lit_vdistill.models.sharding import is_zero3_sharded


class EMAWeights:
    """Moves a teacher towards its student, in float32 whatever both are stored in.

    In bfloat16 a hundredth of a small change rounds to nothing and the teacher stands still, so
    its weights are kept in float32 here and copied into the network. A float32 teacher is its own
    master. Under ZeRO-3 every process keeps and moves its own shards.
    """

    def __init__(self) -> None:
        """Start without a master; it is taken from the teacher at the first update."""
        self.master: dict[str, Tensor] = {}

    @torch.no_grad()
    def update(self, teacher: PreTrainedModel, student: PreTrainedModel, rate: float) -> None:
        """Move every weight: t <- (1 - rate) t + rate s.

        Args:
            teacher: A copy of the student, changed in place.
            student: Its student, on the same device and sharded alike.
            rate: 1 - τ of Eq. 8; 1 copies the student.
        """
        if is_zero3_sharded(teacher):
            self._update_shards(teacher, student, rate)
            return
        sources = dict(student.named_parameters())
        for name, target in teacher.named_parameters():
            self._move(name, target.data, sources[name], rate)

    def _move(self, name: str, target: Tensor, source: Tensor, rate: float) -> None:
        if target.dtype == torch.float32:
            target.lerp_(source.float(), rate)
            return
        master = self.master.setdefault(name, target.float())
        master.lerp_(source.float(), rate)
        target.copy_(master)

    def _update_shards(
        self, teacher: PreTrainedModel, student: PreTrainedModel, rate: float
    ) -> None:
        """Edit shards in place, once no gathered copy is left that would be used or written back.

        The student's shard comes from the optimizer's float32 copy; what is not trained has none
        and has not moved.
        """
        import deepspeed
        from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus
        from deepspeed.utils import safe_get_local_fp32_param

        targets: dict[str, Any] = dict(teacher.named_parameters())  # DeepSpeed adds attributes
        gathered = [p for p in targets.values() if p.ds_status == ZeroParamStatus.AVAILABLE]
        if gathered:
            with deepspeed.zero.GatheredParameters(gathered):
                pass  # leaving frees them
        sources = dict(student.named_parameters())
        for name, target in targets.items():
            source = safe_get_local_fp32_param(sources[name])
            if source is None:
                continue
            shard = target.ds_tensor.data
            length = source.numel()
            self._move(name, shard[:length], source.view(-1), rate)
