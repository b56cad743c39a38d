"""Four steps on two CPU processes, by DDP or DeepSpeed ZeRO: a program, not a test.

python tests/smoke/sharded_fit.py METHOD STRATEGY WORLD STUDENT OUT, METHOD being rmsd or visd and
STRATEGY ddp or a ZeRO stage.
"""

import sys

import torch
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy

from callbacks import EMATeacherUpdate, ExportStudent
from lit_vdistill.data.datamodule import LoaderConfig, SourceConfig, VideoDistillDataModule
from lit_vdistill.data.dataset import PromptConfig
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.rewards import Content, OuterFormat, TaskFormat
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.on_policy import PolicyLossConfig
from lit_vdistill.stages.replay import CreditConfig
from lit_vdistill.stages.rmsd import DiscriminatorConfig, RMSDModule
from lit_vdistill.stages.visd import VISDModule
from lit_vdistill.stages.vlm_stage import OptimConfig, ValidationConfig


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


def stage_of(method, student):
    shared = {
        "sampling": SamplingConfig(max_completion_tokens=6),
        "validation": ValidationConfig(num_samples=0),
        "optim": OptimConfig(lr=1e-3),
    }
    if method == "rmsd":
        return RMSDModule(
            VLMConfig(student),
            [OuterFormat(0.1), TaskFormat(0.1), Content(0.4)],
            disc=DiscriminatorConfig(warmup_max_steps=1, lr=1e-3),
            loss=PolicyLossConfig(group_size=2),
            **shared,
        )
    # A teacher that follows fast and decides all, so that a wrong one would show.
    return ByLength(
        VLMConfig(student),
        [OuterFormat()],
        credit=CreditConfig(mix=1.0, clip=0.9, top_k=4),
        loss=PolicyLossConfig(group_size=2, kl_coef=0.0),
        **shared,
    )


class ByLength(VISDModule):
    """An untrained student earns nothing from a verifier; this one pays for short rollouts."""

    def rule_rewards(self, sampled):
        lengths = [[float(-len(r.completion_ids)) for r in g.rollouts] for g in sampled.groups]
        return torch.tensor(lengths, device=self.device)


def main(method, strategy, world, student, out):
    seed_everything(0)
    data = VideoDistillDataModule(
        student,
        SourceConfig(f"{world}/train.jsonl", f"{world}/val.jsonl", world, f"{world}/pool.jsonl"),
        prompt=PromptConfig(template="short"),
        loader=LoaderConfig(batch_size=1, val_batch_size=3),
    )
    stage = stage_of(method, student)
    followers = [EMATeacherUpdate(rate=0.5)] if method == "visd" else []
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp" if strategy == "ddp" else CPUDeepSpeed(stage=int(strategy)),
        max_steps=4,
        accumulate_grad_batches=2,
        gradient_clip_val=0.05,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        val_check_interval=8,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        callbacks=[ExportStudent(out), *followers],
    )
    trainer.fit(stage, data)


if __name__ == "__main__":
    main(*sys.argv[1:])
