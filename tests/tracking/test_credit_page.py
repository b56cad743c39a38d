import json
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lit_vdistill.__main__ import main
from lit_vdistill.objectives.credit import token_weights
from lit_vdistill.tracking.credit_page import credit_page

STYLE = Path("lit_vdistill/tracking/page/page.css").read_text()

RECORD = {
    "sample": "s<1>", "step": 20, "rollout": 1, "question": "When & where?", "answer": "B",
    "tokens": ["<think>", "a", "</think>", "<script>alert(1)</script>"],
    "conditioning": "feedback", "support": "top_k", "top_k": 16, "clip": 0.2, "mix": 0.5,
    "unjudged_log_ratio": [0.0, 0.5, -0.5, 0.1], "log_ratio": [0.0, 0.75, -1.5, 0.1],
    "weights": [1.0, 1.2, 0.8, 1.1], "advantage": -0.7,
    "rewards": {"answer": 0.0, "format": 1.0}, "feedback": "The answer is <b>wrong</b>.",
    "frames": [{"time_s": 1.5, "width": 64, "height": 64, "png": "aGk=",
                "boxes": [{"name": "red <square>", "box": [1.0, 2.0, 11.0, 22.0]}],
                "predicted": [{"name": "a <i>dot</i>", "box": [3.0, 2.0, 9.0, 22.0]}]}],
    "siblings": [{"rollout": i, "reward": 0.5 * i, "advantage": 0.7 - 1.4 * i,
                  "rewards": {"answer": 0.5 * i}, "text": f"<b>sibling {i}</b>"} for i in (0, 1)],
}  # fmt: skip


class Page(HTMLParser):
    """Tags, tokens with number and share of a full colour (+ for, - against), and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sections, self.text, self.links = [], [], "", []
        self.titles = []
        self.is_number = False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        found = dict(attributes)
        self.is_number = tag == "small"
        if tag == "section":
            self.sections.append([])
        kind, _, side = found.get("class", "").partition(" ")
        if tag == "span" and self.sections and kind == "token":
            share = float(found["style"].removeprefix("--share:").removesuffix("%")) / 100
            self.sections[-1].append([share if side == "for" else -share, ""])
        if tag == "a":
            self.links.append(found["href"])

    def handle_data(self, data):
        self.text += data
        if self.sections and self.tags[-1] == "h2" and not self.sections[-1]:
            self.titles.append(data)
        if self.is_number and self.sections:
            self.sections[-1][-1][1] = data

    def handle_endtag(self, tag):
        self.is_number = False


def numbers(section):
    return [number for _, number in section]


def test_the_page_shows_both_replays_and_their_difference():
    """Δ with and without the judge's words, δ, and the share of Δ that became credit."""
    page = Page(credit_page(RECORD))
    unjudged, told, judge, credit = page.sections
    assert numbers(unjudged) == ["+0.00", "+0.50", "-0.50", "+0.10"]
    assert numbers(told) == ["+0.00", "+0.75", "-1.50", "+0.10"]
    assert numbers(judge) == ["+0.00", "+0.25", "-1.00", "+0.00"]
    assert numbers(credit) == ["+0.000", "-0.100", "+0.100", "-0.050"]
    assert page.titles == [
        "Δ, told answer and evidence (Eq. 29)",
        "Δ, told answer, evidence and feedback (Eq. 30)",
        "δ, what the judge's feedback adds (Eq. 31)",
        "Credit, λ (m - 1) × sign of A (Eq. 26)",
    ]
    assert told[0][0] == 0
    assert told[2][0] == -1
    assert "advantage A-0.700" in page.text
    assert "its top 16 and the token itself" in page.text
    assert "λ 0.500, m within 1 ± 0.2" in page.text
    assert {"svg", "image", "rect"} <= set(page.tags)


