"""Short runs on one or several CPU processes under any strategy: a program, not a test.

python tests/smoke/sharded_fit.py DATA STUDENT TEACHER CASES, in each process, with LOCAL_RANK,
MASTER_ADDR and MASTER_PORT set where there are several; CASES is a JSON list of fields of `Case`. A
case leaves its student at OUT and what its steps were at OUT.json.
"""

import gc
import json
import os
import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
import yaml
from cpu_deepspeed import CPUDeepSpeed
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.tensor import DTensor
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from callbacks import (
    EMATeacherUpdate,
    ExportStudent,
    LambdaAnnealing,
    RandomState,
    TokenCreditView,
)
from lit_vdistill import processes
from lit_vdistill.data.datamodule import LoaderConfig, SourceConfig, VideoDistillDataModule
from lit_vdistill.data.prompt_config import PromptConfig
from lit_vdistill.media.video import FrameConfig
from lit_vdistill.models import logprobs
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.rewards import Content, OuterFormat, TaskFormat
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.rollouts.vllm_engine import VLLMRolloutEngine
from lit_vdistill.stages import optimizer, vlm_stage
from lit_vdistill.stages.on_policy import OnPolicyModule, PolicyLossConfig
from lit_vdistill.stages.opd import DistillConfig, OPDModule
from lit_vdistill.stages.optimizer import OptimConfig
from lit_vdistill.stages.replay import CreditConfig
from lit_vdistill.stages.rmsd import DiscriminatorConfig, RMSDModule
from lit_vdistill.stages.sft import SFTModule
from lit_vdistill.stages.validation import ValidationConfig
from lit_vdistill.stages.visd import VISDModule

RATES = {"sgd": 8e-3, "adamw": 1e-4}


@dataclass(frozen=True)
class Case:
    method: str
    strategy: str
    """ddp, fsdp2, fsdp2-file (its checkpoints are one file), auto, or a ZeRO stage."""
    out: str
    num_processes: int = 1
    optimizer: str = "sgd"
    precision: str = "32-true"
    num_steps: int = 3
    max_tokens: int = 400
    """Of a rollout turn: a process has several."""
    num_pieces: int = 2
    window_size: int = 4
    """Prompts of a step, over all processes."""
    save_to: str | None = None
    """A folder: a checkpoint after step 2 is written there."""
    resume_from: str | None = None
    view_to: str | None = None
    """A folder for `TokenCreditView`."""
    anneal_steps: int = 0
    """Of VISD's λ, down to 0."""
    clip: float | None = None
    """`gradient_clip_val`, instead of what its method and optimizer have here."""
    router_loss_coef: float = 0.0
    engine_url: str | None = None
    """Of a server that draws the rollouts."""
    overlap: int = 0


class PaidByTokens:
    """An untrained student earns nothing from rules; its tokens give groups a signal all the same.

    Samples marked idle pay nothing: their rollouts have no advantage.
    """

    def rule_rewards(self, experience):
        paid = [
            [float("idle" not in g.sample.meta) * (sum(r.completion_ids) % 7) for r in g.rollouts]
            for g in experience.groups
        ]
        return torch.tensor(paid, device=self.device)


class GRPO(PaidByTokens, OnPolicyModule): ...


class RMSD(PaidByTokens, RMSDModule): ...


class VISD(PaidByTokens, VISDModule): ...


class OPD(PaidByTokens, OPDModule): ...


