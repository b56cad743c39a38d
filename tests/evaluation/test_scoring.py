import json

import pytest

from lit_vdistill.evaluation.scoring import read_items, read_scores, score_run
from lit_vdistill.metrics.intervals import clustered_mean
from tests.evaluation.toy import Toy, write_run


def test_scores_are_means_over_all_questions_with_intervals_by_video(tmp_path, make_sample):
    run = write_run(tmp_path / "a", make_sample, ["B", "C", "B", "B", None, "x"])
    found = score_run(run, Toy())
    values, videos = [1.0, 0.0, 1.0, 1.0, 0.0, 0.0], [0, 0, 1, 1, 2, 2]
    expected = clustered_mean(values, videos)
    assert found["scores"]["accuracy"] == {
        "value": 0.5,
        "low": expected.low,
        "high": expected.high,
        "standard_error": expected.standard_error,
        "items": 6,
        "videos": 3,
        "note": expected.note,
    }
    assert list(found["scores"]) == ["accuracy", "odds"]
    assert found["scores"]["odds"]["value"] == 1
    assert (found["questions"], found["videos"]) == (6, 3)
    assert found["problems"] == {"unasked": 1, "no letter": 1}
    assert found["groups"]["half/0"]["accuracy"]["value"] == pytest.approx(2 / 3)
    assert found["groups"]["half/1"]["accuracy"]["items"] == 3
    assert found["published"] == [
        {"model": "a model", "source": "a paper, Table 1", "values": {"accuracy": 0.5}}
    ]
    assert found == json.loads((run / "scores.json").read_text()) == read_scores(run)
    assert [item.values["accuracy"] for item in read_items(run)] == values


def test_a_benchmark_may_score_several_questions_as_one_item(tmp_path, make_sample):
    run = write_run(tmp_path / "a", make_sample, ["B", "C", "B", "B"])
    assert score_run(run, Toy(is_paired=True))["scores"]["accuracy"]["value"] == 0.5
    assert [item.questions for item in read_items(run)] == [("q0", "q1"), ("q2", "q3")]


def test_a_score_that_cannot_be_derived_is_left_out(tmp_path, make_sample):
    run = write_run(tmp_path / "a", make_sample, ["B", "B"])
    assert list(score_run(run, Toy())["scores"]) == ["accuracy"]


def test_pass_at_k_counts_questions_that_could_not_be_asked(tmp_path, make_sample):
    run = write_run(tmp_path / "a", make_sample, ["B", "C", None], sampled=["BC", "CC", ""])
    found = score_run(run, Toy())
    curve = found["pass_at_k"]
    assert found["scores"]["mean@2"]["value"] == pytest.approx(0.5 / 3)
    assert found["scores"]["mean@2"]["items"] == 3
    assert found["scores"]["pass@2"]["value"] == pytest.approx(1 / 3)
    assert (curve["questions"], curve["k"]) == (3, [1, 2])
    assert curve["value"] == pytest.approx([0.5 / 3, 1 / 3])
    assert curve["guess"] == pytest.approx([1 / 3, 1 - (2 / 3) ** 2])
    assert score_run(write_run(tmp_path / "b", make_sample, ["B"]), Toy())["pass_at_k"] is None


def test_what_text_alone_answers_stands_beside(tmp_path, make_sample):
    blind = write_run(tmp_path / "blind", make_sample, ["B", "C"], blind=True)
    run = write_run(tmp_path / "a", make_sample, ["B", "B"])
    with pytest.raises(FileNotFoundError, match="not scored"):
        score_run(run, Toy(), blind)
    told = score_run(blind, Toy())
    assert score_run(run, Toy(), blind)["blind"] == {"run": str(blind), "scores": told["scores"]}
    with pytest.raises(ValueError, match="not blind"):
        score_run(run, Toy(), run)


def test_an_unfinished_or_empty_run_has_no_scores(tmp_path, make_sample):
    run = write_run(tmp_path / "a", make_sample, ["B"])
    (run / "predictions.part1.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"not finished \(predictions.part1.jsonl"):
        score_run(run, Toy())
    with pytest.raises(ValueError, match="no answers"):
        score_run(write_run(tmp_path / "b", make_sample, []), Toy())
    with pytest.raises(FileNotFoundError, match="no run of `evaluate run`"):
        score_run(tmp_path, Toy())


@pytest.mark.parametrize("text", ["{", "[]", '{"scores": 1}', "[" * 10_000])
def test_scores_that_are_none_are_refused(tmp_path, text):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(ValueError, match="scores.json: "):
        read_scores(tmp_path)
