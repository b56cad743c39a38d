from lit_vdistill.responses.prompts import GROUNDED, SHORT, render_messages
from lit_vdistill.types import Task


def test_medium_stands_before_question_and_options_get_letters(make_sample):
    (turn,) = render_messages(make_sample(), SHORT)
    assert [part["type"] for part in turn["content"]] == ["video", "text"]
    assert turn["content"][1]["text"] == "What?\nA. cat\nB. dog\nC. cow"


def test_text_sample_has_no_medium(make_sample):
    sample = make_sample(media=None, media_type="text")
    (turn,) = render_messages(sample, SHORT)
    assert [part["type"] for part in turn["content"]] == ["text"]


def test_grounded_template_covers_every_task(make_sample):
    assert set(GROUNDED.instructions) == set(Task)
    system, user = render_messages(make_sample(), GROUNDED)
    assert "<think></think>" in system["content"]
    assert user["content"][1]["text"].endswith("Answer with the letter of the option only.")
