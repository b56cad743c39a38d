"""The students in the repository are what their cards say."""

import hashlib
import re
import statistics
from pathlib import Path

import pytest
import torch

from experiments.students import STAGE1, Student
from lit_vdistill.models.vlm import VLMConfig, check_same_tokens, load_model
from lit_vdistill.world.build import build_world
from lit_vdistill.world.config import WorldConfig

STUDENTS = {STAGE1: "tiny/qwen3-vl", "experiments/stage1_tiny_qwen3.5/student": "tiny/qwen3.5"}
"""By folder what each was before it learnt."""


@pytest.fixture(params=STUDENTS)
def student(request):
    """A folder."""
    return Path(request.param)


@pytest.fixture
def card(student):
    text = (student.parent / "README.md").read_text()
    return dict(re.findall(r"^\| ([^|]+) \| `([^`|]+)` \|$", text, re.M))


def test_the_weights_are_those_of_the_card_and_small(student, card):
    weights = (student / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == card["sha256"]
    assert len(weights) <= 6e6
    model = load_model(VLMConfig(str(student)))
    assert sum(p.numel() for p in model.parameters()) == int(card["parameters"])
    fresh = load_model(VLMConfig(STUDENTS[str(student)])).state_dict()
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in fresh.items()
    }


def test_their_tokenizers_are_those_of_the_recipes(student):
    check_same_tokens(str(student), STUDENTS[str(student)])


@pytest.mark.matrix
def test_they_answer_as_well_as_the_cards_say(tmp_path, student, card):
    build_world(tmp_path / "world", WorldConfig(train_videos=1, test_videos=1))
    asked = Student.load(str(student), str(tmp_path / "world"), "val")
    with torch.no_grad():
        graded = list(asked.graded(0, seed=0))
    found = statistics.mean(answer.greedy for answer in graded)
    # Another processor may break ties between tokens otherwise.
    assert found == pytest.approx(float(card["greedy score on val"]), abs=0.01)
