from dataclasses import replace

import pytest
import torch

from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.models.discriminator import Discriminator
from lit_vdistill.models.vlm import VLMConfig, load_model
from lit_vdistill.pool.matching import MatchingConfig
from lit_vdistill.rewards import OuterFormat
from lit_vdistill.stages.averages import StepMetrics
from lit_vdistill.stages.critique import Critique, critique, describe_critique
from lit_vdistill.stages.matches import match_teachers

RIGHT = "<think>t</think><answer>B</answer>"
LONG = "<think>t t t t</think><answer>A</answer>"
MATCHING = MatchingConfig(mode="uniform", threshold=0.0)


@pytest.mark.parametrize(
    ("condition", "sees_video", "sees_question"),
    [("video_question", True, True), ("question", False, True), ("none", False, False)],
)
def test_a_score_depends_on_what_is_seen_alone(
    families, batch_of, sampled_of, make_prompt, condition, sees_video, sees_question
):
    """Two prompts each, with another video or with other options behind the same words."""
    torch.manual_seed(0)
    discriminator = Discriminator(load_model(VLMConfig("tiny/qwen3-vl")), "last_token")
    processor = families["qwen3-vl"][1]

    def scored(batch):
        sampled = sampled_of([OuterFormat()], batch, *[[RIGHT]] * len(batch))
        matches = match_teachers(sampled, MATCHING, seed=0, step=0)
        with torch.no_grad():
            return critique(discriminator, processor, sampled, matches, condition).students

    # As many frames, other pixels: `batch_of` draws them by the sample's name.
    videos = scored(batch_of(["B"], ["B"]))
    # Rows of a batch may be rounded apart; what is seen moves a score a hundred times as far.
    assert ((videos[0] - videos[1]).abs().max() < 1e-6) == (not sees_video)
    asked = batch_of(["B"])
    (item,) = asked.items
    question = "Which one is green?"
    told = replace(item.sample, question=question)
    prompt = make_prompt(processor, "s0", question=question)
    changed = PromptBatch((replace(item, sample=told, prompt=prompt),))
    assert ((scored(asked) - scored(changed)).abs().max() < 1e-6) == (not sees_question)


def test_correlations_are_within_prompts(batch_of, sampled_of):
    """D rises with length in each group, and is lower throughout where responses are longer."""
    sampled = sampled_of([OuterFormat()], batch_of(["B", "A"], ["B"]), [RIGHT, LONG], [LONG, RIGHT])
    matches = match_teachers(sampled, MATCHING, seed=0, step=0)
    students = torch.tensor([[0.0, 1.0], [9.0, 8.0]])
    said = Critique(students, (torch.tensor([5.0, 1.0]), torch.tensor([-9.0])))
    metrics = StepMetrics()
    describe_critique(metrics, said, sampled, matches)
    found = metrics.reduced()
    assert found["disc/corr_length"] == pytest.approx(1.0)
    # One teacher response beside no other says nothing, however low it stands.
    assert found["disc/corr_quality"] == pytest.approx(1.0)
