import json
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lit_vdistill.__main__ import main
from lit_vdistill.tracking.credit_page import credit_page

RECORD = {
    "sample": "s<1>", "step": 20, "rollout": 1, "question": "When & where?", "answer": "B",
    "tokens": ["<think>", "a", "</think>", "<script>alert(1)</script>"],
    "answer_log_ratio": [0.0, 0.5, -0.5, 0.1], "feedback_log_ratio": [0.0, 0.75, -1.5, 0.1],
    "weights": [1.0, 1.2, 0.8, 1.1], "clip": 0.2, "advantage": -0.7,
    "rewards": {"answer": 0.0, "format": 1.0}, "feedback": "The answer is <b>wrong</b>.",
    "frames": [{"time_s": 1.5, "width": 64, "height": 64, "png": "aGk=",
                "boxes": [{"name": "red <square>", "box": [1, 2, 11, 22]}]}],
}  # fmt: skip


class Page(HTMLParser):
    """Tags, titles of spans by section, and the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sections, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "section":
            self.sections.append([])
        if tag == "span" and "title" in (found := dict(attributes)):
            self.sections[-1].append((found["title"], found["style"]))

    def handle_data(self, data):
        self.text += data


def test_the_page_shows_both_replays_and_their_difference():
    page = Page(credit_page(RECORD))
    answer, told, judge, weights = ([title for title, _ in s] for s in page.sections)
    assert answer == ["+0.000", "+0.500", "-0.500", "+0.100"]
    assert told == ["+0.000", "+0.750", "-1.500", "+0.100"]
    assert judge == ["+0.000", "+0.250", "-1.000", "+0.000"]
    assert weights == ["+0.000", "+0.200", "-0.200", "+0.100"]
    styles = [style for _, style in page.sections[1]]
    assert styles[0] == "background:rgb(255,255,255)"
    assert styles[2] == "background:rgb(214,69,65)"
    assert "advantage A-0.700" in page.text
    assert {"svg", "image", "rect"} <= set(page.tags)


def test_text_of_models_and_data_is_escaped():
    text = credit_page(RECORD)
    page = Page(text)
    assert "script" not in page.tags
    assert "b" not in page.tags
    for part in ("<script>alert(1)</script>", "The answer is <b>wrong</b>.", "When & where?"):
        assert part in page.text
    assert "http" not in text.replace("http-equiv", "")


def test_the_tool_writes_the_last_record_of_a_sample(tmp_path, capsys):
    folder = tmp_path / "credit"
    folder.mkdir()
    for step in (20, 40):
        (folder / f"{step:06d}-s.json").write_text(json.dumps(RECORD | {"step": step}))
    main(["show", "credit", "--run", str(tmp_path), "--sample", "s<1>"])
    assert capsys.readouterr().out == f"{folder / '000040-s.html'}\n"
    assert "<td>40</td>" in (folder / "000040-s.html").read_text()
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
    texts = ["<think>t</think><answer>B</answer>", "<think>t</think><answer>A</answer>"]
    medium = Medium("video", np.zeros((4, 32, 32, 3), dtype=np.uint8), (0.0, 1.0, 2.0, 3.0))
    reader = SimpleNamespace(read=lambda media, kind: medium)
    data = SimpleNamespace(reader=reader, prompt=SimpleNamespace(box_units=units))
    trainer = SimpleNamespace(is_global_zero=True, datamodule=data, global_step=20)
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
    assert (record["sample"], record["rollout"], record["step"]) == ("s1", 1, 20)
    assert record["advantage"] == pytest.approx(-0.9)
    assert record["rewards"] == {"answer": 0.0}
    assert record["feedback"]
    assert "".join(record["tokens"]).startswith(texts[1])
    assert len(record["tokens"]) == len(record["weights"]) == len(record["answer_log_ratio"])
    assert record["answer_log_ratio"] != record["feedback_log_ratio"]
    (box,) = record["frames"][3]["boxes"]
    assert (box["name"], box["box"][2]) == ("dog", pytest.approx(corner))
    assert Page(credit_page(record)).sections
    trainer.global_step = 21
    view.on_train_batch_start(trainer, stage, None, 0)
    assert not stage.wants_view
