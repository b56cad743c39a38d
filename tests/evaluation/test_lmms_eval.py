import json
import sys
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

CONFIG = "configs/benchmarks/lmms_eval.yaml"
_STUDENT_OF = {"qwen3_vl": "student", "qwen2_5_vl": "student", "qwen3_vl_moe": "student-A3B"}


@pytest.fixture
def student(tmp_path):
    def build(kind="qwen3_vl", name=None):
        folder = tmp_path / (name or _STUDENT_OF[kind])
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))
        return str(folder)

    return build


@pytest.fixture
def config(tmp_path):
    """Settings with an environment whose interpreter is a script: `says` is what it does."""
    from lit_vdistill.evaluation.lmms_eval import LmmsEvalConfig

    environment = tmp_path / "environment"

    def build(says="", **changes):
        python = environment / "bin/python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(f"#!{sys.executable}\n{says}")
        python.chmod(0o755)
        return LmmsEvalConfig(**({"tasks": "videomme", "environment": str(environment)} | changes))

    return build


def values(command):
    """Options of a command line that have a value."""
    return {key: value for key, value in zip(command, command[1:], strict=False) if key[:2] == "--"}


def arguments(command):
    return dict(part.split("=", 1) for part in values(command)["--model_args"].split(","))


def test_the_command_line_leaves_a_reasoning_student_room(config, student, tmp_path):
    from lit_vdistill.evaluation.lmms_eval import command_of

    path = student()
    command = command_of(config(tasks=" videomme, mlvu_dev,"), path, tmp_path / "out")
    assert command[:3] == [str(tmp_path / "environment/bin/python"), "-m", "lmms_eval"]
    told = values(command)
    assert told["--model"] == "qwen3_vl"
    assert told["--tasks"] == "videomme,mlvu_dev"
    assert told["--gen_kwargs"] == "max_new_tokens=1024,temperature=0"
    assert json.loads(told["--reasoning_tags"]) == [["<think>", "</think>"]]
    assert told["--output_path"] == str(tmp_path / "out")
    assert "--log_samples" in command
    assert not {"--limit", "--include_path"} & set(command)
    assert arguments(command) == {
        "pretrained": path, "max_num_frames": "64", "min_pixels": "3136",
        "max_pixels": "200704", "attn_implementation": "sdpa", "fps": "1000",
    }  # fmt: skip


def test_every_setting_reaches_the_command_line(config, student, tmp_path):
    from lit_vdistill.evaluation.lmms_eval import command_of

    told = config(
        reasoning_tags=(), fps=2.0, device="cpu", limit=3, include_path=str(tmp_path),
        system_prompt="Reason first and then answer.",
    )  # fmt: skip
    command = command_of(told, student(), tmp_path)
    assert values(command)["--reasoning_tags"] == "none"
    assert values(command)["--limit"] == "3"
    assert values(command)["--include_path"] == str(tmp_path)
    found = arguments(command)
    assert (found["fps"], found["device"], found["device_map"]) == ("2.0", "cpu", "cpu")
    assert found["system_prompt"] == "Reason first and then answer."


def test_several_processes_are_launched(config, student, tmp_path):
    from lit_vdistill.evaluation.lmms_eval import command_of

    command = command_of(config(num_processes=8), student(), tmp_path)
    assert command[1:5] == ["-m", "accelerate.commands.launch", "--num_processes", "8"]
    assert command[command.index("lmms_eval") - 1] == "-m"


def test_other_families(config, student, tmp_path):
    from lit_vdistill.evaluation.lmms_eval import command_of

    command = command_of(config(), student("qwen2_5_vl"), tmp_path)
    assert values(command)["--model"] == "qwen2_5_vl"
    assert "fps" not in arguments(command)
    command = command_of(config(), student("qwen3_vl_moe"), tmp_path)
    assert values(command)["--model"] == "qwen3_vl"


@pytest.mark.parametrize(
    ("kind", "name", "changes", "said"),
    [
        ("qwen3_vl_moe", "student", {}, "takes a folder for a mixture"),
        ("qwen3_vl", "student-A3B", {}, "takes a folder for a mixture"),
        ("internvl", "student", {}, "model_type 'internvl' is none"),
        ("qwen2_5_vl", "student", {"fps": 2.0}, "fps: for Qwen2.5-VL"),
        ("qwen2_5_vl", "student", {"system_prompt": "Think"}, "system_prompt: for Qwen2.5-VL"),
        ("qwen3_vl", "a,b", {}, "student: , cannot be passed"),
    ],
)
def test_students_that_lmms_eval_would_read_otherwise(
    config, student, tmp_path, kind, name, changes, said
):
    from lit_vdistill.evaluation.lmms_eval import command_of

    with pytest.raises(ValueError, match=said):
        command_of(config(**changes), student(kind, name), tmp_path)


