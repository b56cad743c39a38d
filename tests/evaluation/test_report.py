import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from lit_vdistill.evaluation.report import report

HOSTILE = '<script>alert("1")</script>\u2028\ud83d|'


def score(value, width=0.05, items=4):
    low, high = (None, None) if width is None else (value - width, value + width)
    error = None if width is None else width / 2
    return {"value": value, "low": low, "high": high, "standard_error": error, "items": items,
            "videos": 2}  # fmt: skip


def row(name, media, response, accuracy, **changes):
    box = {"time_s": 1.0, "name": "red square", "box": [250, 250, 500, 500]}
    truth = {"answer": "A", "spans": [[1.0, 3.0]], "boxes": [box], "key_times": []}
    return {
        "id": name, "task": "temporal_grounding", "meta": {}, "media": media,
        "media_type": "video", "frame_times_s": [0.0, 1.0, 2.0, 3.0], "question": "When?",
        "options": [], "truth": truth, "response": response, "envelope": "strict",
        "prompt": "a prompt", "problem": None, "is_truncated": False,
        "scores": {"accuracy": accuracy}, "sampled": [],
    } | changes  # fmt: skip


RIGHT = "<think>It is so.</think><answer><t>1.0</t>s to <t>2.5</t>s</answer>"
WRONG = (
    "<think><obj>blue disc</obj><box>[0,0,500,500]</box>at<t>2.0</t>s</think>"
    "<answer><t>4.0</t>s to <t>3.0</t>s</answer>"
)


