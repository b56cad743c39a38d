import pytest

from lit_vdistill.evaluation import settings


def test_settings_that_answers_depend_on_are_compared(tmp_path):
    said = {"benchmark": {"class_path": "a.B"}, "frames": {"fps": 2}, "versions": {"torch": "1"}}
    settings.write_settings(tmp_path, said)
    assert settings.read_settings(tmp_path) == said
    now = {"benchmark": {"class_path": "a.B"}, "frames": {"fps": 1}, "blind": True, "versions": {}}
    assert settings.differences(said, now) == [
        "blind: None before, True now",
        "frames.fps: 2 before, 1 now",
    ]
    assert settings.differences({"a": (1, 2)}, {"a": [1, 2]}) == []


@pytest.mark.parametrize("text", ["{", "[]", "{}", "[" * 10_000])
def test_a_file_that_is_no_settings_is_named(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match="run.json: "):
        settings.read_settings(tmp_path)


def test_weights_are_told_apart_by_what_is_in_them(tmp_path):
    assert settings.weights_of("Qwen/Qwen3-VL-4B-Instruct") is None
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(40 << 20))
    before = settings.weights_of(str(tmp_path))
    assert before == settings.weights_of(str(tmp_path))
    with file.open("r+b") as changed:
        changed.seek((40 << 20) - 5)
        changed.write(b"x")
    assert settings.weights_of(str(tmp_path)) != before


def test_questions_are_told_apart_by_their_truth(make_sample):
    one, other = make_sample(id="a", answer="A"), make_sample(id="a", answer="B")
    assert settings.questions_of([one]) == settings.questions_of([one])
    assert settings.questions_of([one]) != settings.questions_of([other])
