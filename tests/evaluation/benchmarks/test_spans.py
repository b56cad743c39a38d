"""Charades-STA and TVGBench."""

import json

import pytest

from lit_vdistill.evaluation.benchmark import Answered
from lit_vdistill.evaluation.benchmarks.charades_sta import CharadesSTA
from lit_vdistill.evaluation.benchmarks.tvgbench import TVGBench

CHARADES = {
    "3MSZA": {
        "duration": 30.96,
        "timestamps": [[24.3, 30.4]],
        "sentences": ["person turns a light on."],
    }
}
TVG = {
    "path": "./data/KWZSA.mp4", "question": "a person was sitting at a table.",
    "answer": "13.4-28.1", "start": None, "end": None, "duration": 30.12,
    "question_type": "video temporal grounding", "source": "Charades_sta_test.json",
    "dataset_name": "charades", "qsemtype": "Human Pose", "bins": {"videolen": 1},
}  # fmt: skip


@pytest.fixture
def query(make_sample):
    return make_sample("temporal_grounding")  # from 2 s to 8 s


@pytest.mark.parametrize(
    ("text", "iou", "problem"),
    [
        ("<answer>From <t>4</t>s to <t>10</t>s</answer>", 0.5, None),
        ("4.00 to 10.00", 0.5, None),
        ("2 - 8", 1.0, None),
        ("0:02 to 0:08", 1.0, None),
        ("20 to 30", 0.0, None),
        ("8 to 2", 0.0, "no time span"),
        ("5 to 5", 0.0, None),
        ("hello", 0.0, "no time span"),
        ("", 0.0, "no time span"),
    ],
)
@pytest.mark.parametrize("benchmark", [CharadesSTA(), TVGBench()])
def test_iou_by_hand(query, benchmark, text, iou, problem):
    (verdict,) = benchmark.verdicts([Answered(query, text)])
    assert verdict.values["mIoU"] == pytest.approx(iou)
    assert verdict.problem == problem
    assert set(verdict.values) == set(benchmark.scores)


def test_a_threshold_is_reached_or_exceeded(query):
    half = [Answered(query, "4 to 10")]  # an IoU of 0.5
    for benchmark, expected in (
        (CharadesSTA(), 1.0),
        (CharadesSTA(is_strict=True), 0.0),
        (TVGBench(), 0.0),
        (TVGBench(is_strict=False), 1.0),
    ):
        (verdict,) = benchmark.verdicts(half)
        assert verdict.values["R1@0.5"] == expected
        assert (verdict.values["R1@0.3"], verdict.values["R1@0.7"]) == (1.0, 0.0)


def test_the_average_is_over_miou_and_the_three_recalls(query):
    (verdict,) = TVGBench().verdicts([Answered(query, "4 to 10")])
    assert verdict.values["avg"] == pytest.approx((0.5 + 1 + 0 + 0) / 4)
    (verdict,) = TVGBench().verdicts([Answered(query, "2 to 8")])
    assert verdict.values["avg"] == 1.0


def test_an_instant_is_met_by_nothing(make_sample):
    from lit_vdistill.types import Evidence

    instant = make_sample("temporal_grounding", evidence=Evidence(spans=((5.0, 5.0),)))
    for text in ("5 to 5", "4 to 6"):
        (verdict,) = TVGBench().verdicts([Answered(instant, text)])
        assert set(verdict.values.values()) == {0.0}


def test_queries_of_charades(tmp_path):
    """Two with one sentence, an end behind the video, an instant, a broken span."""
    odd = {"duration": 10.0, "timestamps": [[1, 2], [1, 2], [3, 99], [4, 4], [5, 3]]}
    odd["sentences"] = ["a.", "a.", "b.", "c.", "d."]
    (tmp_path / "charades_test.json").write_text(json.dumps(CHARADES | {"ODD": odd}))
    samples, bad = CharadesSTA().read(tmp_path)
    first, *rest = samples
    assert (first.id, first.question) == ("3MSZA_0", "person turns a light on.")
    assert (first.media, first.meta["video"]) == ("videos/3MSZA.mp4", "3MSZA.mp4")
    assert first.evidence.spans == ((24.3, 30.4),)
    assert first.meta["fills"] == {"length_s": 30.96}
    assert [one.evidence.spans[0] for one in rest] == [(1, 2), (1, 2), (3, 99), (4, 4)]
    assert [one.id for one in rest] == [f"ODD_{i}" for i in range(4)]
    assert [one.id for one in bad] == ["ODD_4"]
    benchmark = CharadesSTA()
    items = benchmark.items(
        [Answered(one, "1 to 2") for one in samples],
        benchmark.verdicts([Answered(one, "1 to 2") for one in samples]),
    )
    assert [item.cluster for item in items] == ["3MSZA.mp4"] + ["ODD.mp4"] * 4
    assert sum(item.values["mIoU"] for item in items) == 2.0


def test_splits_of_charades(tmp_path):
    entry = CHARADES["3MSZA"]
    moved = {"video_duration": 30.96, "framestamps": [[1, 2]]}
    moved |= {key: entry[key] for key in ("timestamps", "sentences")}
    novel = CHARADES["3MSZA"] | {"novels": ["light"], "news": []}
    for name, row in {
        "charades_test_iid": moved,
        "charades_test_ood": moved,
        "novel_composition": novel,
        "novel_word": novel,
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps({"3MSZA": row}))
    for split in ("iid", "ood", "novel_composition", "novel_word"):
        ((sample,), bad) = CharadesSTA(split).read(tmp_path)
        assert bad == []
        assert sample.meta["duration_s"] == 30.96
    with pytest.raises(FileNotFoundError, match=r"Charades-STA split 'test'.*charades_test\.json"):
        CharadesSTA().read(tmp_path)


def test_the_original_text_of_charades(tmp_path):
    (tmp_path / "Charades_sta_test.txt").write_text("3MSZA 24.3 30.4##it is on.\nbroken\n")
    (sample,), (bad,) = CharadesSTA().read(tmp_path)
    assert (sample.id, sample.evidence.spans) == ("3MSZA_0", ((24.3, 30.4),))
    assert bad.place.endswith("line 2")


def test_a_file_that_is_none_of_charades(tmp_path):
    (tmp_path / "charades_test.json").write_text('[{"sentence": "x"}]')
    with pytest.raises(ValueError, match=r"charades_test\.json: expected videos by name"):
        CharadesSTA().read(tmp_path)


def test_rows_of_tvgbench(tmp_path):
    nlq = {key: value for key, value in TVG.items() if key != "dataset_name"}
    nlq |= {"answer": "5.0-5.0", "start": 100.0, "end": 130.12}
    rows = [TVG, TVG, nlq, TVG | {"answer": "13-40"}, TVG | {"answer": "x"}]
    (tmp_path / "tvgbench.json").write_text(json.dumps(rows))
    samples, bad = TVGBench().read(tmp_path)
    assert [one.id for one in samples] == [f"tvgbench-{i}" for i in range(4)]
    assert samples[0].media == "data/KWZSA.mp4"
    assert samples[0].meta["groups"] == ["qsemtype/Human Pose", "source/charades"]
    assert samples[2].meta["groups"][1] == "source/nlq"
    assert "kind" not in samples[0].meta
    assert [one.id for one in bad] == ["tvgbench-4"]