@pytest.mark.parametrize(
    ("conditioning", "words"),
    [
        ("none", "told nothing"),
        ("answer", "told the answer"),
        ("evidence", "told answer and evidence"),
        ("feedback", "told answer and evidence"),
    ],
)
def test_what_was_not_used_is_not_shown(conditioning, words):
    """Without a judge, or with one that failed, there is one replay, and no δ of a judge."""
    used = {"conditioning": conditioning, "feedback": None, "unjudged_log_ratio": None}
    page = Page(credit_page(RECORD | used | {"support": "sampled_token", "mix": 0.1}))
    assert page.titles == [f"Δ, {words} (Eq. 22)", "Credit, λ (m - 1) × sign of A (Eq. 26)"]
    told, credit = page.sections
    assert numbers(told) == ["+0.00", "+0.75", "-1.50", "+0.10"]
    assert numbers(credit) == ["+0.000", "-0.020", "+0.020", "-0.010"]
    assert credit[1][0] == -1  # full at λ ε
    assert f"{words}; compared on the token itself, under the whole vocabulary" in page.text
    assert "top 16" not in page.text
    assert ("the judge failed" in page.text) == (conditioning == "feedback")


def test_credit_without_a_bound_and_without_room_is_shown_too():
    free = Page(credit_page(RECORD | {"clip": None, "weights": [1.0, 5.0, 0.8, 1.1]}))
    assert numbers(free.sections[-1])[1] == "-2.000"
    assert "m without bound" in free.text
    still = Page(credit_page(RECORD | {"clip": 0.0, "weights": [1.0] * 4}))
    assert numbers(still.sections[-1]) == ["+0.000"] * 4


@pytest.mark.parametrize(("advantage", "sign"), [(0.7, 1), (-0.7, -1)])
def test_a_colour_means_the_same_whatever_the_sign_of_the_advantage(advantage, sign):
    """Blue is for the token: with A > 0 more credit, with A < 0 less blame (Eq. 25)."""
    delta = torch.tensor([[0.0, 0.3, -0.3]])
    weights = token_weights(delta, torch.tensor([advantage]), clip=0.2)[0].tolist()
    told = {"log_ratio": delta[0].tolist(), "unjudged_log_ratio": [0.0] * 3}
    record = RECORD | told | {"weights": weights, "advantage": advantage, "tokens": ["a", "b", "c"]}
    _, ratios, _, credit = Page(credit_page(record)).sections
    for (_, ratio), (colour, moved), weight in zip(ratios, credit, weights, strict=True):
        assert float(ratio) * float(moved) >= 0
        assert float(moved) == pytest.approx(0.5 * sign * (weight - 1), abs=0.0005)
        assert colour == pytest.approx(sign * (weight - 1) / 0.2, abs=1e-4)
    assert credit[1][0] == 1
    assert credit[2][0] == -1


@pytest.mark.parametrize(
    ("conditioning", "words", "advantage", "told"),
    [
        ("feedback", "So <b>near</b>.", 0.7, "The judge: So <b>near</b>."),
        ("feedback", None, 0.7, "The judge failed."),
        ("feedback", None, 0.0, "Not judged, as A is 0."),
        ("evidence", None, 0.7, ""),
    ],
)
def test_the_judges_words_stand_below_each_rollout(conditioning, words, advantage, told):
    """VISD Figure 7."""
    sibling = RECORD["siblings"][0] | {"feedback": words, "advantage": advantage}
    used = {"conditioning": conditioning, "siblings": [sibling]}
    found = Page(credit_page(RECORD | used)).text.partition("The rollouts of this prompt")[2]
    assert found.split("</b>", 1)[1].replace("sibling 0", "").strip() == told


def test_a_phone_shows_one_column():
    text = credit_page(RECORD)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    narrow = text.partition("@media (max-width: 700px)")[2].partition("</style>")[0]
    assert ".views, dl { grid-template-columns: minmax(0, 1fr); }" in narrow


def rule(selector):
    return STYLE.partition(f"\n{selector} {{")[2].partition("}")[0]