@pytest.fixture
def run_of(tmp_path, world):
    """Writes a run's folder: three questions about a clip of the world, one about a lost file."""
    clip = next((world / "videos").glob("*.mp4")).relative_to(world).as_posix()

    def write(name, answers, scores=None, settings=None, rows=()):
        folder = tmp_path / name
        folder.mkdir()
        found = {
            "benchmark": "small", "headline": "accuracy", "student": "student", "questions": 4,
            "videos": 2, "problems": {"no_think": 1}, "scores": {"accuracy": score(0.5)},
            "groups": {"duration/short": {"accuracy": score(0.25, None)}}, "remarks": ["remark"],
            "descriptions": {"accuracy": "share of right answers"},
            "published": [{"model": "Big", "source": "Table 1", "values": {"accuracy": 0.9}}],
            "pass_at_k": None, "blind": None,
        } | (scores or {})  # fmt: skip
        settings = {
            "benchmark": {"name": "small"}, "student": "student", "data_root": str(world),
            "frames": {"max_frames": 4, "factor": 1}, "prompt": {"box_units": "thousandths"},
            "sampling": {"temperature": 0.0}, "blind": False, "versions": {"torch": "2.9"},
        } | (settings or {})  # fmt: skip
        lines = [row(f"q{i}", clip, *answer) for i, answer in enumerate(answers)]
        lines = [*lines, *rows]
        (folder / "scores.json").write_text(json.dumps(found))
        (folder / "run.json").write_text(json.dumps(settings))
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "predictions.jsonl").write_text(text)
        return str(folder)

    return write


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.spans, self.boxes = [], "", [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        found = dict(attributes)
        if tag == "rect" and found.get("class") in ("annotated", "s1", "s2"):
            self.boxes.append((found["class"], *(float(found[k]) for k in ("x", "width"))))
        if tag == "rect" and found.get("class") == "bar":
            self.spans.append((float(found["x"][:-1]), float(found["width"][:-1])))

    def handle_data(self, data):
        self.text += " ".join(data.split()) + "\n" if data.strip() else ""


def read(folder):
    with open(f"{folder}/report.html", encoding="utf-8") as page:
        text = page.read()
    with open(f"{folder}/report.md", encoding="utf-8") as page:
        return text, Page(text), page.read()


def test_one_run_has_scores_intervals_papers_and_failures(run_of, capsys):
    folder = run_of("a", [(RIGHT, 1.0), (WRONG, 0.0)])
    report([folder])
    assert capsys.readouterr().out == f"{folder}/report.html\n{folder}/report.md\n"
    _, page, text = read(folder)
    for part in ("0.500", "0.450 to 0.550", "n 4, 2 videos", "no interval", "0.900", "no_think",
                 "1 (25.0%)", "remark", "Table 1; another model and data: not compared",
                 "has no blind run", "4 questions about 2 videos"):  # fmt: skip
        assert part in page.text, part
        assert part.replace("_", r"\_") in text, part
    assert "pass@k" not in page.text


def test_segments_and_boxes_are_drawn_on_the_frames(run_of, world):
    from lit_vdistill.media.video import FrameConfig, MediaReader

    folder = run_of("a", [(WRONG, 0.0)])
    report([folder])
    _, page, _ = read(folder)
    clip = next((world / "videos").glob("*.mp4")).relative_to(world).as_posix()
    medium = MediaReader(world, FrameConfig(max_frames=4), factor=1, cache_dir=None).read(
        clip, "video"
    )
    width = medium.frames.shape[2]
    assert ("annotated", width / 4, width / 4) in page.boxes
    assert ("s1", 0.0, width / 2) in page.boxes
    true, predicted = page.spans
    assert true == pytest.approx((100 / medium.length_s, 200 / medium.length_s), abs=0.01)
    assert predicted == pytest.approx((400 / medium.length_s, 0.4), abs=0.01)
    assert "4.0 to 3.0 s (ends before it begins)" in page.text
    assert page.tags.count("image") == 4


def test_two_students_stand_side_by_side_and_differing_questions_first(run_of):
    one = run_of("a", [(RIGHT, 1.0), (RIGHT, 1.0), (WRONG, 0.0)])
    other = run_of(
        "b",
        [(RIGHT, 1.0), (WRONG, 0.0), (WRONG, 0.0)],
        {"blind": {"run": "dark", "scores": {"accuracy": score(0.125)}}},
        {"sampling": {"temperature": 0.7}},
    )  # fmt: skip
    report([one, other], items=2)
    text, page, _ = read(one)
    assert re.findall(r"<h3>(q\d)</h3>", text) == ["q1", "q2"]
    assert "text alone 0.125" in page.text
    assert "2 of 3" in page.text
    assert text.count('<div class="answer s2">') == 2
    table = text.partition('id="settings"')[2]
    marked = re.findall(r'<td class="[^"]*marked[^"]*">([^<]*)', table)
    assert marked[:2] == ["0.0", "0.7"]
    assert len(marked) == 2


def test_pass_at_k_is_drawn_with_guessing_once(run_of):
    curve = {"k": [1, 2], "value": [0.5, 0.7], "low": [0.4, 0.6], "high": [0.6, 0.8],
             "guess": [0.25, 0.44]}  # fmt: skip
    folders = [run_of(name, [(RIGHT, 1.0)], {"pass_at_k": curve}) for name in "ab"]
    report(folders)
    text, page, markdown = read(folders[0])
    label = re.search(r'aria-label="(pass@k[^"]*)"', text)[1]
    assert label.count("guessing") == 1
    assert "0.500 at 1, 0.700 at 2" in label
    assert "0.440" in page.text
    assert "guessing" in markdown


def test_media_that_cannot_be_read_are_said(run_of):
    lost = row("lost", "videos/none.mp4", "", 0.0, problem="medium: no such file")
    outside = row("outside", "../../etc/passwd", RIGHT, 1.0)
    folder = run_of("a", [], rows=[lost, outside, row("text", None, RIGHT, 1.0)])
    report([folder])
    _, page, text = read(folder)
    assert page.text.count("The medium cannot be read here") == 2
    assert "The medium cannot be read here" in text
    assert "medium: no such file" in page.text
    assert "leaves data.media_root" in page.text
    assert "no response" in page.text


def test_clips_and_pixels_of_another_size_are_drawn_in_place(run_of, world):
    clip = next((world / "videos").glob("*.mp4")).relative_to(world).as_posix()
    part = {"file": clip, "start_s": 1.0, "end_s": 4.0}
    folder = run_of("a", [], rows=[row("clip", part, WRONG, 0.0)])
    small = {"frames": {"max_frames": 4, "max_pixels": 256, "factor": 1}}
    other = run_of("b", [], None, small | {"prompt": {"box_units": "pixels"}}, [
        row("clip", part, WRONG.replace("[0,0,500,500]", "[0,0,8,8]"), 0.0)
    ])  # fmt: skip
    report([folder, other])
    _, page, _ = read(folder)
    boxes = {kind: wide for kind, _, wide in page.boxes}
    assert boxes["s2"] == pytest.approx(boxes["s1"])


def test_boxes_of_unknown_units_are_said_not_guessed(run_of):
    folder = run_of("a", [(WRONG, 0.0)], None, {"prompt": {"box_units": None}})
    report([folder])
    _, page, _ = read(folder)
    assert not page.boxes
    assert "2 boxes of" in page.text
    assert "does not say prompt.box_units" in page.text


def test_hostile_texts_are_text(run_of):
    changes = {"question": HOSTILE, "options": [HOSTILE], "prompt": HOSTILE, "task": HOSTILE}
    rows = [row(HOSTILE, HOSTILE, f"<think>{HOSTILE}</think><answer>{HOSTILE}</answer>", 0.0,
                problem=HOSTILE, **changes)]  # fmt: skip
    scores = {
        "student": HOSTILE, "remarks": [HOSTILE], "problems": {HOSTILE: 1},
        "scores": {"accuracy": score(0.5), HOSTILE: score(0.5)},
        "descriptions": {HOSTILE: HOSTILE}, "groups": {HOSTILE: {"accuracy": score(0.1)}},
        "published": [{"model": HOSTILE, "source": HOSTILE, "values": {HOSTILE: 0.1}}],
    }  # fmt: skip
    folder = run_of("a", [], scores, {"versions": {HOSTILE: HOSTILE}}, rows)
    report([folder])
    text, page, markdown = read(folder)
    assert not {"script", "iframe", "link"} & set(page.tags)
    assert '<script>alert("1")</script>' in page.text
    assert "<script" not in markdown
    assert set(re.findall(r"\w+://[^\"' ]+", text)) <= {"http://www.w3.org/2000/svg"}


BROKEN = {
    "scores.json": [
        ("{", "not JSON"),
        ("[]", "'the file' must be a dict"),
        ('{"benchmark": 1}', "'benchmark' must be a str"),
        ('{"benchmark": "b"}', "the key 'headline' is missing"),
        ('{"benchmark": NaN}', "NaN is no number"),
    ],
    "run.json": [("", "not JSON"), ("{}", "'frames' and 'prompt' must be there")],
    "predictions.jsonl": [
        ("[1]\n", "line 1: 'the line' must be a dict"),
        ('{"id": "x"}\n', "line 1: the key 'truth' is missing"),
    ],
}


@pytest.mark.parametrize(
    ("name", "text", "told"), [(name, *case) for name in BROKEN for case in BROKEN[name]]
)
def test_a_broken_file_is_named(run_of, tmp_path, name, text, told):
    folder = run_of("a", [(RIGHT, 1.0)])
    (tmp_path / "a" / name).write_text(text)
    with pytest.raises(SystemExit, match=re.escape(told)) as error:
        report([folder])
    assert str(error.value).startswith("error: ")
    assert str(error.value).count(name) == 1
    (tmp_path / "a" / name).unlink()
    with pytest.raises(SystemExit, match=rf"^error: .*{name} does not exist"):
        report([folder])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scores": {"x": score("high", None)}}, "score 'x': 'value' must be a number"),
        ({"questions": -1}, "'questions' must be a count"),
        ({"problems": {"x": 0.5}}, "'x' must be a count"),
        ({"pass_at_k": {"k": [1], "value": [], "low": [0], "high": [0], "guess": None}},
         "'pass_at_k.value' must have a number for each of the 1 k"),
        ({"blind": 3}, "'blind' must be a dict"),
    ],
)  # fmt: skip
def test_a_wrong_score_is_named(run_of, changes, told):
    with pytest.raises(SystemExit, match=re.escape(told)):
        report([run_of("a", [(RIGHT, 1.0)], changes)])


def test_runs_that_cannot_stand_side_by_side_are_refused(run_of):
    one, other = run_of("a", [(RIGHT, 1.0)]), run_of("b", [(RIGHT, 1.0)], {"benchmark": "large"})
    with pytest.raises(SystemExit, match=r"error: runs: expected one benchmark, got .*a: small"):
        report([one, other])
    with pytest.raises(SystemExit, match="expected each folder once"):
        report([one, one])
    with pytest.raises(SystemExit, match="expected one folder or more"):
        report([])
    with pytest.raises(SystemExit, match="items: expected 0 or more"):
        report([one], items=-1)


def test_the_same_id_twice_is_refused(run_of):
    rows = [row("q", None, RIGHT, 1.0)] * 2
    with pytest.raises(SystemExit, match="line 2: the id 'q' stands in the file already"):
        report([run_of("a", [], rows=rows)])


def test_no_torch_is_imported(run_of):
    folder = run_of("a", [(RIGHT, 1.0)])
    code = (
        "import sys; from lit_vdistill.evaluation.report import report; "
        f"report([{folder!r}]); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
