"""Shared fixtures. The package is imported inside them: the jaxtyping hook must come first."""

import os
from dataclasses import replace
from types import SimpleNamespace

# Before torch is imported: test processes that start others must not fight over two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")

# Before the jaxtyping hook: what is imported from within a hooked module is compiled once more.
import beartype.claw  # noqa: F401
import lightning.pytorch.cli  # noqa: F401
import nltk  # noqa: F401
import pytest
import torchmetrics.text  # noqa: F401
import transformers.processing_utils  # noqa: F401
from hypothesis import settings

from tests.families import MODEL_TYPES

# Tests kill processes, not machines: hundreds of checkpoints need not reach the disk.
os.fsync = lambda file: None

# A slow machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def make_sample():
    """Builds a sample with what its task needs."""
    from lit_vdistill.tasks import Task
    from lit_vdistill.types import BoxAt, Evidence, VideoSample

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


@pytest.fixture
def own_tasks(monkeypatch):
    """Tasks that a test defines are forgotten behind it."""
    from lit_vdistill.tasks import Task

    monkeypatch.setattr(Task, "known", dict(Task.known))


@pytest.fixture(scope="session")
def families():
    """The tiny students by family: model and processor, random weights from a fixed seed."""
    import torch

    from lit_vdistill.models.vlm import VLMConfig, load_model, load_processor

    built = {}
    for family in MODEL_TYPES:
        torch.manual_seed(0)
        path = f"tiny/{family}"
        built[family] = (load_model(VLMConfig(path)), load_processor(path))
    return built


@pytest.fixture
def true_positions(monkeypatch):
    """Gives stock networks our positions, where theirs are wrong (`models/families/mrope.py`)."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel

    from lit_vdistill.models.families.mrope import mrope_positions

    def positions(backbone, ids, mm_token_type_ids, second_per_grid_ts=None, **media):
        grids = [media.get(f"{kind}_grid_thw") for kind in ("image", "video")]
        (grid,) = [grid for grid in grids if grid is not None]
        (seconds,) = [1.0] if second_per_grid_ts is None else second_per_grid_ts
        vision = backbone.config.vision_config
        pace = float(seconds) * vision.tokens_per_second
        found = mrope_positions(mm_token_type_ids[0], grid, vision.spatial_merge_size, pace)
        return found[:, None], found.max()[None, None] + 1 - ids.shape[1]

    monkeypatch.setattr(Qwen2_5_VLModel, "get_rope_index", positions)


@pytest.fixture
def make_prompt():
    """Builds an encoded prompt on random pixels; the same name gives the same prompt."""
    import numpy as np

    from lit_vdistill.models.encode import encode_prompt
    from lit_vdistill.models.families import family_of_processor
    from lit_vdistill.types import Medium

    def build(processor, name, kind="video", question="When is the red shape visible?", frames=0):
        edge = family_of_processor(processor).frame_factor(processor) * 2
        content = [{"type": "text", "text": question}]
        medium = None
        if kind != "text":
            count = frames or (8 if kind == "video" else 1)
            seen = {"type": "text", "text": "Frame: "}, {"type": kind}
            content[:0] = seen[1:] if kind == "video" or count == 1 else seen * count
            rng = np.random.default_rng(sum(name.encode()))
            pixels = rng.integers(0, 255, (count, edge, edge, 3), dtype=np.uint8)
            medium = Medium(kind, pixels, tuple(i * 0.5 for i in range(count)))
        return encode_prompt(processor, [{"role": "user", "content": content}], medium, name)

    return build


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """A small embedded world on disk."""
    from lit_vdistill.world.build import build_world
    from lit_vdistill.world.config import WorldConfig

    root = tmp_path_factory.mktemp("world") / "world"
    build_world(root, WorldConfig(train_videos=4, val_videos=1, test_videos=1))
    return root


@pytest.fixture
def batch_of(families, make_prompt, make_sample):
    """Builds a batch of given samples with scored pools, on videos unless told otherwise."""
    from lit_vdistill.data.batch import Item, PromptBatch
    from lit_vdistill.pool.quality import score_responses
    from lit_vdistill.types import TeacherResponse

    def build(*pools, task="mcq", prompts=({},)):
        items = []
        for i, answers in enumerate(pools):
            told = prompts[i % len(prompts)]
            kind = told.get("kind", "video")
            media = None if kind == "text" else f"s{i}"
            sample = make_sample(task, "B", id=f"s{i}", media_type=kind, media=media)
            prompt = make_prompt(families["qwen3-vl"][1], sample.id, **told)
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
    """Builds an experience from a batch and, for each of its items, the texts of a group."""
    from lit_vdistill.rewards import reward_breakdown
    from lit_vdistill.stages.step import Experience
    from lit_vdistill.types import RolloutGroup

    def build(rewards, batch, *texts):
        groups = tuple(
            RolloutGroup(item.sample, rollouts_of(item.sample.id, group))
            for item, group in zip(batch.items, texts, strict=True)
        )
        parts = tuple(
            tuple(reward_breakdown(rewards, r, g.sample) for r in g.rollouts) for g in groups
        )
        return Experience(batch, groups, parts)

    return build


@pytest.fixture
def script(rollouts_of):
    """Makes a stage sample given texts, by sample, with its policy's own log-probabilities."""
    import torch

    from lit_vdistill.models.layout import Row
    from lit_vdistill.models.logprobs import completion_logprobs

    def build(stage, texts):
        asked = []

        def generate(prompts, num_rollouts, sampling, *, seed):
            asked.append([prompt.sample_id for prompt in prompts])
            groups = [rollouts_of(name, texts[name]) for name in asked[-1]]
            rows = [Row(i, r.completion_ids) for i, group in enumerate(groups) for r in group]
            with torch.no_grad():
                scores = completion_logprobs(stage.policy, prompts, rows)
            known = iter(scores.logprobs.tolist())
            return [
                tuple(
                    replace(r, rollout_logprobs=tuple(next(known)[: len(r.completion_ids)]))
                    for r in group
                )
                for group in groups
            ]

        stage.engine = stage.source.engine = SimpleNamespace(
            generate=generate,
            asked=asked,
            is_apart=lambda: False,
            synchronise=lambda: None,
            likely_cause=lambda prompts: "it is a script",
        )
        return stage

    return build


