"""The variance analysis of a pool, by hand."""

import csv
import json
from itertools import combinations
from math import comb
from statistics import mean

import pytest

from lit_vdistill.__main__ import main
from lit_vdistill.metrics.pass_at_k import pass_at_k
from lit_vdistill.pool.agreement import AdaptiveConfig, Disagreement, agreements
from lit_vdistill.pool.report import telling_example
from lit_vdistill.pool.scoring import BoxConfig, PoolScorer
from lit_vdistill.pool.store import PoolStore
from lit_vdistill.pool.variance import (
    Question,
    Worth,
    best_of,
    by_task,
    pass_curve,
    price_of_more,
    retention,
    spread,
    worth_of,
)
from lit_vdistill.types import Evidence, TeacherCall, TeacherResponse


@pytest.fixture
def asked(make_sample):
    """A question with responses of given worth."""

    def build(*qualities, task="mcq", malformed=0, cost=None, **changes):
        sample = make_sample(task, "B", **changes)
        pool = [Worth(q, i < malformed, cost, cost) for i, q in enumerate(qualities)]
        return Question(sample, tuple(pool))

    return build


def responses(*answers, sample="s", **call):
    texts = [f"<think>t</think><answer>{a}</answer>" for a in answers]
    made = None
    if call:
        made = TeacherCall(0, "p", "stop", 10, call["tokens"], call["cost"])
    return [TeacherResponse(sample, i, t, "m", 1.0, 0.9, made) for i, t in enumerate(texts)]


def test_spreads_by_hand(asked):
    found = spread([asked(0.0, 1.0, malformed=1), asked(1.0, 1.0)])
    assert found == {
        "questions": 2, "responses": 4, "mean": 0.75, "across": 0.25, "within": 0.25,
        "lowest": 0.5, "highest": 1.0, "malformed": 0.25,
    }  # fmt: skip
    groups = by_task([asked(1.0), asked(1.0, task="ocr"), asked(0.5, task="temporal_grounding")])
    assert {name: len(members) for name, members in groups.items()} == {
        "all": 3, "mcq": 1, "ocr": 1, "temporal_grounding": 1, "temporal": 1,
    }  # fmt: skip


@pytest.mark.parametrize(("drawn", "right"), [(1, 0), (1, 1), (4, 1), (6, 3), (6, 6), (8, 2)])
def test_pass_at_k_and_the_best_of_k_against_all_choices(drawn, right):
    qualities = [1.0 - 0.05 * i for i in range(right)] + [
        0.1 + 0.02 * i for i in range(drawn - right)
    ]
    for k in range(1, drawn + 1):
        chosen = list(combinations(qualities, k))
        assert len(chosen) == comb(drawn, k)
        passed = mean(max(some) >= 0.5 for some in chosen)
        assert pass_at_k(k, right, drawn) == pytest.approx(passed)
        assert best_of(k, qualities) == pytest.approx(mean(max(some) for some in chosen))


def test_the_curve_of_guessing_knows_how_many_options_there_are(asked):
    four = asked(1.0, 0.0, options=("a", "b", "c", "d"))
    yes = asked(0.0, 0.0, task="binary", options=())
    digits = asked(1.0, 1.0, task="ocr", options=())
    told = asked(1.0, 1.0, task="open_ended", options=())  # is not verifiable
    curve = pass_curve([four, yes, digits, told])
    assert curve[1] == (pytest.approx((0.5 + 0 + 1) / 3), pytest.approx((0.25 + 0.5 + 0) / 3))
    assert curve[2] == (pytest.approx(2 / 3), pytest.approx((1 - 0.75**2 + 0.75) / 3))


def test_pools_of_unequal_size_count_where_they_can(asked):
    rows = [asked(1.0, 0.0, 0.0, cost=2.0, options=()), asked(0.0, cost=4.0, options=())]
    assert pass_curve(rows)[1][0] == pytest.approx((1 / 3 + 0) / 2)
    assert pass_curve(rows)[3] == (1.0, 0.0)
    more = price_of_more(rows)
    assert more[1]["cost"] == pytest.approx((2 * 3 + 4) / 4)
    assert more[3] == {"questions": 1.0, "best": 1.0, "output_tokens": 6.0, "cost": 6.0}
    assert "cost" not in price_of_more([*rows, asked(1.0)])[1]


def test_retention_is_of_closed_ended_responses(asked):
    kept = retention([asked(0.3, 0.29), asked(1.0, 1.0, task="open_ended")])
    assert (kept[0.2], kept[0.3], kept[0.4]) == (1.0, 0.5, 0.0)
    assert retention([asked(1.0, task="open_ended")]) == {}


