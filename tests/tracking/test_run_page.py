import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import yaml

from lit_vdistill.__main__ import main
from lit_vdistill.tracking.run_page import report

HOSTILE = '<script>alert("1")</script>\u2028\ud83d|{{ 7 * 7 }}'
RIGHT = (
    "<think>It is <obj>dot</obj><box>[0,0,500,500]</box>at<t>1.0</t>s</think><answer>{}</answer>"
)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.boxes, self.articles = [], "", [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "rect":
            self.boxes.append(dict(attributes).get("class"))
        if tag == "article":
            self.articles.append("")

    def handle_data(self, data):
        self.text += data
        if self.articles:
            self.articles[-1] += data


@pytest.fixture
def run_of(tmp_path, world):
    """Writes a run's folder about the small world."""
    samples = [json.loads(line) for line in (world / "train.jsonl").read_text().splitlines()]

    def write(name, rewards=(0.0, 1.0), step=0, config=None, files=None, response=RIGHT):
        folder = tmp_path / "runs" / name
        (folder / "csv").mkdir(parents=True)
        (folder / "csv" / "metrics.csv").write_text(
            "policy/entropy,policy/grad_norm,reward/total,step\n1.5,0.5,0.25,0\n1.0,0.75,0.5,1\n"
        )
        told = {
            "name": name, "run_dir": f"runs/{name}",
            "model": {"class_path": "lit_vdistill.stages.VISDModule"},
            "data": {"init_args": {
                "sources": {"train_path": [{"path": str(world / "train.jsonl"), "share": 1.0}],
                            "media_root": str(world)},
                "frames": {"max_frames": 4},
                "prompt": {"box_units": "thousandths", "envelope": "strict"},
            }},
        } | (config or {})  # fmt: skip
        rows = [
            {"step": step, "sample": sample["id"], "task": sample["task"],
             "question": sample["question"], "answer": sample["answer"],
             "response": response.format(i), "truncated": False, "judge": HOSTILE,
             "reward/answer": paid, "reward/total": paid, "advantage": paid - 0.5}
            for sample in samples[:3] for i, paid in enumerate(rewards)
        ]  # fmt: skip
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        written = {"config.yaml": yaml.safe_dump(told), "rollouts.jsonl": lines} | (files or {})
        for file, text in written.items():
            (folder / file).parent.mkdir(exist_ok=True)
            (folder / file).write_text(text)
        return str(folder)

    return write


def page_of(tmp_path, runs, **options):
    target = tmp_path / "page.html"
    report(runs, str(target), **options)
    return Page(target.read_text())


ALARM = {"step": 7, "alarm": "kl", "metric": "kl/ref", "statistic": "median", "value": 0.75,
         "limit": 0.5, "beginning": 0.1, "last": 0.8, "window": 20,
         "mend": "a lower lr"}  # fmt: skip


def test_two_runs_stand_side_by_side(run_of, tmp_path, capsys):
    summary = {"seconds": 3.0, "stage1": {"step": 0, "score": 0.25}, "visd": {"score": 0.75}}
    one = run_of("a", files={"health.jsonl": json.dumps(ALARM) + "\n",
                             "summary.json": json.dumps(summary)})  # fmt: skip
    other = run_of("b", (0.5, 0.5), 20, {"seed_everything": 3}, {"health.jsonl": ""})
    main(["report", "--runs", one, other])
    assert capsys.readouterr().out == f"{one}/report.html\n"
    text = (tmp_path / "runs" / "a" / "report.html").read_text()
    page = Page(text)
    assert "before 0.250, +0.500" in page.text
    assert "median of kl/ref 0.750, beyond 0.500" in page.text
    assert "a lower lr" in page.text
    assert text.count('class="chart"') == 3
    settings = page.text.partition("In which the runs differ.")[2].partition("other settings")[0]
    assert "seed_everything" in settings
    assert "max_frames" not in settings
    for article in page.articles:
        assert "step 0, mean reward 0.500" in article
        assert "step 20, mean reward 0.500" in article
    assert {"annotated", "s1", "s2"} <= set(page.boxes)
    assert "image" in page.tags
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")


def test_equal_rollouts_are_shown_once_and_the_best_first(run_of, tmp_path):
    folder = run_of("a", (0.0, 1.0, 0.0), response="<think>t</think><answer>same</answer>")
    article = page_of(tmp_path, [folder]).articles[0]
    paid = re.findall(r"(\d\.\d{3}(?: \(\d equal\))?)A [+-]", article)
    assert paid == ["1.000", "0.000 (2 equal)"]


def test_questions_on_which_runs_differ_come_first(run_of, tmp_path):
    one, other = run_of("a"), run_of("b")
    path = tmp_path / "runs" / "b" / "rollouts.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    ids = list(dict.fromkeys(row["sample"] for row in rows))
    rows = [row | {"reward/total": 0.0 if row["sample"] == ids[2] else row["reward/total"]}
            for row in rows if row["sample"] != ids[0]]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = page_of(tmp_path, [one, other], questions=3)
    order = [next(name for name in ids if name in article) for article in page.articles]
    assert order == [ids[2], ids[1], ids[0]]
    assert "b has no rollouts of it." in page.articles[2]
    assert len(page_of(tmp_path, [one, other], questions=1).articles) == 1


def test_all_text_is_escaped(run_of, tmp_path):
    from tests.tracking.test_credit_page import RECORD

    record = RECORD | {"sample": HOSTILE, "question": HOSTILE}
    folder = run_of(
        "a", response=HOSTILE.replace("{", "{{").replace("}", "}}"),
        config={"name": HOSTILE}, files={"credit/000000-s.json": json.dumps(record),
        "health.jsonl": json.dumps(ALARM | {"mend": HOSTILE}) + "\n",
        "run_card.json": json.dumps({"outcome": HOSTILE})},
    )  # fmt: skip
    path = tmp_path / "runs" / "a" / "rollouts.jsonl"
    rows = [json.loads(line) | {"question": HOSTILE, "answer": HOSTILE, "reward/<b>": 1.0}
            for line in path.read_text().splitlines()]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = page_of(tmp_path, [folder])
    assert not {"script", "i"} & set(page.tags)
    assert page.text.count('<script>alert("1")</script>') > 8
    assert "{{ 7 * 7 }}" in page.text
    assert "VISD Figures 7 and 8" in page.text


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"media_root": "/nowhere"}, "The medium cannot be read here"),
        ({"train_path": "nowhere.jsonl"}, "nowhere.jsonl does not exist"),
        ({"train_path": 3}, "expected paths under data.sources.media_root and train_path, got"),
        ({"media_root": None}, "expected paths under data.sources.media_root and train_path, got"),
    ],
)
def test_media_that_are_not_there_are_said(run_of, tmp_path, changes, told):
    folder = run_of("a")
    path = tmp_path / "runs" / "a" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["data"]["init_args"]["sources"] |= changes
    path.write_text(yaml.safe_dump(config))
    page = page_of(tmp_path, [folder])
    assert all(told in article for article in page.articles)
    assert "image" not in page.tags