@pytest.fixture
def window_of():
    """Gives a stage the window of an experience, cut into equal pieces."""
    from lit_vdistill.stages.averages import StepMetrics
    from lit_vdistill.stages.pieces import cut
    from lit_vdistill.stages.step import Window

    def build(stage, experience, num_pieces=1):
        size = len(experience.groups)
        pieces = cut([1] * size, num_pieces, size)
        stage.metrics, stage.outcomes = StepMetrics(), []
        counts = stage.counts(experience)
        stage.window = Window(experience, pieces, counts, stage.is_policy_at_rest)
        return stage.window

    return build


@pytest.fixture
def outcome_of():
    """What a stage makes of a piece whose advantages are given."""
    from lit_vdistill.stages.step import GroupScores, PieceOutcome

    def build(stage, part, advantages):
        method = stage.start_method(part, advantages.flatten(), None)
        return PieceOutcome(GroupScores(advantages), advantages, method)

    return build


@pytest.fixture
def take_step():
    """Takes a step's pieces as Lightning does, backward passes included; gives what is logged."""
    from lit_vdistill.data.window import WindowTurn

    def take(stage, batch, num_pieces=1, update=0):
        stage.trainer.accumulate_grad_batches = num_pieces
        stage.zero_grad()
        for piece in range(num_pieces):
            turn = WindowTurn(batch, update=update, piece=piece, num_pieces=num_pieces)
            (stage.training_step(turn, piece) / num_pieces).backward()
        return stage._values

    return take


@pytest.fixture
def prepare(monkeypatch):
    """Gives a stage what a trainer would: networks, a step, and nothing to log to."""

    def build(stage, step=0):
        stage.configure_model()
        trainer = SimpleNamespace(
            global_step=step,
            accumulate_grad_batches=1,
            estimated_stepping_batches=10,
            strategy=SimpleNamespace(handles_gradient_accumulation=False),
        )
        monkeypatch.setattr(type(stage), "trainer", property(lambda self: trainer))
        monkeypatch.setattr(type(stage), "global_step", property(lambda self: trainer.global_step))
        monkeypatch.setattr(stage, "log", lambda *args, **kwargs: None)
        return stage

    return build
