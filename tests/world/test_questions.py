from collections import Counter, defaultdict

import pytest

from lit_vdistill.tasks import Task
from lit_vdistill.world.config import WorldConfig
from lit_vdistill.world.questions import TASKS, questions
from lit_vdistill.world.scenes import COLOURS, LEVELS, PLACES, Scene, SceneObject, scenes

CONFIG = WorldConfig(train_videos=300)
RED = SceneObject("red square", "top left", "still", (1.0, 4.0), (0, 0), (16, 16))
BLUE = SceneObject("blue disc", "centre", "still", (2.0, 5.0), (32, 32), (16, 16))
TEXT = SceneObject("digits 4 7 2", "top right", "still", (0.0, 3.0), (70, 8), (9, 15))


@pytest.fixture(scope="module")
def asked():
    return [(s, q) for s in scenes("train", CONFIG) for q in questions(s, CONFIG)]


def by_task(level):
    scene = Scene("s", level, (RED, BLUE, TEXT))
    return {sample.task: sample for sample in questions(scene, CONFIG)}


def test_every_scene_asks_every_task_once_with_a_valid_record(asked):
    from lit_vdistill.readers.schema import checked

    assert tuple(q.task for _, q in asked[:9]) == TASKS
    assert len({q.id for _, q in asked}) == len(asked)
    for _, sample in asked:
        assert checked(sample) == sample


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.name)
def test_a_scene_that_is_known(level):
    found = by_task(level)
    target = found[Task.SPATIO_TEMPORAL_QA].facts.things[0]
    item = RED if target["colour"] == "red" else BLUE
    assert found[Task.NUMERICAL].answer == "2"
    assert found[Task.OCR].answer == "4 7 2"
    assert found[Task.OCR].evidence.spans == (TEXT.span,)
    assert found[Task.OCR].facts.things[1] == {"digit": "7", "place": "top right"}
    assert found[Task.TEMPORAL_GROUNDING].evidence.spans == (item.span,)
    assert found[Task.SPATIO_TEMPORAL_QA].answer == f"a {item.name} at the {item.place}"
    assert found[Task.SPATIO_TEMPORAL_QA].facts.asked == ("shape", "place")
    assert found[Task.OPEN_ENDED].answer == (
        "a red square at the top left, a blue disc at the centre"
    )
    assert [thing["place"] for thing in found[Task.OPEN_ENDED].facts.things] == [
        "top left",
        "centre",
    ]
    for task, truth in ((Task.MCQ, item.colour), (Task.TEMPORAL_MCQ, item.place)):
        options = found[task].options
        assert len(options) == level.options
        assert options["ABCD".index(found[task].answer)] == truth
    assert {sample.meta["level"] for sample in found.values()} == {level.name}


def test_options_stand_in_one_order_and_are_near_where_it_is_hard(asked):
    near = defaultdict(set)
    for scene, sample in asked:
        words = {Task.MCQ: list(COLOURS), Task.TEMPORAL_MCQ: list(PLACES)}.get(sample.task)
        if words is None:
            continue
        assert list(sample.options) == sorted(set(sample.options), key=words.index)
        true = {item.colour for item in scene.shapes} | {item.place for item in scene.shapes}
        near[scene.level.name].add(len(true & set(sample.options)) - 1)
    assert near == {"easy": {0}, "medium": {1}, "hard": {1}}


def test_yes_and_no_are_as_frequent_and_true(asked):
    answers = Counter()
    for scene, sample in asked:
        if sample.task is not Task.BINARY:
            continue
        answers[sample.answer] += 1
        words = sample.question.rstrip("?").split()
        (item,) = [shape for shape in scene.shapes if shape.colour in words] or [None]
        if scene.level.name == "easy":
            is_true = item is not None
        elif scene.level.name == "medium":
            is_true = item.shape == words[-1]
        else:
            is_true = sample.question.endswith(f" at the {item.place}?")
        assert sample.answer == ("yes" if is_true else "no")
        assert bool(sample.facts.things) == (item is not None)
    assert 0.4 < answers["yes"] / answers.total() < 0.6
