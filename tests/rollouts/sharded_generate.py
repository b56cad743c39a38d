"""Rollouts on two CPU processes from weights sharded by ZeRO-3 or FSDP2: a program, not a test.

python tests/rollouts/sharded_generate.py SHARDING FAMILY RANK FOLDER; what was drawn, and how, is
written to `FOLDER/RANK.json`. The first process has one prompt without a medium, the second four,
of which the last asks about the first one's video.
"""

import json
import sys
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.utils._python_dispatch import TorchDispatchMode

from lit_vdistill.models.encode import encode_prompt
from lit_vdistill.models.sharding import Room, is_sharded, shard
from lit_vdistill.models.vlm import VLMConfig, load_model, load_processor
from lit_vdistill.rollouts import hf_engine
from lit_vdistill.rollouts.engine import SamplingConfig, rollout_turns
from lit_vdistill.types import Medium

SAMPLING = SamplingConfig(max_completion_tokens=8, max_tokens=120)


class GatherCount(TorchDispatchMode):
    """Counts the collectives that gather weights."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += "allgather" in str(func)
        return func(*args, **(kwargs or {}))


class Step(nn.Module):
    """Sampling within a call of the engine's module, as in a stage."""

    def __init__(self, policy):
        super().__init__()
        self.policy = policy

    def forward(self, sample, inputs):
        drawn = sample()
        return drawn, self.policy(**inputs).logits.float().logsumexp(-1).mean()


def prompts_of(processor, rank):
    shown = [("text", 0)] if rank == 0 else [("video", 0), ("image", 1), ("video", 2), ("video", 0)]
    edge = processor.video_processor.patch_size * processor.video_processor.merge_size * 2
    prompts = []
    for index, (kind, seed) in enumerate(shown):
        content = [{"type": "text", "text": "Which shape is shown?"[: 12 + 9 * index]}]
        medium = None
        if kind != "text":
            content.insert(0, {"type": kind})
            count = 2 + 2 * seed if kind == "video" else 1
            frames = np.random.default_rng(seed).integers(0, 255, (count, edge, edge, 3), np.uint8)
            medium = Medium(kind, frames, tuple(0.5 * i for i in range(count)))
        messages = [{"role": "user", "content": content}]
        prompts.append(encode_prompt(processor, messages, medium, f"{rank}-{index}"))
    return prompts


def sharded(policy, sharding):
    """A call that takes a step with the sharded policy: what was drawn, loss, gradient norm."""
    step = Step(policy)
    if sharding != "zero3":
        if sharding == "fsdp2":
            shard(policy, init_device_mesh("cpu", (2,)))

        def take(sample, inputs):
            drawn, loss = step(sample, inputs)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(policy.parameters(), 1e9)
            policy.zero_grad()
            return drawn, loss.item(), getattr(norm, "full_tensor", lambda: norm)().item()

        return take
    import deepspeed

    engine, *_ = deepspeed.initialize(
        model=step,
        optimizer=torch.optim.SGD(step.parameters(), lr=0.0),
        config={
            "train_micro_batch_size_per_gpu": 1,
            "zero_allow_untested_optimizer": True,
            "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 100},
        },
    )

    def take(sample, inputs):
        drawn, loss = engine(sample, inputs)
        engine.backward(loss)
        engine.step()
        return drawn, loss.item(), float(engine.get_global_grad_norm())

    return take


def main(sharding, family, rank, folder):
    rank = int(rank)
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", store, rank=rank, world_size=2)
    torch.manual_seed(0)
    policy, processor = load_model(VLMConfig(f"tiny/{family}")), load_processor(f"tiny/{family}")
    with torch.no_grad():
        # A large logit, up or down: rollouts end at different places.
        policy.get_input_embeddings().weight[processor.tokenizer.eos_token_id] *= 40
    prompts = prompts_of(processor, rank)
    engine = hf_engine.HFRolloutEngine(policy, processor)

    def sample(max_completion_tokens=8):
        sampling = replace(SAMPLING, max_completion_tokens=max_completion_tokens)
        with GatherCount() as gathers:
            groups = engine.generate(prompts, 3, sampling, seed=1)
        ids = [[rollout.completion_ids for rollout in group] for group in groups]
        return {"ids": ids, "num_gathers": gathers.count}

    inputs = {"input_ids": prompts_of(processor, 0)[0].input_ids[None]}
    turns = len(rollout_turns(prompts, 3, SAMPLING))
    found = {"turns": turns, "whole": sharded(policy, "none")(sample, inputs)}
    take = sharded(policy, sharding)
    assert is_sharded(policy)
    # From the third step on ZeRO-3 knows what comes next and gathers it ahead.
    found["gathered"] = [take(sample, inputs) for _ in range(3)]
    with patch.object(hf_engine, "room_for_whole", lambda model: Room(0, 0, False)):
        found["in_step"] = [take(sample, inputs) for _ in range(2)]
    found["shorter"] = take(lambda: sample(2), inputs)
    with open(f"{folder}/{rank}.json", "w") as file:
        json.dump(found, file)
    torch.distributed.barrier()


if __name__ == "__main__":
    main(*sys.argv[1:])
