import pytest

from lit_vdistill.readers.templates import load_template
from lit_vdistill.responses.prompts import render_messages
from lit_vdistill.tasks import Task


def test_templates_come_from_files_too(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text("system: Be brief.\ninstructions: {mcq: Letter only.}\n")
    template = load_template(str(path))
    assert (template.name, template.system) == ("t", "Be brief.")
    assert template.instructions == {Task.MCQ: "Letter only."}
    path.write_text("instructions: {mqc: Letter only.}\n")
    with pytest.raises(ValueError, match="unknown task 'mqc'"):
        load_template(str(path))
    path.write_text("instruction: x\n")
    with pytest.raises(ValueError, match="expected the keys name, system, instr"):
        load_template(str(path))
    with pytest.raises(ValueError, match="'grounded', 'instructed', 'short'"):
        load_template("grunded")


def test_a_file_may_have_a_system_text_by_task_and_keep_questions(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text("system: {mcq: Say a letter.}\nkeeps_question: true\n")
    template = load_template(str(path))
    assert template.keeps_question
    assert template.system_of(Task.MCQ) == "Say a letter."
    assert template.system_of(Task.OCR) == ""
    for text, message in {
        "system: {mqc: x}": "unknown task 'mqc'",
        "system: [a]": "system must be a text by task",
        "system: {mcq: 3}": "system must be a text by task",
        "instructions: {mcq: [a]}": "instructions must be a text by task",
        "keeps_question: 3": "keeps_question must be true or false, got 3",
        "questions: [a]": "questions must be a text by kind or task",
        "questions: {mcq: 3}": "questions must be a text by kind or task",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            load_template(str(path))


def test_a_file_may_say_what_stands_in_place_of_a_question(tmp_path, make_sample):
    path = tmp_path / "official.yaml"
    path.write_text(
        "questions:\n"
        "  when: '{length_s} s: {question} Say {\"start\": 1}, {start: 2} or {}.'\n"
        '  mcq: "{question}\\n{options}\\nOne of {letters}."\n'
        "instructions: {mcq: Letter only.}\n"
    )
    template = load_template(str(path))
    (turn,) = render_messages(make_sample(question="Is it {options}?"), template)
    assert turn["content"][1]["text"] == (
        "Is it {options}?\nA. cat\nB. dog\nC. cow\nOne of A, B, C.\nLetter only."
    )
    # The kind comes before the task, and a bare question before the one with our words.
    fills = {"length_s": 7.5, "question": "When?"}
    meta = {"kind": "when", "fills": fills}
    (turn,) = render_messages(make_sample(meta=meta), template)
    assert turn["content"][1]["text"].startswith('7.5 s: When? Say {"start": 1}, {start: 2} or {}.')
    (turn,) = render_messages(make_sample("ocr", "x"), template)
    assert turn["content"][1]["text"] == "What?"
    with pytest.raises(ValueError) as error:  # noqa: PT011
        render_messages(make_sample(meta={"kind": "when"}), template)
    assert str(error.value) == (
        f"{path}: questions.when names {{length_s}}, sample s1 has ['letters', 'options', "
        "'question']; write other braces with a space behind the first"
    )