def stage_of(case, student, teacher):
    rate = RATES[case.optimizer]
    engine = case.engine_url and partial(VLLMRolloutEngine, url=case.engine_url, patience_s=60.0)
    shared = {
        "sampling": SamplingConfig(
            12, max_tokens=case.max_tokens, engine=engine, overlap=case.overlap
        ),
        "validation": ValidationConfig(num_samples=0),
        "optim": OptimConfig(
            lr=rate, weight_decay=0.1 * (case.optimizer == "adamw"), decay="constant", horizon=10
        ),
    }
    rewards = [OuterFormat(0.1), TaskFormat(0.1), Content(0.4)]
    dtype = "bfloat16" if case.precision == "bf16-true" else "float32"
    policy = VLMConfig(
        student,
        dtype=dtype,
        verify_shared_prefix="never",
        router_loss_coef=case.router_loss_coef,
    )
    if case.method == "sft":
        return SFTModule(policy, rewards, **shared)
    if case.method == "grpo":
        frozen = VLMConfig(student, freeze_vision=True)
        loss = PolicyLossConfig(
            group_size=3, kl_coef=0.0, reduction="token_mean",
            mismatch="truncate" if case.overlap else "none",
        )  # fmt: skip
        return GRPO(frozen, rewards, loss=loss, **shared)
    if case.method == "rmsd":
        # The policy begins to learn within the run.
        disc = DiscriminatorConfig(warmup_max_steps=1, lr=rate, pair_weight="q_norm")
        loss = PolicyLossConfig(group_size=3, kl_coef=0.1)
        return RMSD(policy, rewards, disc=disc, loss=loss, **shared)
    if case.method == "opd":
        distill = DistillConfig(reward_weight=1.0, divergence="jensen_shannon")
        loss = PolicyLossConfig(group_size=3, kl_coef=0.0)
        return OPD(policy, rewards, VLMConfig(teacher), distill=distill, loss=loss, **shared)
    # A teacher that follows fast and decides all, so that a wrong one would show.
    return VISD(
        policy,
        rewards,
        credit=CreditConfig(mix=1.0, clip=0.9, top_k=4),
        loss=PolicyLossConfig(group_size=3, kl_coef=0.0),
        **shared,
    )


def strategy_of(case):
    if case.strategy in ("auto", "ddp"):
        return case.strategy
    if case.strategy.startswith("fsdp2"):
        return ModelParallelStrategy(
            case.num_processes, 1, save_distributed_checkpoint=case.strategy == "fsdp2"
        )
    stage = int(case.strategy)
    # Buckets of the size of these networks, so that there are several.
    return CPUDeepSpeed(stage=stage, reduce_bucket_size=100_000, allgather_bucket_size=100_000)


class Chronicle(Callback):
    """Writes what the steps were: loss, and rollouts and a random number of all processes."""

    def __init__(self, out):
        self.out, self.steps = Path(f"{out}.json"), []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if not batch.is_last:
            return
        window = getattr(pl_module, "window", None)
        groups = window.experience.groups if window else ()
        drawn = {g.sample.id: [r.completion_ids for r in g.rollouts] for g in groups}
        everywhere = processes.gather((drawn, torch.rand(()).item()))
        self.steps.append(
            {
                "loss": pl_module._values["train/loss"],
                "norms": {
                    name.removesuffix("/grad_norm"): float(norm)
                    for name, norm in trainer.callback_metrics.items()
                    if name.endswith("/grad_norm")
                },
                "rollouts": {name: ids for part, _ in everywhere for name, ids in part.items()},
                "numbers": [number for _, number in everywhere],
                "weight_bytes": processes.gather(weight_bytes()),
                "has_teacher": bool(getattr(pl_module, "ema_teacher", None)),
            }
        )

    def on_train_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            self.out.write_text(json.dumps(self.steps))


class KeepConfig(Callback):
    """What a run of `fit` keeps in its checkpoints, as far as `export` reads it."""

    def __init__(self, policy, data):
        processor, sources = data.processor_path, asdict(data.sources)
        self.config = {
            "name": "sharded",
            "model": {
                "class_path": "lit_vdistill.stages.SFTModule",
                "init_args": {"policy": {"path": policy.path, "dtype": policy.dtype}},
            },
            "data": {
                "class_path": "lit_vdistill.data.datamodule.VideoDistillDataModule",
                "init_args": {"processor": processor, "sources": sources},
            },
        }

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        checkpoint["lit_vdistill_config"] = yaml.safe_dump(self.config)


