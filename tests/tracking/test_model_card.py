import hashlib
from dataclasses import replace

import pytest
import yaml

from lit_vdistill.media.video import FrameConfig
from lit_vdistill.tasks import Task
from lit_vdistill.tracking.model_card import StudentFacts, TrainingData, fingerprint, model_card


@pytest.fixture
def facts(tmp_path):
    records = tmp_path / "train.jsonl"
    records.write_text("{}\n")
    data = TrainingData(
        {"training": str(records)}, "short", "Think first.",
        FrameConfig(max_frames=8, max_pixels=9216), "video", "thousandths",
    )  # fmt: skip
    scores = {"score": 0.51234, "score/ocr": 0.25, "score/mcq": 0.75, "facts": 0.5,
              "facts/mcq": 0.5, "R@0.5": 0.125, "tIoU": float("nan")}  # fmt: skip
    return StudentFacts(
        "rmsd", "Qwen/Qwen3-VL-4B-Instruct", "RMSDModule. R-MSD.", 150, scores, data
    )


def test_a_card_says_what_a_student_is_and_how_to_ask_it(facts):
    card = model_card(facts)
    digest = hashlib.sha256(b"{}\n").hexdigest()[:12]
    for part in (
        "`Qwen/Qwen3-VL-4B-Instruct`, 150 optimizer steps", "RMSDModule", f"SHA-256 {digest}",
        "`short`", "    Think first.", "8 a video", "at most 9216 pixels", "thousandths",
        "from_pretrained(folder)", "vllm serve",
    ):  # fmt: skip
        assert part in card


def test_a_card_is_written_where_its_data_are_not(facts):
    data = replace(facts.data, files={"training": "gone/train.jsonl"})
    assert "`train.jsonl` (not at hand" in model_card(replace(facts, data=data))


def test_a_card_says_how_a_released_setting_shows_videos(facts):
    frames = FrameConfig(fps=2.0, min_pixels=100_352)
    system = {Task.MCQ: "Say a letter.", Task.OCR: "Say a word."}
    data = replace(facts.data, frames=frames, frames_as="images", system=system)
    card = model_card(replace(facts, data=data))
    for part in (
        "2 a second, between 4 and 16 a video", "from 100352 to 105369 pixels",
        "each an image behind a line with its time", "    mcq: Say a letter.\n    ocr: Say a word.",
    ):  # fmt: skip
        assert part in card


def test_scores_stand_in_a_row_a_task(facts):
    card = model_card(facts)
    assert (
        "| held-out records, at the end | score | facts |\n|---|---|---|\n"
        "| overall | 0.5123 | 0.5 |\n| ocr | 0.25 |  |\n| mcq | 0.75 | 0.5 |\n\n"
        "And: `R@0.5` 0.125.\n"
    ) in card
    assert "nan" not in card


@pytest.mark.parametrize(
    ("base", "named"), [("Qwen/Qwen3-VL-4B", True), ("tiny/qwen3-vl", False), ("./a/b", False)]
)
def test_its_head_names_a_base_that_the_hub_has(base, named):
    head = yaml.safe_load(model_card(StudentFacts("s", base, "SFT", 1)).split("---")[1])
    assert head.get("base_model") == (base if named else None)
    assert head["library_name"] == "transformers"


def test_what_is_not_known_is_said():
    card = model_card(StudentFacts("s", "tiny/qwen3-vl", "SFT", 1))
    assert "not known" in card
    assert "No scores" in card


def test_a_fingerprint_follows_the_content(tmp_path):
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_text("x")
    other.write_text("y")
    assert fingerprint(str(one)) != fingerprint(str(other))