def test_no_token_leaves_its_place_or_takes_another_colour():
    """Some are a hundred signs or blanks long; the legend's stand in a paler paragraph."""
    rules = {"max-width: 100%", "white-space: break-spaces", "color: var(--ink)"}
    assert rules <= set(re.split(r";\s*", rule(".token")))
    record = RECORD | {"tokens": ["  ", " a", "\n", "b"]}
    assert Page(credit_page(record)).text.count("␣␣+0.00") == 4


def test_a_number_that_rounds_to_zero_has_one_sign():
    page = Page(credit_page(RECORD | {"unjudged_log_ratio": [-0.001, 0.001, 0.0, -0.006]}))
    assert numbers(page.sections[0]) == ["+0.00", "+0.00", "+0.00", "-0.01"]


def test_edges_are_as_wide_on_a_large_frame_and_seen_on_a_dark_one():
    assert "vector-effect: non-scaling-stroke" in rule(".frame rect")
    assert "stroke-width" not in credit_page(RECORD).partition("<svg")[2]
    drawn = re.findall(r'<rect class="(\w+)" x="(\d+)"', credit_page(RECORD))
    assert drawn == [("halo", "1"), ("halo", "3"), ("annotated", "1"), ("s1", "3")]


def test_a_rollout_without_boxes_is_said_to_have_none():
    frame = RECORD["frames"][0] | {"predicted": []}
    assert "of this rollout, dashed" in Page(credit_page(RECORD)).text
    assert (
        "of this rollout, none with a time" in Page(credit_page(RECORD | {"frames": [frame]})).text
    )


def test_boxes_siblings_and_legend_stand_on_the_page():
    text = credit_page(RECORD)
    page = Page(text)
    assert text.count('<rect class="annotated"') == text.count('<rect class="s1"') == 1
    assert "annotated, solid" in page.text
    assert "rollout 0: reward 0.000, A +0.700 (answer 0.00)" in page.text
    assert "rollout 1: reward 0.500, A -0.700 (answer 0.50)" in page.text
    legend = page.text.partition("Blue:")[2].partition("its bound")[0]
    for number in ("-1.00", "-0.50", "+0.50", "+1.00", "-0.100", "+0.100"):
        assert number in legend
    assert page.links == []
    assert Page(credit_page(RECORD, "a.html", "b.html")).links == ["a.html", "b.html"] * 2


def test_text_of_models_and_data_is_escaped():
    text = credit_page(RECORD)
    page = Page(text)
    assert not {"script", "b", "i"} & set(page.tags)
    for part in ("<script>alert(1)</script>", "The answer is <b>wrong</b>.", "When & where?",
                 "<b>sibling 0</b>", "a <i>dot</i>", "red <square>"):  # fmt: skip
        assert part in page.text
    assert "://" not in text


def test_the_tool_writes_the_last_record_of_a_sample(tmp_path, capsys):
    folder = tmp_path / "credit"
    folder.mkdir()
    for step in (20, 40):
        (folder / f"{step:06d}-s.json").write_text(json.dumps(RECORD | {"step": step}))
    main(["show", "credit", "--run", str(tmp_path), "--sample", "s<1>"])
    assert capsys.readouterr().out == f"{folder / '000040-s.html'}\n"
    first, last = ((folder / f"0000{step}-s.html").read_text() for step in (20, 40))
    assert "<dt>step</dt><dd>40</dd>" in last
    assert Page(first).links == ["000040-s.html"] * 2
    assert Page(last).links == ["000020-s.html"] * 2
    main(["show", "credit", "--run", str(tmp_path), "--out", str(tmp_path / "page.html")])
    assert (tmp_path / "page.html").is_file()


def test_what_is_missing_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["show", "credit", "--run", str(tmp_path)])
    assert "TokenCreditView" in capsys.readouterr().err
    (tmp_path / "credit").mkdir()
    (tmp_path / "credit" / "1.json").write_text(json.dumps(RECORD))
    with pytest.raises(SystemExit):
        main(["show", "credit", "--run", str(tmp_path), "--sample", "other"])
    assert "no record of sample 'other'; it has s<1>" in capsys.readouterr().err


