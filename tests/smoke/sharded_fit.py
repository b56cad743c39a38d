"""Four steps on two CPU processes, by DDP or DeepSpeed ZeRO: a program, not a test.

python tests/smoke/sharded_fit.py METHOD STRATEGY WORLD STUDENT OUT [PRECISION CHECKPOINTS], METHOD
being rmsd or visd and STRATEGY ddp or a ZeRO stage. The folder of checkpoints is filled after step
2, or resumed from where it has one.
"""

import sys
from pathlib import Path

import torch
from lightning.fabric.utilities.seed import reset_seed
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
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


class KeepTeacher(Callback):
    """Writes this process's float32 shards of the teacher beside the exported student."""

    def __init__(self, out):
        self.out = out

    def on_train_end(self, trainer, pl_module):
        torch.save(pl_module._ema.master, f"{self.out}.teacher{trainer.global_rank}.pt")


def main(method, strategy, world, student, out, precision="32-true", checkpoints=None):
    seed_everything(0)
    data = VideoDistillDataModule(
        student,
        SourceConfig(f"{world}/train.jsonl", f"{world}/val.jsonl", world, f"{world}/pool.jsonl"),
        prompt=PromptConfig(template="short"),
        loader=LoaderConfig(batch_size=1, val_batch_size=3),
    )
    stage = stage_of(method, student)
    more = [EMATeacherUpdate(rate=0.5), KeepTeacher(out)] if method == "visd" else []
    kept = Path(checkpoints, "step=2.ckpt") if checkpoints else None
    is_resumed = kept is not None and kept.exists()
    if kept is not None and not is_resumed:
        more.append(ModelCheckpoint(checkpoints, "{step}", every_n_train_steps=2, save_top_k=-1))
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp" if strategy == "ddp" else CPUDeepSpeed(stage=int(strategy)),
        precision=precision,
        max_steps=4,
        accumulate_grad_batches=2,
        gradient_clip_val=0.05,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        val_check_interval=8,
        logger=False,
        enable_checkpointing=kept is not None and not is_resumed,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        callbacks=[*more, ExportStudent(out)],
    )
    trainer.fit(stage, data, ckpt_path=kept if is_resumed else None)


if __name__ == "__main__":
    main(*sys.argv[1:])
