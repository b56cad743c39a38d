"""Shared fixtures. The package is imported inside them: the jaxtyping hook must come first."""

import os
from types import SimpleNamespace

# Before torch is imported: test processes that start others must not fight over two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")

import pytest


@pytest.fixture
def make_sample():
    """Builds a sample with what its task needs."""
    from lit_vdistill.types import BoxAt, Evidence, Task, VideoSample

    def build(task="mcq", answer="B", **changes):
        fields = {
            "id": "s1",
            "task": Task(task),
            "question": "What?",
            "answer": answer,
            "media": "v.mp4",
            "options": ("cat", "dog", "cow") if "mcq" in task else (),
            "evidence": Evidence(
                spans=((2.0, 8.0),), boxes=(BoxAt(3.0, "dog", (0.0, 0.0, 100.0, 100.0)),)
            ),
        }
        return VideoSample(**(fields | changes))

    return build


@pytest.fixture(scope="session")
def families():
    """The tiny students by family: model and processor, random weights from a fixed seed."""
    import torch

    from lit_vdistill.models.vlm import VLMConfig, load_model, load_processor

    built = {}
    for family in ("qwen3-vl", "qwen2.5-vl"):
        torch.manual_seed(0)
        path = f"tiny/{family}"
        built[family] = (load_model(VLMConfig(path)), load_processor(path))
    return built


@pytest.fixture
def make_prompt():
    """Builds an encoded prompt on random pixels; the same name gives the same prompt."""
    import numpy as np

    from lit_vdistill.models.prompt import encode_prompt
    from lit_vdistill.types import Medium

    def build(processor, name, kind="video", question="When is the red shape visible?", frames=8):
        video = processor.video_processor
        edge = video.patch_size * video.merge_size * 2
        content = [{"type": "text", "text": question}]
        medium = None
        if kind != "text":
            content.insert(0, {"type": kind})
            count = frames if kind == "video" else 1
            rng = np.random.default_rng(sum(name.encode()))
            pixels = rng.integers(0, 255, (count, edge, edge, 3), dtype=np.uint8)
            medium = Medium(kind, pixels, tuple(i * 0.5 for i in range(count)))
        return encode_prompt(processor, [{"role": "user", "content": content}], medium, name)

    return build


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A small embedded world on disk."""
    from lit_vdistill.world.build import build_world
    from lit_vdistill.world.scenes import WorldConfig

    root = tmp_path_factory.mktemp("world") / "world"
    build_world(root, WorldConfig(train_videos=4, val_videos=1))
    return root


@pytest.fixture
def batch_of(families, make_prompt, make_sample):
    """Builds a batch of given samples with scored pools."""
    from lit_vdistill.data.dataset import Item, PromptBatch
    from lit_vdistill.pool.quality import score_responses
    from lit_vdistill.types import TeacherResponse

    def build(*pools, task="mcq"):
        items = []
        for i, answers in enumerate(pools):
            sample = make_sample(task, "B", id=f"s{i}")
            prompt = make_prompt(families["qwen3-vl"][1], sample.id)
            texts = [f"<think>t</think><answer>{answer}</answer>" for answer in answers]
            responses = [
                TeacherResponse(sample.id, k, t, "m", 1.0, 0.9) for k, t in enumerate(texts)
            ]
            items.append(Item(sample, prompt, score_responses(sample, responses)))
        return PromptBatch(tuple(items))

    return build


@pytest.fixture
def rollouts_of(families):
    """Builds the rollouts of one group from texts; a text ending in `…` is truncated."""
    from lit_vdistill.models.tokens import response_ids
    from lit_vdistill.types import Rollout

    def build(sample_id, texts):
        group = []
        for index, text in enumerate(texts):
            is_truncated = text.endswith("…")
            text = text.removesuffix("…")
            ids = response_ids(families["qwen3-vl"][1], text, is_complete=not is_truncated)
            group.append(Rollout(sample_id, index, ids, (0.0,) * len(ids), text, is_truncated, 1.0))
        return tuple(group)

    return build


@pytest.fixture
def sampled_of(rollouts_of):
    """Builds a sampled step from a batch and, for each of its items, the texts of a group."""
    from lit_vdistill.rewards import reward_breakdown
    from lit_vdistill.stages.step import SampledStep
    from lit_vdistill.types import RolloutGroup

    def build(rewards, batch, *texts):
        groups = tuple(
            RolloutGroup(item.sample, rollouts_of(item.sample.id, group))
            for item, group in zip(batch.items, texts, strict=True)
        )
        parts = tuple(
            tuple(reward_breakdown(rewards, r.text, g.sample) for r in g.rollouts) for g in groups
        )
        return SampledStep(batch, groups, parts)

    return build


@pytest.fixture
def prepare(monkeypatch):
    """Gives a stage what a trainer would: networks, a step, and nothing to log to."""

    def build(stage, step=0):
        stage.configure_model()
        trainer = SimpleNamespace(
            global_step=step,
            accumulate_grad_batches=1,
            estimated_stepping_batches=10,
            strategy=SimpleNamespace(
                handles_gradient_accumulation=False, reduce=lambda value, reduce_op: value
            ),
        )
        monkeypatch.setattr(type(stage), "trainer", property(lambda self: trainer))
        monkeypatch.setattr(type(stage), "global_step", property(lambda self: trainer.global_step))
        monkeypatch.setattr(stage, "log", lambda *args, **kwargs: None)
        return stage

    return build
