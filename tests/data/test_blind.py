import json

import pytest

from lit_vdistill.data import tools
from lit_vdistill.data.blind import needless
from lit_vdistill.readers.records import read_records
from lit_vdistill.tracking.predictions import Prediction, PredictionFile
from lit_vdistill.types import Rollout


@pytest.fixture
def blind_answers(tmp_path, make_sample):
    """Predictions of samples without a medium: greedy answer and sampled ones by id."""

    def write(answers, media=None):
        file = PredictionFile(tmp_path / "blind.jsonl")
        for name, texts in answers.items():
            rollouts = [
                Rollout(name, i, (5,), (-0.5,), text, False, 0.0) for i, text in enumerate(texts)
            ]
            kind = "text" if media is None else "video"
            sample = make_sample(id=name, media=media, media_type=kind)
            file.add([Prediction(sample, rollouts[0], (), {}, tuple(rollouts[1:])).row()])
        file.finish(list(answers).index)
        return str(tmp_path / "blind.jsonl")

    return write


RIGHT, WRONG = (f"<think>a</think><answer>{letter}</answer>" for letter in "BC")


def test_a_question_needs_no_video_where_all_blind_answers_are_right(blind_answers, make_sample):
    path = blind_answers(
        {"s1": [RIGHT] * 4, "s2": [RIGHT] * 3 + [WRONG], "s3": [WRONG], "s9": [RIGHT]}
    )
    samples = [make_sample(id=f"s{i}") for i in range(1, 5)]
    assert [one.id for one in needless(path, samples, 1.0)["mcq"]] == ["s1"]
    assert [one.id for one in needless(path, samples, 0.75)["mcq"]] == ["s1", "s2"]


def test_predictions_that_are_not_blind_or_of_other_questions_are_refused(
    blind_answers, make_sample
):
    with pytest.raises(ValueError, match="s1 was asked with its medium.*--blind"):
        needless(blind_answers({"s1": [RIGHT]}, media="v.mp4"), [make_sample(id="s1")], 1.0)
    with pytest.raises(ValueError, match="none of its 1 questions is a training question"):
        needless(blind_answers({"s1": [RIGHT]}), [make_sample(id="s2")], 1.0)


def test_data_check_lists_them_and_writes_the_others(world, blind_answers, tmp_path, capsys):
    train, kept = world / "train.jsonl", tmp_path / "kept.jsonl"
    ids = [json.loads(line)["id"] for line in train.open()]
    path = blind_answers({ids[0]: [RIGHT], ids[1]: [WRONG]})
    tools.check(str(train), str(world), blind=path, kept=str(kept))
    told = capsys.readouterr().out
    assert f"1 of {len(ids)} training questions are answered without their medium" in told
    assert f"mcq: 1 of {len(ids) // 9}: {ids[0]}" in told
    assert [one.id for one in read_records(kept)[0]] == ids[1:]
    with pytest.raises(SystemExit, match="blind: .*does not exist"):
        tools.check(str(train), str(world), blind=str(tmp_path / "none.jsonl"))
    with pytest.raises(SystemExit, match="kept: expected beside --blind"):
        tools.check(str(train), str(world), kept=str(kept))
