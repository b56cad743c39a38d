import pytest

from experiments import reach
from experiments.students import Graded
from lit_vdistill.tasks import Task
from lit_vdistill.world.config import WorldConfig
from lit_vdistill.world.questions import TASKS, questions
from lit_vdistill.world.scenes import scenes

CONFIG = WorldConfig(train_videos=60)


@pytest.fixture(scope="module")
def asked():
    return [sample for scene in scenes("train", CONFIG) for sample in questions(scene, CONFIG)]


def graded(samples, worth):
    return [Graded(sample, worth(sample), 0.5, 0.5, 1.0) for sample in samples]


def test_each_task_and_level_has_its_own_cell(asked):
    found = reach.report(graded(asked, lambda s: float(s.meta["level"] == "easy")))
    assert list(found) == [str(task) for task in TASKS]
    for row in found.values():
        assert {level: cell["score"] for level, cell in row.items()} == {
            "easy": 1.0,
            "medium": 0.0,
            "hard": 0.0,
        }
        assert row["easy"]["questions"] == 20
    assert reach.outside(found)["mcq"] == ["easy", "medium", "hard"]


def test_the_interval_is_that_of_a_mean_over_videos(asked):
    """Twenty videos, half of them right: a standard error of 0.11."""
    found = reach.report(graded(asked, lambda s: float(int(s.meta["scene"][-5:]) % 2)))
    assert found["ocr"]["hard"]["score"] == 0.5
    assert found["ocr"]["hard"]["error"] == pytest.approx(0.11, abs=0.03)
    assert reach.outside(found)["ocr"] == []
    assert "| ocr | 0.50 ± 0.2" in reach.table(found)


def test_chance_is_what_who_has_not_seen_the_video_gets(asked):
    def of(task, level):
        return reach.chance([s for s in asked if s.task == task and s.meta["level"] == level])

    assert of(Task.BINARY, "hard") == pytest.approx(0.5, abs=0.15)
    assert of(Task.MCQ, "easy") > of(Task.MCQ, "hard") > 0.05
    assert of(Task.SPATIAL_GROUNDING, "hard") < 0.15
    same = [s for s in asked if s.task is Task.OCR][:1] * 3
    assert reach.chance(same) == 1.0
