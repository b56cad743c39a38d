import json
from itertools import product
from statistics import mean

import pytest

from lit_vdistill.evaluation.benchmark import Answered
from lit_vdistill.evaluation.benchmarks.video_mme_v2 import VideoMMEv2, coherence, consistency

CHAIN, MIDDLE, START = "[1,2,3,4]", "[1,[2,3],4]", "[[1,2],3,4]"
OPTIONS = "\n".join(f"{letter}. {letter.lower()} thing" for letter in "ABCDEFGH")


def record(place, video="001", kind="relevance", structure="[1, 2, 3, 4]", **changes):
    return {
        "video_id": video, "url": "https://example.org", "group_type": kind,
        "group_structure": structure, "question_id": f"{video}-{place}", "question": "Which?",
        "options": OPTIONS, "answer": "ABCH"[place - 1], "level": 2, "second_head": "Order",
        "third_head": f"third {place}",
    } | changes  # fmt: skip


def group(**changes):
    return [record(place, **changes) for place in (3, 1, 4, 2)]


def read(folder, rows):
    (folder / "test.json").write_text(json.dumps(rows))
    return VideoMMEv2().read(folder)


def scores(samples, texts):
    benchmark = VideoMMEv2()
    answered = [Answered(one, texts[one.id]) for one in samples]
    items = benchmark.items(answered, benchmark.verdicts(answered))
    keys = {key for item in items for key in item.values}
    means = {key: mean(i.values[key] for i in items if key in i.values) for key in keys}
    return items, means | benchmark.derived(means)


@pytest.mark.parametrize(("count", "worth"), [(0, 0), (1, 0.0625), (2, 0.25), (3, 0.5625), (4, 1)])
def test_consistency(count, worth):
    for rights in product((False, True), repeat=4):
        if sum(rights) == count:
            assert consistency(rights) == worth


@pytest.mark.parametrize(
    ("structure", "rights", "worth"),
    [
        *((CHAIN, r, w) for r, w in {
            "0111": 0, "1011": 1 / 16, "1101": 4 / 16, "1110": 9 / 16, "1111": 1,
        }.items()),
        *((MIDDLE, r, w) for r, w in {
            "0111": 0, "1000": 1 / 12, "1001": 1 / 12, "1100": 4 / 12, "1101": 4 / 12,
            "1010": 4 / 12, "1011": 4 / 12, "1110": 7 / 12, "1111": 1,
        }.items()),
        *((START, r, w) for r, w in {
            "0011": 0, "1000": 0.1, "1011": 0.1, "0100": 0.1, "0111": 0.1, "1100": 0.2,
            "1101": 0.2, "1110": 0.5, "1111": 1,
        }.items()),
    ],
)  # fmt: skip
def test_coherence_with_its_parallel_credit(structure, rights, worth):
    assert coherence([right == "1" for right in rights], structure) == worth


def test_a_whole_set_by_hand(tmp_path):
    rows = [
        *group(),
        *group(video="002", kind="logic", structure="[1, [2, 3], 4]", level=3),
        *group(video="003", kind="logic", structure=START, level=None),
    ]
    samples, bad = read(tmp_path, rows)
    assert bad == []
    assert [one.id for one in samples[:4]] == ["001-1", "001-2", "001-3", "001-4"]
    assert samples[0].options[7] == "h thing"
    right = {one.id: one.answer for one in samples}
    texts = right | {"001-2": "?", "002-2": "G", "003-1": "The answer is I"}
    items, found = scores(samples, texts)
    assert [item.values["nonlinear"] for item in items] == [9 / 16, 4 / 12, 0.1]
    assert found["consistency"] == 9 / 16
    assert found["coherence"] == pytest.approx((4 / 12 + 0.1) / 2)
    assert found["nonlinear"] == pytest.approx((9 / 16 + 4 / 12 + 0.1) / 3)
    assert found["accuracy"] == 0.75
    assert found["robustness"] == pytest.approx(found["nonlinear"] / 0.75)
    # Those of the last question.
    assert items[0].groups == ("level/2", "second_head/Order", "third_head/third 4")
    assert items[2].groups == ("second_head/Order", "third_head/third 4")
    assert items[1].questions == ("002-1", "002-2", "002-3", "002-4")


@pytest.mark.parametrize(
    ("level", "groups"), [(2.0, ["level/2"]), (None, []), ("None", []), (float("nan"), [])]
)
def test_a_level_may_be_missing_or_come_from_a_table_of_floats(tmp_path, level, groups):
    samples, _ = read(tmp_path, group(level=level))
    assert [name for name in samples[0].meta["groups"] if "level" in name] == groups


def test_what_cannot_be_read_is_wrong_and_neither_minus_one_nor_right(tmp_path):
    rows = [*group(), *group(video="002", kind="logic")]
    samples, _ = read(tmp_path, rows)
    items, found = scores(samples, {one.id: "" for one in samples})
    assert [item.values["nonlinear"] for item in items] == [0.0, 0.0]
    assert "robustness" not in found
    verdicts = VideoMMEv2().verdicts([Answered(samples[0], "")])
    assert (verdicts[0].values, verdicts[0].problem) == ({"accuracy": 0.0}, "no option's letter")


@pytest.mark.parametrize(
    ("rows", "name", "message"),
    [
        (group()[:3], "001", "must have the questions 001-1 to 001-4, got the numbers"),
        ([*group(), record(4)], "001", "got the numbers"),
        (group(kind="logic", structure="[1, 2, [3, 4]]"), "001", "'group_structure' must be one"),
        (group(kind="logic", structure="[" * 100_000), "001", "'group_structure' must be one"),
        (group(kind="other"), "001", "'group_type' must be relevance or logic, got 'other'"),
        ([*group()[:3], record(2, kind="logic")], "001", "must be the same in a group"),
        (group(answer="I"), "001", "must be the letter of one of the options"),
        (group(options="no letters"), "001", "must list its options"),
        (group(question_id="001-x"), "001", "must end in -1 to -4"),
        ([record(1, video_id=None)], "?", "'video_id' must be a text, got None"),
    ],
)
def test_a_broken_group_is_one_bad_item(tmp_path, rows, name, message):
    samples, (bad,) = read(tmp_path, rows)
    assert (samples, bad.id) == ([], name)
    assert message in bad.reason


def test_a_group_with_an_answer_less_is_named(tmp_path):
    samples, _ = read(tmp_path, group())
    with pytest.raises(ValueError, match="group 001 needs answers to its questions 1 to 4"):
        scores(samples[:3], {one.id: "A" for one in samples})