def test_worth_of_an_open_answer_is_its_facts_or_its_words(make_sample):
    sample = make_sample("open_ended", "a red dog runs", options=())
    right, wrong = responses("a red dog runs", "nothing")
    assert worth_of(sample, right).quality == pytest.approx(1.0)
    assert worth_of(sample, wrong).quality < 0.2
    broken = TeacherResponse("s", 0, "a red dog runs", "m", 1.0, 0.9)
    assert worth_of(sample, broken) == Worth(0.0, True)


def test_agreement_is_the_mean_over_the_others():
    found = agreements(["a", "a", "b"], lambda one, other: float(one == other))
    assert found == [0.5, 0.5, 0.0]
    assert agreements(["a"], lambda one, other: 0.0) == [1.0]
    assert agreements([], lambda one, other: 0.0) == []


@pytest.mark.parametrize(
    ("task", "answers", "wants_more"),
    [
        ("mcq", "BB", False), ("mcq", "BA", True), ("mcq", "AA", False),
        ("open_ended", ("a red dog", "a red dog", "a red dog"), False),
        ("open_ended", ("a red dog", "a red dog", "the sky is blue"), True),
        ("mcq", "BABA", False),
    ],
)  # fmt: skip
def test_who_disagrees_gets_more_up_to_a_limit(make_sample, task, answers, wants_more):
    more = Disagreement(AdaptiveConfig(most=4, spread=0.2), PoolScorer(BoxConfig()))
    assert more(make_sample(task, "B"), responses(*answers)) is wants_more


def test_the_example_is_where_segments_differ(make_sample):
    sample = make_sample(
        "temporal_grounding", "x", options=(), evidence=Evidence(spans=((0.0, 4.0),))
    )

    def with_spans(*spans):
        texts = [f"From <t>{a}</t>s to <t>{b}</t>s" for a, b in spans]
        found = responses(*texts)
        return Question(sample, tuple(worth_of(sample, r) for r in found)), found

    same, apart = with_spans((0, 4), (0, 4)), with_spans((0, 4), (5, 6))
    none = (same[0], responses("never", "always"))
    assert telling_example([same, none, apart]) == apart
    assert telling_example([]) is None


@pytest.fixture
def config(world, tmp_path):
    def write(**more):
        boxes = {"units": "pixels", "media_root": str(world)}
        boxes["frames"] = {"max_frames": 8, "max_pixels": 9216}
        given = {"train_path": f"{world}/train.jsonl", "pool_path": f"{world}/pool.jsonl"}
        (tmp_path / "c.yaml").write_text(json.dumps({**given, "boxes": boxes, **more}))
        return str(tmp_path / "c.yaml")

    return write


def test_score_and_report_of_the_embedded_pool(config, world, tmp_path, capsys):
    main(["pool", "score", "--config", config(scores_path=str(tmp_path / "scores.jsonl"))])
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    pool = PoolStore(world / "pool.jsonl").load()
    assert len(rows) == sum(map(len, pool.values()))
    assert mean(row["quality"] for row in rows if row["task"] == "spatial_grounding") > 0.4
    main(["pool", "report", "--config", config(folder=str(tmp_path / "report"))])
    files = {path.name for path in (tmp_path / "report").iterdir()}
    assert files == {"report.md", "variance.csv", "variance.png", "passes.png"}
    text = (tmp_path / "report/report.md").read_text()
    assert f"{len(rows)} responses to {len(pool)} questions" in text
    with (tmp_path / "report/variance.csv").open() as file:
        table = {row["task"]: row for row in csv.DictReader(file)}
    by_hand = [row["quality"] for row in rows if row["task"] == "ocr"]
    assert float(table["ocr"]["mean"]) == pytest.approx(mean(by_hand))


def test_pixels_of_no_medium_are_refused():
    with pytest.raises(ValueError, match="boxes.units pixels needs boxes.media_root"):
        BoxConfig("pixels")


def test_a_pool_of_other_records_has_no_report(config, tmp_path):
    (tmp_path / "other.jsonl").write_text("")
    PoolStore(tmp_path / "other.jsonl").append(responses("B"))
    with pytest.raises(SystemExit, match="has no response to a question of"):
        main(["pool", "report", "--config", config(folder=str(tmp_path / "r"),
              pool_path=str(tmp_path / "other.jsonl"))])  # fmt: skip
