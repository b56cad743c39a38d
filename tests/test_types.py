import copy
import importlib
import pickle
import sys

import pytest

from lit_vdistill.tasks import Task
from lit_vdistill.tasks.closed import Mcq

TEN = [
    *("mcq", "binary", "numerical", "ocr", "temporal_grounding", "temporal_mcq"),
    *("spatial_grounding", "spatio_temporal_qa", "open_ended"),
    "spatio_temporal_grounding",
]


def test_a_task_is_found_by_its_name():
    assert list(Task) == TEN
    assert len(Task) == 10
    assert Task("mcq") is Task.MCQ
    assert isinstance(Task.MCQ, Mcq)
    assert f"{Task.MCQ}" == "mcq"
    with pytest.raises(ValueError, match="'task' must be one of .'mcq', 'binary', .*got 'mqc'"):
        Task("mqc")
    with pytest.raises(AttributeError, match="'Task' has no 'MQC'"):
        _ = Task.MQC
    with pytest.raises(AttributeError, match="'Task' has no 'mcq'"):
        _ = Task.mcq


def test_which_tasks_are_what():
    def those(attribute):
        return {str(task) for task in Task if getattr(task, attribute)}

    assert set(TEN) - those("is_closed_ended") == {"spatio_temporal_qa", "open_ended"}
    assert those("answers_span") == {"temporal_grounding", "temporal_mcq"}
    assert those("answers_box") == {"spatial_grounding"}
    assert those("needs_medium") == {
        *("temporal_grounding", "temporal_mcq", "spatial_grounding", "spatio_temporal_qa"),
        "spatio_temporal_grounding",
    }


def test_a_copy_of_a_task_is_the_task():
    assert copy.deepcopy(Task.OCR) is Task.OCR
    assert pickle.loads(pickle.dumps(Task.OCR)) is Task.OCR


def test_a_process_that_is_sent_a_task_of_ones_own_knows_it(own_tasks, tmp_path, monkeypatch):
    """Loading processes import nothing that YAML names."""
    (tmp_path / "shouting.py").write_text(
        "from lit_vdistill.tasks import Task\n\n\n"
        "class Shouting(Task):\n    name = 'shouting'\n    is_closed_ended = False\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "shouting", importlib.import_module("shouting"))
    sent = pickle.dumps(Task("shouting"))
    del sys.modules["shouting"]
    monkeypatch.setattr(Task, "known", {name: Task.known[name] for name in TEN})
    assert pickle.loads(sent) is Task.SHOUTING


def test_a_class_that_makes_no_task_is_refused_when_it_is_written(own_tasks):
    with pytest.raises(TypeError, match="must be a lower-case word, got 'Which colour'"):
        type("Colour", (Task,), {"name": "Which colour", "is_closed_ended": False})
    with pytest.raises(TypeError, match=r"lit_vdistill.tasks.closed has a task 'mcq', choose"):
        type("Again", (Task,), {"name": "mcq", "is_closed_ended": False})
    with pytest.raises(TypeError, match="a closed-ended task needs the method 'quality'"):
        type("Colour", (Task,), {"name": "colour"})
    methods = {"name": "colour", "answers_box": True, "quality": Mcq.quality}
    with pytest.raises(TypeError, match="words beside a segment or box need 'words_quality'"):
        type("Colour", (Task,), methods)
    assert list(Task) == TEN


def test_open_ended_tasks_have_no_metric(make_sample):
    with pytest.raises(NotImplementedError, match="'open_ended' is open-ended, it has no metric"):
        Task.OPEN_ENDED.quality("a", make_sample("open_ended"), 0.01)
    with pytest.raises(NotImplementedError, match="'mcq' has no words beside"):
        Task.MCQ.words_quality("B", make_sample())
