"""Every family goes through every stage; what is exported loads again as what it is."""

import json
import math

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.families import FAMILIES, MODEL_TYPES

STAGES = {"sft": "stage1", "rmsd": "rmsd", "visd": "visd", "opd": "opd"}
OTHERS = FAMILIES[1:]
"""`test_fit.py` runs every recipe with the first."""


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("family", OTHERS)
def test_every_family_fits_two_steps_of_every_stage(small_run, tmp_path, family, stage):
    small = [] if stage == "sft" else ["--model.loss.group_size=2"]
    small += [f"--model.teacher.path=tiny/{family}/4m"] if stage == "opd" else []
    small_run(stage, tmp_path, f"--model.policy.path=tiny/{family}", *small)
    (after,) = [json.loads((tmp_path / "summary.json").read_text())[STAGES[stage]]]
    assert after["step"] == 2
    assert math.isfinite(after["score"])
    exported = AutoModelForImageTextToText.from_pretrained(tmp_path / "student")
    assert exported.config.model_type == MODEL_TYPES[family]
    AutoProcessor.from_pretrained(tmp_path / "student")