@pytest.mark.parametrize("text", [None, "[1]", "{", "[" * 100_000, '{"model_type": ["a"]}'])
def test_a_folder_that_is_no_student(config, tmp_path, text):
    from lit_vdistill.evaluation.lmms_eval import command_of

    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json"):
        command_of(config(), str(tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": " ,"}, "tasks: expected names"),
        ({"max_num_frames": 0}, "max_num_frames: expected 1 or more, got 0"),
        ({"max_num_frames": 9}, "max_num_frames: expected an even number, got 9"),
        ({"min_pixels": 300_000}, "min_pixels: expected 1 to max_pixels"),
        ({"fps": float("nan")}, "fps: expected above 0"),
        ({"limit": 0}, "limit: expected 1 or more"),
        ({"device": "cpu", "num_processes": 2}, "num_processes: lmms-eval has one"),
        ({"system_prompt": "Reason first, then answer."}, "system_prompt: , cannot be passed"),
    ],
)
def test_settings_that_lmms_eval_would_take_for_something_else(config, changes, said):
    with pytest.raises(ValueError, match=said):
        config(**changes)


def test_a_missing_environment_is_named_with_what_makes_it(config, student, tmp_path):
    from lit_vdistill.evaluation.lmms_eval import run

    told = config(environment=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="nowhere.*`make test-eval` makes it"):
        run(told, student(), str(tmp_path / "out"))


def test_an_environment_without_lmms_eval(config, student, tmp_path):
    from lit_vdistill.evaluation.lmms_eval import run

    with pytest.raises(ValueError, match="cannot be imported there.*No module named 'it'"):
        run(config("import it"), student(), str(tmp_path / "out"))


ASKED = """\
import json, os, sys
if sys.argv[1] == "-c":
    print("noise")
    print(json.dumps({"versions": {"lmms_eval": "0.7.3"}, "tasks": ["videomme", "mathvista_test"]}))
    sys.exit()
print({key: os.environ.get(key) for key in (
    "API_TYPE", "OPENAI_API_URL", "OPENAI_API_KEY", "MODEL_VERSION", "PYTHONPATH")})
"""


def test_its_end_without_results_is_an_error_and_what_it_said_is_kept(
    config, student, tmp_path, capsys
):
    from lit_vdistill.evaluation.lmms_eval import run

    out = tmp_path / "out"
    with pytest.raises(ValueError, match=r"code 0 and wrote 0 files of results.*lmms_eval\.log"):
        run(config(ASKED), student(), str(out))
    assert "API_TYPE" in capsys.readouterr().out
    assert "API_TYPE" in (out / "lmms_eval.log").read_text()
    assert not (out / "predictions.jsonl").exists()


def test_unknown_tasks_are_refused_before_anything_is_loaded(config, student, tmp_path):
    from lit_vdistill.evaluation.lmms_eval import run

    with pytest.raises(ValueError, match="no 'videome'; near it are: videomme"):
        run(config(ASKED, tasks="video*,videome"), student(), str(tmp_path / "out"))


def test_a_judge_is_passed_by_the_variables_that_lmms_eval_reads(
    config, student, tmp_path, capsys, monkeypatch
):
    from lit_vdistill.evaluation.lmms_eval import run
    from lit_vdistill.served.endpoint import EndpointConfig

    monkeypatch.setenv("PYTHONPATH", "/ours")
    monkeypatch.setenv("JUDGE_KEY", "secret")
    judge = EndpointConfig("http://localhost:8000/v1", "judge-7b", api_key_env="JUDGE_KEY")
    told = config(ASKED, tasks="mathvista_test", judge=judge)
    with pytest.raises(ValueError, match="wrote 0 files"):
        run(told, student(), str(tmp_path / "out"))
    assert (
        "{'API_TYPE': 'openai', 'OPENAI_API_URL': 'http://localhost:8000/v1', 'OPENAI_API_KEY': "
        "'secret', 'MODEL_VERSION': 'judge-7b', 'PYTHONPATH': None}"
    ) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("url", "said"),
    [(None, "set judge.base_url"), ("http://host/api", "lmms-eval cuts its end off")],
)
def test_judged_tasks_want_a_judge_whose_url_is_read_rightly(config, student, tmp_path, url, said):
    from lit_vdistill.evaluation.lmms_eval import run
    from lit_vdistill.served.endpoint import EndpointConfig

    judge = None if url is None else EndpointConfig(url, "judge-7b")
    told = config(ASKED, tasks="mathvista_test", judge=judge)
    with pytest.raises(ValueError, match=said):
        run(told, student(), str(tmp_path / "out"))


def test_the_shipped_settings_are_read_and_a_task_is_chosen_on_the_command_line():
    from lit_vdistill.evaluation.lmms_eval import LmmsEvalConfig

    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(LmmsEvalConfig, as_group=False)
    parsed = parser.parse_args(["--config", CONFIG, "--tasks", "mlvu_dev"])
    assert set(yaml.safe_load(Path(CONFIG).read_text())) <= set(vars(parsed))
    values = {key: value for key, value in vars(parsed).items() if key != "config"}
    assert LmmsEvalConfig(**values) == LmmsEvalConfig("mlvu_dev")
