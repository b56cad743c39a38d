import pytest

from lit_vdistill.data.templates import load_template
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
    with pytest.raises(ValueError, match="expected the keys name, system and instructions"):
        load_template(str(path))
    with pytest.raises(ValueError, match="'grounded', 'short'"):
        load_template("grunded")
