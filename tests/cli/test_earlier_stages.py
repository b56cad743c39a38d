from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from jsonargparse import Namespace

from lit_vdistill.__main__ import main
from lit_vdistill.cli import earlier_stages
from lit_vdistill.cli.earlier_stages import EarlierStageError, fit_missing


@pytest.fixture
def fits(monkeypatch):
    """Commands that would fit an earlier stage, each with what it is handed on; none finishes."""
    started = []

    def run(command, check):
        assert not check
        files = [Path(command[i + 1]) for i, arg in enumerate(command) if arg == "--config"]
        started.append((command, yaml.safe_load(files[-1].read_text())))
        return SimpleNamespace(returncode=3)

    monkeypatch.setattr(earlier_stages, "subprocess", SimpleNamespace(run=run))
    return started


def ends(capsys, *args):
    """Exit code and what is said last."""
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", "configs/visd.yaml", *args])
    return stop.value.code, capsys.readouterr().err.strip().splitlines()[-1]


def test_a_hubs_name_starts_no_stage(capsys, fits):
    code, said = ends(capsys, "--model.policy.path", "Qwen/Qwen3-VL-4B-Instruct")
    assert (code, fits, Path("Qwen").exists()) == (2, [], False)
    assert said.startswith("python -m lit_vdistill: error: model.policy.path: model path 'Qwen/")
    assert "nor could it be fetched (LocalEntryNotFoundError; HF_HUB_OFFLINE is set)" in said
    assert "runs/sft_privileged/student (which configs/sft_privileged.yaml would make)" in said


def test_a_stage_is_fitted_on_this_runs_data_and_hardware(capsys, fits, tmp_path):
    folder = tmp_path / "stage1"
    code, said = ends(
        capsys,
        f"--stage1_config=[[{folder}, configs/sft.yaml]]",
        f"--model.policy.path={folder}/student/",
        "--model.policy.dtype=bfloat16",
        "--seed_everything=5",
        "--config=configs/data/video_r1_openo3.yaml",
        "--data.sources.media_root=elsewhere",
        "--data.loader.batch_size=2",
        "--trainer.precision=bf16-true",
    )
    assert (code, said) == (3, f"configs/sft.yaml has not finished in {folder}; visd needs it")
    ((command, handed_on),) = fits
    assert command[2:6] == ["lit_vdistill", "fit", "--config", "configs/sft.yaml"]
    assert command[-4:] == ["--seed_everything", "5", "--run_dir", str(folder)]
    data = handed_on["data"]["init_args"]
    assert data["sources"]["media_root"] == "elsewhere"
    assert data["sources"]["train_path"] == "data/train.jsonl"
    assert (data["prompt"]["template"], data["world"]) == ("grounded", None)
    assert not {"loader", "processor"} & data.keys()
    policy = handed_on["model"]["init_args"]["policy"]
    assert policy["dtype"] == "bfloat16"
    assert not {"path", "freeze_vision"} & policy.keys()
    assert handed_on["trainer"] == {"accelerator": "cpu", "precision": "bf16-true"}
    # The command stands: its own recipe's steps and path, this run's samples.
    again = tmp_path / "handed_on.yaml"
    again.write_text(yaml.safe_dump(handed_on))
    with pytest.raises(SystemExit):
        main([*command[3:6], "--config", str(again), *command[-4:], "--print_config"])
    merged = yaml.safe_load(capsys.readouterr().out)
    assert merged["data"]["init_args"]["sources"]["media_root"] == "elsewhere"
    assert merged["data"]["init_args"]["loader"]["batch_size"] == 36
    assert merged["model"]["init_args"]["policy"]["path"] == "runs/sft_perception/student"
    assert merged["trainer"]["max_steps"] == 1500


@pytest.fixture
def needing(tmp_path):
    """Looks for a run's networks, beside one stage that exports to `stage1/exports/best`."""
    from lit_vdistill.models.vlm import VLMConfig

    recipe, folder = tmp_path / "stage.yaml", tmp_path / "stage1"
    recipe.write_text("name: stage1")

    def look(policy, teacher="tiny/qwen3-vl", exporter="callbacks.ExportStudent", stage=recipe):
        networks = {
            name: Namespace(asdict(VLMConfig(str(path))))
            for name, path in (("policy", policy), ("teacher", teacher))
        }
        config = Namespace(
            name="visd",
            seed_everything=0,
            stage1_config=[[str(folder), str(stage)]],
            model=Namespace(class_path="Stage", init_args=Namespace(networks)),
            data=Namespace(class_path="Data", init_args=Namespace(sources=None)),
            trainer=Namespace(accelerator="cpu", precision="32-true"),
        )
        export = Namespace(
            class_path=exporter, init_args=Namespace(folder=str(folder / "exports/best"))
        )
        fit_missing(config, lambda args: Namespace(trainer=Namespace(callbacks=[export])))

    return look


@pytest.mark.parametrize("mistake", ["stage1/student", "other/student", "stage1/exports"])
def test_a_folder_that_no_stage_exports_starts_none(fits, tmp_path, needing, mistake):
    reason = rf"^model\.policy\.path: .*{mistake}' does not exist; .*exports/best \(which .* would"
    with pytest.raises(EarlierStageError, match=reason):
        needing(tmp_path / mistake)
    assert fits == []


def test_a_folder_with_something_else_is_not_a_stages_to_replace(fits, tmp_path, needing):
    (tmp_path / "stage1/exports/best").mkdir(parents=True)
    with pytest.raises(EarlierStageError, match="holds no network"):
        needing(tmp_path / "stage1/exports/best")
    (tmp_path / "stage1/exports/best/config.json").touch()
    needing(tmp_path / "stage1/exports/best")
    assert fits == []


def test_every_network_of_the_model_is_looked_for(fits, tmp_path, needing):
    best = tmp_path / "stage1/exports/best"
    with pytest.raises(SystemExit):
        needing("tiny/qwen3-vl", teacher=best)
    assert len(fits) == 1
    with pytest.raises(EarlierStageError, match=r"^model\.teacher\.path: .* does not exist"):
        needing("tiny/qwen3-vl", teacher=tmp_path / "none")


def test_a_stage_that_leaves_no_student_is_named(fits, tmp_path, needing):
    with pytest.raises(EarlierStageError, match="exports no student"):
        needing(tmp_path / "none", exporter="callbacks.RunProgress")
    with pytest.raises(EarlierStageError, match=r"none.yaml', does not exist; name a file"):
        needing(tmp_path / "none", stage=tmp_path / "none.yaml")
    assert fits == []


@pytest.mark.parametrize("told", [{"LOCAL_RANK": "0"}, {"SLURM_NTASKS": "2"}])
def test_several_processes_fit_no_earlier_stage(fits, tmp_path, needing, monkeypatch, told):
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    command = r"fit it first: python -m lit_vdistill fit --config .*stage.yaml --run_dir .*stage1$"
    with pytest.raises(EarlierStageError, match=command):
        needing(tmp_path / "stage1/exports/best")
    assert fits == []