def assert_complete(record, texts, corner):
    assert "".join(record["tokens"]).startswith(texts[1])
    assert len(record["tokens"]) == len(record["weights"]) == len(record["unjudged_log_ratio"])
    assert record["unjudged_log_ratio"] != record["log_ratio"]
    assert [record[name] for name in ("conditioning", "support", "top_k", "clip", "mix")] == [
        "feedback", "top_k", 16, 0.2, 0.3,
    ]  # fmt: skip
    (box,), (predicted,) = (record["frames"][3]["boxes"], record["frames"][2]["predicted"])
    assert (box["name"], box["box"][2]) == ("dog", pytest.approx(corner))
    assert (predicted["name"], predicted["box"][2]) == ("dog", pytest.approx(corner / 2))
    siblings = [(s["rollout"], s["text"], s["advantage"]) for s in record["siblings"]]
    assert siblings == [(0, texts[0], pytest.approx(0.5)), (1, texts[1], pytest.approx(-0.9))]
    assert Page(credit_page(record)).sections


@pytest.mark.parametrize(("units", "corner"), [("pixels", 100.0), ("thousandths", 3.2)])
def test_the_callback_records_what_the_page_needs(
    tmp_path, batch_of, sampled_of, prepare, window_of, outcome_of, units, corner
):
    from callbacks import TokenCreditView
    from lit_vdistill.models.vlm import VLMConfig
    from lit_vdistill.rewards import Answer, AnswerBox
    from lit_vdistill.stages import VISDModule
    from lit_vdistill.stages.step import StepRecord
    from lit_vdistill.types import Medium

    rewards = [Answer(), AnswerBox()]
    stage = prepare(VISDModule(VLMConfig("tiny/qwen3-vl"), rewards))
    batch = batch_of(["B"], ["B"])
    seen = "<obj>dog</obj><box>[0,0,50,50]</box>at<t>2.0</t>s"
    texts = ["<think>t</think><answer>B</answer>", f"<think>{seen}</think><answer>A</answer>"]
    medium = Medium("video", np.zeros((4, 32, 32, 3), dtype=np.uint8), (0.0, 1.0, 2.0, 3.0))
    stage.credit_mix = 0.3  # annealed since the start
    reader, asked = SimpleNamespace(read=lambda *_: medium), SimpleNamespace(box_units=units)
    data = SimpleNamespace(reader=reader, train_set=asked)
    trainer = SimpleNamespace(is_global_zero=True, datamodule=data, global_step=20, loggers=[])
    view = TokenCreditView(str(tmp_path), every_n_steps=20)
    view.on_train_start(trainer, stage)
    view.on_train_batch_start(trainer, stage, None, 0)
    # The last piece has what moved most, and the second has no group.
    window = window_of(stage, sampled_of(rewards, batch, texts, texts), 3)
    advantages = iter(torch.tensor([[[0.3, 0.0]], [[9.0, 9.0]], [[0.5, -0.9]]]))
    for piece, row in enumerate(advantages):
        part = window.part(piece, "cpu")
        stage.outcomes.append(outcome_of(stage, part, row))
        stage.policy_loss(part, stage.outcomes[-1])
    stage.last_step = StepRecord.of(20, window, stage.outcomes)
    view.on_train_batch_end(trainer, stage, None, batch, 0)
    (path,) = (tmp_path / "credit").iterdir()
    record = json.loads(path.read_text())
    assert record["feedback"]
    assert (record["sample"], record["rollout"], record["step"]) == ("s1", 1, 20)
    assert record["advantage"] == pytest.approx(-0.9)
    assert record["rewards"] == {"answer": 0.0}
    judged = [sibling["feedback"] for sibling in record["siblings"]]
    assert judged[0] != judged[1] == record["feedback"]
    assert_complete(record, texts, corner)
    trainer.global_step = 21
    view.on_train_batch_start(trainer, stage, None, 0)
    assert not stage.wants_view
