import pytest

from experiments import read_outs
from experiments.discriminator import JudgedGroup, with_teachers
from experiments.read_outs import WINDOW, table, truth_judged, verdict
from experiments.students import STAGE1, Student
from lit_vdistill.world.config import WorldConfig


def group(video, quality, scores, pairs):
    return JudgedGroup("mcq", video, quality, {"discriminator": scores}, pairs)


def test_gains_are_question_by_question():
    """Both are right about half of the videos, ours about the other half: the gain is even."""
    ours = [group(f"v{i}", (1.0, 0.0), (2.0, 1.0), (1.0,)) for i in range(10)]
    theirs = [group(f"v{i}", (1.0, 0.0), (1.0, 2.0), (-1.0,)) for i in range(10)]
    found = verdict(ours, theirs)
    assert (found.accuracy, found.accuracy_gain) == (1.0, 1.0)
    assert (found.correlation, found.correlation_gain) == pytest.approx((1.0, 2.0))
    assert found.accuracy_gain_error == 0.0
    same = verdict(ours, ours)
    assert (same.accuracy_gain, same.correlation_gain) == (0.0, 0.0)
    assert "| a | 1.000 ± 0.000 |" in table({"a": found})


@pytest.mark.matrix
def test_all_learn_from_the_same_windows_and_are_judged_on_held_out_ones(world, monkeypatch):
    """One step on the shipped student; the read-outs end apart, the untrained judge gains 0."""
    monkeypatch.setattr(read_outs, "TUNING_VIDEOS", 1)
    student = Student.load(STAGE1, str(world), pool=f"{world}/pool.jsonl")
    windows = read_outs.training_windows(student, 1, seed=0)
    assert [len(window.groups) for window in windows] == [WINDOW]
    last = student.data.train_set.samples[-1].media
    assert last not in {g.sample.media for g in windows[0].groups}
    assert all(item.pool for item in windows[0].batch.items)
    config = WorldConfig(train_videos=4, val_videos=1, test_videos=1)
    answered = student.answers(student.data.val_set, 2, seed=0)
    held_out = [with_teachers(*part, config) for part in answered]
    for judged in truth_judged(held_out):
        assert judged.scores["discriminator"] == judged.quality
    found = dict(read_outs.compare(student, windows, held_out, 1e-3, seed=0))
    assert list(found)[:2] == [read_outs.TRUTH, read_outs.UNTRAINED]
    assert found[read_outs.UNTRAINED].accuracy_gain == 0.0
    trained = [found[name] for name in list(found)[2:]]
    assert len({(v.accuracy, v.correlation) for v in trained}) == len(trained) == 4
    assert found[read_outs.TRUTH].correlation == pytest.approx(1.0)
