import json

import pytest

from lit_vdistill.readers.records import read_records
from lit_vdistill.readers.stgr import parse_stgr
from lit_vdistill.tasks import Task
from lit_vdistill.types import BoxAt

FREE = {
    "id": "STR_1", "task": "temporal-spatial free-form QA", "source": "STR_activitynet",
    "video_path": "v.mp4", "question": "What does the man pick up?", "answer": "A red mug.",
    "key_frames": [{"idx": 1, "time": 12.4, "path": "1/1_time_12.40.jpg"}],
    "key_items": {"1": {"man": [[0.2, 0.3, 0.5, 0.9]], "mug": [[0.5, 0.6, 0.6, 0.7]]}},
    "image_size": None,
}  # fmt: skip
IMAGE = {
    "id": "g1", "task": "visual QA", "source": "gqa", "image_path": "2.jpg",
    "image_size": [500, 400], "question": "Who wears the bag?",
    "answer": "<obj>pedestrian</obj><box>[50, 100, 250, 400]</box>",
}  # fmt: skip
TIMED = {
    "id": "t1", "task": "temporal QA", "source": "timerft", "video_path": "x.mp4",
    "question": "the cat jumps down", "answer": "[12.0, 19.5]",
}  # fmt: skip
CHOICE = {
    "id": "m1", "task": "temporal QA (MCQ)", "source": "TVG_qvhighlight", "video_path": "y.mp4",
    "question": "Why does she stop? A. It rains\nB. A dog barks", "answer": "B\n[30.0, 44.0]",
}  # fmt: skip
GENERAL = CHOICE | {"id": "q1", "task": "General video QA MCQ", "source": "videor1", "answer": "A"}


def test_rows_of_every_task(tmp_path):
    path = tmp_path / "STGR-RL.json"
    open_ended = GENERAL | {"id": "o1", "task": "General video QA Free-form", "answer": "Rain."}
    path.write_text(json.dumps([FREE, IMAGE, TIMED, CHOICE, GENERAL, open_ended]))
    samples, bad = read_records(path)
    assert bad == []
    free, image, timed, choice, general, words = samples
    assert free.evidence.boxes == (
        BoxAt(12.4, "man", (0.2, 0.3, 0.5, 0.9)),
        BoxAt(12.4, "mug", (0.5, 0.6, 0.6, 0.7)),
    )
    assert free.media == "stgr/temporal_grounding/videos/v.mp4"
    assert (image.media_type, image.media, image.answer) == ("image", "gqa/2.jpg", "pedestrian")
    assert image.evidence.boxes == (BoxAt(None, "pedestrian", (0.1, 0.25, 0.5, 1.0)),)
    assert timed.evidence.spans == ((12.0, 19.5),)
    assert (choice.question, choice.options) == (
        "Why does she stop?",
        ("It rains", "A dog barks"),
    )
    assert (choice.answer, choice.evidence.spans) == ("B", ((30.0, 44.0),))
    assert (general.task, general.answer, general.media) == (Task.MCQ, "A", "videor1/y.mp4")
    assert (words.task, words.options) == (Task.OPEN_ENDED, ())


@pytest.mark.parametrize(
    ("row", "change", "message"),
    [
        (FREE, {"source": "youtube"}, "'source' must contain one of"),
        (FREE, {"key_frames": [{"idx": 1, "time": None}]}, "'key_frames.time' must be a number"),
        (FREE, {"key_frames": [{"idx": 1, "time": -1}]}, "'key_frames.time' must be a number"),
        (FREE, {"key_frames": [{"idx": 1, "time": True}]}, "'key_frames.time' must be a number"),
        (TIMED, {"answer": "(" * 5000}, "'answer' must hold a list of numbers"),
        (FREE, {"key_items": {"1": {"man": [[1, 2, 3]]}}}, "'key_items' must be a list of 4"),
        (FREE, {"key_items": {"1": {"man": [[10, 20, 30, 40]]}}}, "shares of width and height"),
        (IMAGE, {"image_size": None}, "'image_size' must be a list of 2 numbers"),
        (IMAGE, {"answer": "the man"}, "'answer' must hold <obj>"),
        (TIMED, {"answer": "at noon"}, "'answer' must hold a list of numbers"),
        (CHOICE, {"question": "Why?"}, "'question' must list its options"),
        (TIMED, {"video_path": None}, "'video_path' must be a str"),
    ],
)
def test_mistakes_are_named(row, change, message):
    with pytest.raises(ValueError, match=message):
        parse_stgr(row | change)


def test_a_key_frame_without_boxes_keeps_its_time():
    bare = parse_stgr(FREE | {"key_items": {"1": None}}).evidence
    assert (bare.boxes, bare.moments) == ((), (12.4,))
    frames = [{"idx": 2, "time": 15.0}, *FREE["key_frames"], {"idx": 3, "time": 12.4}]
    mixed = parse_stgr(FREE | {"key_frames": frames}).evidence
    assert {box.time_s for box in mixed.boxes} == {12.4}
    assert mixed.moments == (12.4, 15.0)
    none = parse_stgr(FREE | {"key_frames": None, "key_items": None}).evidence
    assert (none.boxes, none.moments) == ((), ())


def test_the_file_for_sft_answers_in_words():
    answer = "From <t>12.0</t>s to <t>19.5</t>s"
    sample = parse_stgr(TIMED | {"answer": answer})
    assert (sample.answer, sample.evidence.spans) == (answer, ((12.0, 19.5),))
    choice = parse_stgr(CHOICE | {"answer": f"{answer}.\nCorrect Option: B"})
    assert (choice.answer, choice.evidence.spans) == ("B", ((12.0, 19.5),))
    with pytest.raises(ValueError, match="0 <= start <= end"):
        parse_stgr(TIMED | {"answer": "From <t>12.0</t>s to <t>9.5</t>s"})


def test_a_box_of_an_image_may_overshoot_by_rounding():
    row = IMAGE | {"answer": "<obj>man</obj><box>[-1, 100, 250, 402]</box>"}
    assert parse_stgr(row).evidence.boxes[0].box == (0.0, 0.25, 0.5, 1.0)


def test_a_choice_keeps_its_question_as_it_is_written():
    choice = parse_stgr(CHOICE)
    assert choice.as_written == CHOICE["question"]
    assert (choice.question, choice.demonstration) == ("Why does she stop?", "")
    assert parse_stgr(TIMED).as_written == ""


def test_rows_for_sft_bring_what_is_imitated():
    """Boxes as shares: a video row's are, an image row's are pixels of the original."""
    reasoning = "The <obj>man</obj><box>[0.2, 0.3, 0.5, 0.9]</box>at<t>12.4</t>s bows."
    sample = parse_stgr(FREE | {"reasoning_process": reasoning})
    assert sample.demonstration == f"<think>{reasoning}</think>\n<answer>A red mug.</answer>"
    image = parse_stgr(IMAGE | {"reasoning_process": "A <obj>bag</obj><box>[50,100,60,400]</box>."})
    assert image.demonstration == (
        "<think>A <obj>bag</obj><box>[0.10000,0.25000,0.12000,1.00000]</box>.</think>\n"
        "<answer><obj>pedestrian</obj><box>[0.10000,0.25000,0.50000,1.00000]</box></answer>"
    )
    with pytest.raises(ValueError, match="'reasoning_process' must be a str"):
        parse_stgr(FREE | {"reasoning_process": ["a"]})
