import pytest

from lit_vdistill.readers.templates import load_template
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
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            load_template(str(path))
