from collections import defaultdict
from dataclasses import replace
from statistics import mean, pstdev

import pytest

from experiments.spreads import measure
from lit_vdistill.metrics.token_truth import marks
from lit_vdistill.pool.variance import REPORTED
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.rewards import count_facts, graded_quality
from lit_vdistill.tasks import Task
from lit_vdistill.world.config import TeacherConfig, TeacherNoise, WorldConfig
from lit_vdistill.world.questions import TASKS, questions
from lit_vdistill.world.scenes import scenes
from lit_vdistill.world.simulated_teacher import SimulatedTeacher, true_look, write_response

STYLES = ("short", "usual", "long")
KIND_OF_MISTAKE = {
    Task.MCQ: "letter",
    Task.BINARY: "yes_no",
    Task.NUMERICAL: "count",
    Task.OCR: "digit",
    Task.TEMPORAL_GROUNDING: "time",
    Task.TEMPORAL_MCQ: "letter",
    Task.SPATIAL_GROUNDING: "coordinate",
    Task.SPATIO_TEMPORAL_QA: "place",
    Task.OPEN_ENDED: "colour",
}


def config(**teacher):
    return WorldConfig(train_videos=90, teacher=TeacherConfig(**teacher))


@pytest.fixture(scope="module")
def asked(in_pixels):
    found = config()
    return [(s, in_pixels(q)) for s in scenes("train", found) for q in questions(s, found)]


def test_who_sees_the_truth_answers_perfectly_and_writes_no_wrong_token(asked):
    """In every style; and each task has tokens of the kinds that its mistakes are made of."""
    kinds = defaultdict(set)
    for scene, sample in asked:
        for style in STYLES:
            text = write_response(sample, true_look(sample, scene), style=style)
            parsed = parse_response(text)
            assert parsed.problem is None
            assert graded_quality(text, sample) == 1.0
            if not sample.task.is_closed_ended:
                assert count_facts(parsed.answer, sample.facts).shares == (1.0, 0.0, 0.0)
            found = marks(text, sample)
            assert {mark.verdict for mark in found} == {"right"}
            kinds[sample.task] |= {mark.kind for mark in found}
    assert all(KIND_OF_MISTAKE[task] in kinds[task] for task in TASKS)


def test_without_noise_all_responses_are_right(asked):
    teacher = SimulatedTeacher(config(noise_free=True))
    for scene, sample in asked:
        texts = [response.text for response in teacher.respond(sample, scene, 4)]
        assert [graded_quality(text, sample) for text in texts] == [1.0] * 4


def test_noise_of_one_task_changes_that_task_only(asked):
    noise = TeacherNoise(mcq=replace(TeacherNoise().mcq, missed=0.8))
    usual, worse = SimulatedTeacher(config()), SimulatedTeacher(config(noise=noise))
    for scene, sample in asked:
        before, after = (t.respond(sample, scene, 4) for t in (usual, worse))
        if sample.task is not Task.MCQ:
            assert before == after
    mcq = [(s, q) for s, q in asked if q.task is Task.MCQ]
    right = [graded_quality(r.text, q) for s, q in mcq for r in worse.respond(q, s, 4)]
    assert mean(right) == pytest.approx(0.2 * (0.16 * 0.75 + 0.04) / 0.2, abs=0.1)


def test_more_responses_can_be_asked_for(asked):
    teacher = SimulatedTeacher(config())
    for scene, sample in asked[:90]:
        first, more = teacher.respond(sample, scene, 3), teacher.respond(sample, scene, 5, first=3)
        assert first + more == teacher.respond(sample, scene, 8)
        assert [response.index for response in more] == [3, 4, 5, 6, 7]


@pytest.mark.matrix
def test_its_spreads_are_those_that_the_paper_reports():
    found = measure(WorldConfig(train_videos=600))
    for name, figures in REPORTED.items():
        for column, value in figures.items():
            assert found[name][column] == pytest.approx(value, abs=0.03), (name, column)


def test_style_says_nothing_about_quality(asked):
    """Lengths differ by far more within a question than they do between right and wrong."""
    teacher = SimulatedTeacher(config())
    lengths, by_quality = [], defaultdict(list)
    for scene, sample in asked:
        if sample.task is not Task.SPATIO_TEMPORAL_QA:
            continue
        texts = [response.text for response in teacher.respond(sample, scene, 8)]
        lengths.append(pstdev(map(len, texts)))
        for text in texts:
            by_quality[graded_quality(text, sample)].append(len(parse_response(text).think))
    assert mean(lengths) > 5
    assert abs(mean(by_quality[1.0]) - mean(by_quality[0.5])) < mean(lengths) / 3


@pytest.mark.parametrize(("disagreement", "expected"), [(0.0, 0.0), (1.0, 0.4)])
def test_reasoning_and_answer_agree_as_often_as_is_asked(asked, disagreement, expected):
    """Of two looks at contested digits that are right in three of four, 3 of 8 differ."""
    noise = TeacherNoise(disagreement=disagreement, ocr=replace(TeacherNoise().ocr, contested=1.0))
    teacher = SimulatedTeacher(config(noise=noise, short=1.0, long=0.0))
    differ = []
    for scene, sample in asked:
        if sample.task is not Task.OCR or scene.level.name != "easy":
            continue
        for response in teacher.respond(sample, scene, 8):
            parsed = parse_response(response.text)
            if parsed.problem is None:
                differ.append(parsed.think.replace(",", "") != parsed.answer)
    assert mean(differ) == pytest.approx(expected, abs=0.1)
