"""Stages on tiny students and scripted rollouts, without a trainer."""

from types import SimpleNamespace

import pytest


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
