import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from lit_vdistill.__main__ import main
from tests.served.misbehaving_server import Server, says

COMPLETE = sorted(p for p in Path("configs").glob("*.yaml"))
FRAGMENTS = sorted(
    p
    for folder in ("cluster", "curriculum", "data", "logger", "models", "rollouts")
    for p in Path("configs", folder).glob("*.yaml")
)
PAPER = sorted(Path("configs/paper").glob("*.yaml"))


@pytest.mark.parametrize("path", sorted(Path("configs/teacher").glob("*.yaml")), ids=str)
def test_configs_of_teachers_parse(capsys, path):
    command = ["serve"] if path.name.startswith("serve_") else ["pool", "collect"]
    with pytest.raises(SystemExit) as stop:
        main([*command, "--config", str(path), "--print_config"])
    assert stop.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("path", sorted(Path("configs/benchmarks").glob("*.yaml")), ids=str)
def test_configs_of_benchmarks_parse(capsys, path):
    behind = ("gpu", "pass_at_k", "rater")
    first = ["--config", "configs/benchmarks/vstar.yaml"] if path.stem in behind else []
    root = [] if path.stem == "lmms_eval" else ["--data_root", "runs"]
    args = [*first, "--config", str(path), "--student", "tiny/qwen3-vl", *root]
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", "run", *args, "--print_config"])
    assert stop.value.code in (0, None)
    told = yaml.safe_load(capsys.readouterr().out)
    assert told["student"] == "tiny/qwen3-vl"
    written = yaml.safe_load(path.read_text())
    assert all(told[key] is not None for key in written if written[key] is not None)


def printed(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(["fit", *args, "--print_config"])
    assert stop.value.code in (0, None)
    return capsys.readouterr().out


@pytest.mark.parametrize("path", COMPLETE + PAPER, ids=str)
def test_complete_configs_parse_alone(capsys, path):
    assert "class_path: lit_vdistill.stages." in printed(capsys, "--config", str(path))


@pytest.fixture(scope="module")
def rmsd_alone():
    return []


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=str(path), marks=[pytest.mark.matrix] * path.match("gpu_8*.yaml"))
        for path in FRAGMENTS
    ],
)
def test_fragments_parse_over_a_stage(capsys, rmsd_alone, path):
    if not rmsd_alone:
        rmsd_alone.append(printed(capsys, "--config", "configs/rmsd.yaml"))
    (alone,) = rmsd_alone
    merged = printed(capsys, "--config", "configs/rmsd.yaml", "--config", str(path))
    # What rmsd.yaml is built on changes nothing; every other fragment must.
    is_below = path.name in ("world.yaml", "cpu.yaml", "offline.yaml")
    assert (merged == alone) == is_below


def test_the_papers_values_are_the_defaults():
    from lit_vdistill.media.video import FrameConfig
    from lit_vdistill.pool.matching import MatchingConfig
    from lit_vdistill.stages.on_policy import PolicyLossConfig
    from lit_vdistill.stages.optimizer import OptimConfig
    from lit_vdistill.stages.rmsd import DiscriminatorConfig

    assert PolicyLossConfig().group_size == 8
    assert OptimConfig().lr == 2e-6
    assert DiscriminatorConfig().lr == 1e-6
    assert DiscriminatorConfig().reward_weight == 0.4
    assert DiscriminatorConfig().pair_weight == "q"
    assert MatchingConfig().threshold == 0.3
    assert FrameConfig().max_frames == 16


def test_gad_knows_no_truth_in_either_stage(capsys):
    """K = 1, no filter, no weight by quality, the paper's head; its stage 1 chooses nothing."""
    config = printed(capsys, "--config", "configs/gad.yaml")
    for line in ("pool_size: 1", "threshold: 0.0", "mode: uniform", "pair_weight: none"):
        assert line in config, line
    assert "path: runs/sft_gad/student" in config
    assert "monitor: val/score" in config
    assert "pool_size: 1" in printed(capsys, "--config", "configs/sft_gad.yaml")


def test_visds_values_are_the_defaults():
    """Table 8, as far as it does not depend on the size of the model."""
    from callbacks import EMATeacherUpdate, LambdaAnnealing
    from lit_vdistill.models.vlm import VLMConfig
    from lit_vdistill.stages import VISDModule

    stage = VISDModule(VLMConfig("tiny/qwen3-vl"), [])
    credit = stage.credit_config
    assert (credit.mix, credit.clip, credit.support, credit.top_k) == (0.5, 0.2, "top_k", 16)
    assert credit.conditioning == "feedback"
    assert (stage.loss_config.group_size, stage.loss_config.kl_coef) == (4, 0.0)
    assert (stage.optim_config.lr, stage.optim_config.weight_decay) == (1e-6, 0.01)
    assert (EMATeacherUpdate().mode, EMATeacherUpdate().rate) == ("ema", 0.01)
    assert LambdaAnnealing().num_steps == 600