def test_paths_of_a_config_are_relative_to_where_the_run_was_started(run_of, tmp_path, monkeypatch):
    """Not to where the page is made."""
    folder = run_of("a")
    path = tmp_path / "runs" / "a" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    sources = config["data"]["init_args"]["sources"]
    (tmp_path / "w").symlink_to(sources["media_root"])
    config["data"]["init_args"]["sources"] = {"train_path": "w/train.jsonl", "media_root": "w"}
    path.write_text(yaml.safe_dump(config))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert "image" in page_of(tmp_path, [folder]).tags


@pytest.mark.parametrize(("units", "student", "is_drawn"), [
    ("pixels", None, False),
    ("pixels", {"image_processor": {"patch_size": 16, "merge_size": 2}}, True),
    ("pixels", {"image_processor": {"patch_size": "16"}}, False),
    (None, None, False),
    ("thousandths", None, True),
])  # fmt: skip
def test_boxes_of_unknown_units_are_not_drawn(run_of, tmp_path, units, student, is_drawn):
    files = {"student/processor_config.json": json.dumps(student)} if student else {}
    folder = run_of("a", files=files)
    path = tmp_path / "runs" / "a" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["data"]["init_args"]["prompt"]["box_units"] = units
    path.write_text(yaml.safe_dump(config))
    page = page_of(tmp_path, [folder])
    assert ("s1" in page.boxes) == is_drawn
    assert ("1 boxes of a are not drawn" in page.text) == (not is_drawn)
    assert "annotated" in page.boxes


def test_a_run_that_left_curves_alone_has_a_page(run_of, tmp_path):
    folder = run_of("a")
    for file in ("config.yaml", "rollouts.jsonl"):
        (tmp_path / "runs" / "a" / file).unlink()
    page = page_of(tmp_path, [folder])
    assert "rollouts.jsonl is not there; callbacks.RolloutTable writes it" in page.text
    assert page.articles == []


def test_what_is_asked_wrongly_is_refused(run_of, tmp_path):
    folder = run_of("a", files={"credit/000000-s.json": json.dumps(
        {"sample": "s", "question": "q", "answer": "a", "conditioning": "none", "support": "top_k",
         "step": 0, "rollout": 0, "advantage": 1.0, "mix": 0.5})})  # fmt: skip
    with pytest.raises(SystemExit, match="expected one folder or more"):
        report([])
    with pytest.raises(SystemExit, match="expected each folder once"):
        report([folder, folder])
    with pytest.raises(SystemExit, match="questions: expected 0 or more, got -1"):
        report([folder], questions=-1)
    with pytest.raises(SystemExit, match=r"error: .*metrics\.csv does not exist"):
        report([str(tmp_path)])
    with pytest.raises(SystemExit, match="the record of step 0, sample 's' is not as callbacks"):
        report([folder])
    report([folder], credits=0, by="cell")


def test_no_torch_is_imported(run_of):
    folder = run_of("a")
    code = (
        "import sys; from lit_vdistill.__main__ import main; "
        f"main(['report', '--runs', {folder!r}]); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
