import math
import shutil
from types import SimpleNamespace

import pytest
import torch

from experiments import discriminator
from experiments.discriminator import Critics, JudgedGroup
from lit_vdistill.models.vlm import VLMConfig, load_model


def group(quality, scores, pairs=(), video="v"):
    by_name = dict.fromkeys(discriminator.DETECTORS, tuple(scores))
    return JudgedGroup("mcq", video, tuple(quality), by_name, tuple(pairs))


def test_correlation_is_among_siblings():
    """A question that is easy and liked as a whole says nothing about its answers."""
    apart = [group([1, 0], [0.0, 1.0]), group([1, 1], [9.0, 9.0])]
    assert discriminator.correlation(apart, "discriminator") == pytest.approx(-1.0)
    assert math.isnan(discriminator.correlation([group([1, 1], [0, 1])], "discriminator"))
    mixed = [group([1, 0, 0, 1], [2, 0, 2, 0])]
    assert discriminator.correlation(mixed, "discriminator") == pytest.approx(0.0)


def test_accuracy_counts_pairs_over_all_groups():
    assert discriminator.accuracy([group([1], [0], [0.5, -1.0]), group([1], [0], [2.0])]) == 2 / 3
    assert math.isnan(discriminator.accuracy([group([1], [0])]))
    assert discriminator.accuracy([group([1], [0], [0.0, 1.0])]) == 0.75  # a tie is half


def test_the_report_names_tasks_pairs_and_errors():
    groups = [group([1, 0], [i % 3, 1], [1.0], f"v{i}") for i in range(12)]
    found = discriminator.report(groups)
    assert set(found) == {"all", "mcq"}
    assert found["all"]["pairs"] == 12
    assert 0 < found["all"]["discriminator_error"] < 0.5
    assert "| mcq | 1.00 (12) |" in discriminator.table(found)


@pytest.fixture
def run(tmp_path, families):
    """A stage-1 student, and the last checkpoint of a run that began with it."""
    model, processor = families["qwen3-vl"]
    model.save_pretrained(tmp_path / "sft")
    processor.save_pretrained(tmp_path / "sft")
    torch.manual_seed(1)
    trained = discriminator.Discriminator(
        load_model(VLMConfig(str(tmp_path / "sft"))), "likelihood_mean_token"
    )
    state = {f"discriminator.{k}": v for k, v in trained.state_dict().items()}
    (tmp_path / "rmsd" / "checkpoints").mkdir(parents=True)
    torch.save({"state_dict": state}, tmp_path / "rmsd" / "checkpoints" / "last.ckpt")
    return SimpleNamespace(folder=tmp_path / "rmsd", stage1=str(tmp_path / "sft"), trained=trained)


def test_critics_judge_answers_as_the_run_left_them(run, families, world):
    """On real questions of a world: D is that of the checkpoint, truth that of the record."""
    from experiments.students import Student
    from lit_vdistill.world.config import WorldConfig

    student = Student.load(run.stage1, str(world))
    critics = Critics.load(run.folder, run.stage1, student.processor, "likelihood_mean_token")
    for mine, other in zip(
        critics.discriminator.parameters(), run.trained.parameters(), strict=True
    ):
        assert torch.equal(mine, other)
    config = WorldConfig(train_videos=4, val_videos=1, test_videos=1)
    (answered,) = student.answers(student.data.val_set, 2, seed=0, limit=3)
    found = critics.judge(answered, config)
    assert [g.task for g in found] == ["mcq", "binary", "numerical"]
    for judged in found:
        assert judged.quality == (0.0, 0.0)  # an untrained student is never right
        assert len(judged.pairs) <= 2
        assert all(len(scores) == 2 for scores in judged.scores.values())
        assert all(score < 0 for score in judged.scores["likelihood"])


def test_a_run_without_a_discriminator_is_refused(run):
    path = run.folder / "checkpoints" / "last.ckpt"
    torch.save({"state_dict": {"policy.x": torch.zeros(1)}}, path)
    with pytest.raises(ValueError, match=r"last\.ckpt holds no discriminator"):
        Critics.load(run.folder, run.stage1, None, "last_token")


def test_every_question_is_answered_and_one_that_cannot_be_read_stops_it(run, world, tmp_path):
    """A train split of more than one batch, sampled as `experiments.teacher_samples` does."""
    from experiments.students import BATCH, Student
    from experiments.teacher_samples import sample
    from lit_vdistill.world.questions import TASKS

    answered = list(sample(run.stage1, str(world), seed=0))
    assert len(answered) == 4 * len(TASKS) > BATCH
    assert len({response.sample_id for response in answered}) == len(answered)
    shutil.copytree(world, tmp_path / "world")
    (tmp_path / "world/videos/val00000.mp4").write_bytes(b"broken")
    student = Student.load(run.stage1, str(tmp_path / "world"))
    with pytest.raises(ValueError, match=r"cannot be read: val00000-mcq \(videos/val00000\.mp4\)"):
        next(student.answers(student.data.val_set, 1, seed=0))