PAPER_VALUES = {
    "rmsd_qwen3vl4b": [
        "stage: 3",
        "precision: bf16-true",
        "attn_implementation: flash_attention_2",
        "max_frames: 16",
        "max_pixels: 105369",
        "group_size: 8",
        "accumulate_grad_batches: 8",
        "pool_size: 4",
        "threshold: 0.3",
        "read_out: last_token",
        "pair_weight: q\n",
        "freeze_vision: false",
        "gradient_clip_val: 1.0",
        "lr: 2.0e-06",
        "lr: 1.0e-06",
        "num_nodes: 2",
    ],
    "rmsd_sft_qwen3vl4b": ["lr: 2.0e-06", "share: 0.1", "batch_size: 8", "max_frames: 16"],
    "visd_sft_qwen25vl7b": [
        "stage: 2",
        "lr: 1.0e-06",
        "decay: linear",
        "weight_decay: 0.0",
        "gradient_clip_val: 5.0",
        "template: instructed",
        "pool_path: null",
    ],
    "visd_qwen25vl7b": [
        "fps: 2.0",
        "min_frames: 4",
        "max_frames: 16",
        "min_pixels: 100352",
        "image_max_pixels: 200704",
        "template: instructed",
        "frames_as: images",
        "frame_times: even",
        "key_frames: true",
        "stage: 3",
        "precision: bf16-true",
        "attn_implementation: flash_attention_2",
        "group_size: 4",
        "batch_size: 1",
        "accumulate_grad_batches: 1",
        "max_completion_tokens: 768",
        "max_pixels: 105369",
        "lr: 1.0e-06",
        "weight_decay: 0.01",
        "gradient_clip_val: 5.0",
        "mix: 0.5",
        "clip: 0.2",
        "top_k: 16",
        "rate: 0.01",
        "num_steps: 600",
        "evidence: times",
        "feedback_as: correction",
        "preset: vision_coach",
        "envelope: lenient",
        "num_nodes: 2",
    ],
}


@pytest.mark.parametrize("path", PAPER, ids=str)
def test_the_paper_overlay_sets_every_value_that_the_paper_names(capsys, path):
    config = printed(capsys, "--config", str(path))
    for line in PAPER_VALUES[path.stem]:
        assert line in config, line


@pytest.fixture
def judge(monkeypatch):
    """A served one, and a key for it."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    with Server(says('{"feedback": "The answer is wrong."}')) as server:
        yield server


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=str(path), marks=[pytest.mark.matrix] * ("sft" not in path.name))
        for path in PAPER
    ],
)
def test_paper_configs_instantiate_and_step_on_the_tiny_student(tmp_path, world, path, judge):
    """Everything but what needs the hardware: weights, attention kernel, strategy, data."""
    endpoint = "--model.judge.init_args.judge.init_args.endpoint.base_url"
    main(
        [
            "fit",
            *("--config", str(path)),
            "--model.policy.path=tiny/qwen3-vl",
            "--model.policy.attn_implementation=sdpa",
            "--model.sampling.max_completion_tokens=6",
            "--data.sources.media_root=" + str(world),
            *(f"--data.sources.{k}_path={world}/{k}.jsonl" for k in ("train", "val", "pool")),
            f"--data.sources.cache_dir={tmp_path}/frames",
            "--data.prompt.box_units=pixels",  # as the world's teacher writes boxes
            "--data.loader.num_workers=0",
            "--trainer.accelerator=cpu",
            "--trainer.devices=1",
            "--trainer.num_nodes=1",
            "--trainer.strategy=auto",
            "--trainer.logger=false",
            "--trainer.max_steps=1",
            "--trainer.accumulate_grad_batches=1",
            "--trainer.val_check_interval=1",
            "--trainer.limit_val_batches=1",
            "--trainer.num_sanity_val_steps=0",
            "--trainer.callbacks=callbacks.RunSummary",
            f"--trainer.callbacks.path={tmp_path}/summary.json",
            "--trainer.callbacks.before=stage1",
            "--trainer.callbacks.after=paper",
            f"--run_dir={tmp_path}",
            *([f"{endpoint}={judge.url}"] if path.stem == "visd_qwen25vl7b" else []),
        ]
    )
    assert json.loads((tmp_path / "summary.json").read_text())["paper"]["step"] == 1


def named(entry):
    """What a printed config names by its class path."""
    module, _, name = entry["class_path"].rpartition(".")
    return getattr(importlib.import_module(module), name)(**entry.get("init_args", {}))


def paid_at(config, step, sample, monkeypatch):
    """What the rewards of a config pay for a time that is 2 s beside the key frame, at a step."""
    from lit_vdistill.models.vlm import VLMConfig
    from lit_vdistill.rewards import reward_breakdown
    from lit_vdistill.stages.on_policy import OnPolicyModule

    stage = OnPolicyModule(VLMConfig("tiny/qwen3-vl"), list(map(named, config["model"]["rewards"])))
    monkeypatch.setattr(stage, "log", lambda *args, **kwargs: None)
    for entry in config["trainer"]["callbacks"]:
        if entry["class_path"].endswith("Annealing") and "Proximity" in entry["class_path"]:
            named(entry).on_train_batch_start(SimpleNamespace(global_step=step), stage, None, 0)
    text = "<think>at <t>5.0</t>s</think><answer>B</answer>"
    return reward_breakdown(stage.rewards, text, sample)


@pytest.mark.parametrize("recipe", ["rlsd", "rmsd_then_visd", "visd_shuffled"])
def test_what_is_compared_with_visd_is_paid_like_it(capsys, monkeypatch, make_sample, recipe):
    """At every step: a list of callbacks replaces that of the base, and σ's schedule with it."""
    ours, visd = (
        yaml.safe_load(printed(capsys, "--config", f"configs/{name}.yaml"))
        for name in (recipe, "visd")
    )
    for config in (ours, visd):
        config["model"] = config["model"]["init_args"]
    sample = make_sample("spatio_temporal_qa")
    paid = [
        [paid_at(config, step, sample, monkeypatch) for step in (0, 45, 90)]
        for config in (ours, visd)
    ]
    assert paid[0] == paid[1]
    points = [parts["think_point"] for parts in paid[1]]
    assert points[0] > points[1] > points[2] > 0
