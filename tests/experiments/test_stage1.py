"""The student in the repository is what its card says."""

import hashlib
import re
import statistics
from pathlib import Path

import pytest
import torch

from experiments.students import STAGE1, Student
from lit_vdistill.models.vlm import VLMConfig, load_model
from lit_vdistill.world.build import build_world
from lit_vdistill.world.config import WorldConfig

FOLDER = Path(STAGE1)
_TEXT = (FOLDER.parent / "README.md").read_text()
CARD = dict(re.findall(r"^\| ([^|]+) \| `([^`|]+)` \|$", _TEXT, re.M))


def test_the_weights_are_those_of_the_card_and_small():
    weights = (FOLDER / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == CARD["sha256"]
    assert len(weights) <= 6e6
    model = load_model(VLMConfig(STAGE1))
    assert sum(p.numel() for p in model.parameters()) == int(CARD["parameters"])
    fresh = load_model(VLMConfig("tiny/qwen3-vl")).state_dict()
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in fresh.items()
    }


def test_its_tokenizer_is_that_of_the_recipes():
    from lit_vdistill.models.vlm import check_same_tokens

    check_same_tokens(STAGE1, "tiny/qwen3-vl")


@pytest.mark.matrix
def test_it_answers_as_well_as_the_card_says(tmp_path):
    build_world(tmp_path / "world", WorldConfig(train_videos=1, test_videos=1))
    student = Student.load(STAGE1, str(tmp_path / "world"), "val")
    with torch.no_grad():
        graded = list(student.graded(0, seed=0))
    found = statistics.mean(answer.greedy for answer in graded)
    # Another processor may break ties between tokens otherwise.
    assert found == pytest.approx(float(CARD["greedy score on val"]), abs=0.01)