def weight_bytes():
    """Of all weights that anybody in this process still holds, shards of them included."""
    gc.collect()
    held = {}
    for weight in [x for x in gc.get_objects() if issubclass(type(x), torch.Tensor)]:
        if isinstance(weight, torch.nn.Parameter):
            for part in (weight, getattr(weight, "ds_tensor", None)):
                part = part.to_local() if isinstance(part, DTensor) else part
                if part is not None:
                    storage = part.untyped_storage()
                    held[storage.data_ptr()] = storage.nbytes()
    return sum(held.values())


class KeepTeacher(Callback):
    """Writes this process's float32 shards of the teacher beside the exported student."""

    def __init__(self, out):
        self.out = out

    def on_train_end(self, trainer, pl_module):
        torch.save(pl_module._ema.state(), f"{self.out}.teacher{trainer.global_rank}.pt")


class UnlikeStates(Callback):
    """Processes whose random states differ, as dropout of unlike data leaves them."""

    def on_fit_start(self, trainer, pl_module):
        torch.manual_seed(100 + trainer.global_rank)


def run(data, student, teacher, case):
    seed_everything(0)
    if case.optimizer == "sgd":
        vlm_stage.RestingAdamW = torch.optim.SGD
        optimizer.QUIET = 1.0  # nothing is clipped, and SGD would see a quieter loss
    files = (f"{data}/{name}" for name in ("train.jsonl", "val.jsonl", "", "pool.jsonl", "frames"))
    sources = SourceConfig(*files)
    module = VideoDistillDataModule(
        student,
        sources,
        frames=FrameConfig(max_frames=6),
        prompt=PromptConfig(template="short"),
        loader=LoaderConfig(batch_size=case.window_size // case.num_processes),
    )
    stage = stage_of(case, student, teacher)
    stage.checkpoint = case.resume_from
    more = [UnlikeStates(), RandomState(), Chronicle(case.out), ExportStudent(case.out)]
    if case.method == "visd":
        more += [EMATeacherUpdate(rate=0.5), KeepTeacher(case.out)]
    if case.anneal_steps:
        more.append(LambdaAnnealing(case.anneal_steps))
    if case.view_to:
        more.append(TokenCreditView(case.view_to, every_n_steps=1))
    if case.save_to:
        more.append(KeepConfig(stage.policy_config, module))
        more.append(ModelCheckpoint(case.save_to, "{step}", every_n_train_steps=2, save_top_k=-1))
    trainer = Trainer(
        accelerator="cpu",
        devices=case.num_processes,
        strategy=strategy_of(case),
        precision=case.precision,
        max_steps=case.num_steps,
        accumulate_grad_batches=case.num_pieces,
        # SGD's steps show a wrong scale of gradients, AdamW's a wrong norm.
        # R-MSD's networks are clipped each by itself, which DeepSpeed cannot: none is here.
        gradient_clip_val=case.clip
        or (None if case.optimizer == "sgd" or case.method == "rmsd" else 0.5),
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=case.save_to is not None,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=more,
    )
    trainer.fit(stage, module, ckpt_path=case.resume_from)


def main(data, student, teacher, cases):
    adamw, quiet = vlm_stage.RestingAdamW, optimizer.QUIET
    # Chunks of so few tokens that processes have unlike numbers of them.
    for scores in (logprobs.head_scores, logprobs.completion_logprobs):
        scores.__kwdefaults__["chunk_size"] = 8
    for case in json.loads(cases):
        run(data, student, teacher, Case(**case))
        vlm_stage.RestingAdamW, optimizer.QUIET = adamw, quiet
        unset_hf_deepspeed_config()  # lasts as long as its stage, and some callback holds that


if __name__ == "__main__":
    main(*sys.argv[1:])
    # All is written. Taking gloo apart at the interpreter's end aborts the process now and then
    # ("terminate called without an active exception", torch 2.14).
    sys.stderr.flush()
    os._exit(0)
