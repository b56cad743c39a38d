"""DeepSpeed's strategy on CPU, which Lightning reserves for CUDA; configs name it in tests."""

import torch
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy


class CPUDeepSpeed(DeepSpeedStrategy):
    """DeepSpeed without the check for CUDA; gloo instead of NCCL."""

    def setup_environment(self):
        DDPStrategy.setup_environment(self)

    def setup_distributed(self):
        reset_seed()
        self.set_world_ranks()
        self._init_deepspeed_distributed()

    @property
    def root_device(self):
        return torch.device("cpu", self.local_rank)
