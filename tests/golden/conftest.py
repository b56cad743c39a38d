"""Networks, prompts and rollouts that stay what they are, for numbers that must."""

import hashlib
import json
from pathlib import Path

import pytest

HERE = Path(__file__).parent
STORED = HERE / "stored_rollouts.json"


def pytest_addoption(parser):
    parser.addoption("--renew", action="store_true", help="write golden values anew")


@pytest.fixture
def renew(request):
    return request.config.getoption("--renew", default=False)


@pytest.fixture
def stored():
    return json.loads(STORED.read_text())


def draw(*key, shape):
    """Numbers in [-1, 1) that depend on a key alone: no library's initialisation enters."""
    import torch

    state = int.from_bytes(hashlib.blake2b("/".join(key).encode(), digest_size=7).digest(), "big")
    generator = torch.Generator().manual_seed(state)
    return torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1


def fill(network, role):
    """Give each parameter values by its name; networks of other roles are apart from the policy.

    Were they its copies, as at the start of a run, KL and Δ would be 0 and show nothing.
    """
    import torch

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            values = draw("policy", name, shape=parameter.shape)
            if role != "policy":
                values += 0.3 * draw(role, name, shape=parameter.shape)
            if parameter.ndim > 1:
                values *= (3 * len(parameter) / parameter.numel()) ** 0.5
            else:
                values = 0.1 * values + (not name.endswith("bias"))
            parameter.copy_(values)


@pytest.fixture
def networks_of():
    """Fills a stage's networks, and says by role what is in them: the sum of absolute weights."""

    def build(stage):
        found = {}
        for role, network in stage.named_children():
            parameters = list(network.parameters())
            if parameters:
                fill(network, role)
                found[role] = sum(p.detach().double().abs().sum().item() for p in parameters)
        return found

    return build


@pytest.fixture
def window(families, make_prompt, stored):
    """The stored samples with their pools, behind prompts of fixed pixels."""
    from lit_vdistill.data.batch import Item, PromptBatch
    from lit_vdistill.pool.quality import score_responses
    from lit_vdistill.tasks import Task
    from lit_vdistill.types import BoxAt, Evidence, TeacherResponse, VideoSample

    items = []
    for entry in stored:
        fields = entry["sample"] | {"task": Task(entry["sample"]["task"])}
        spans = tuple(map(tuple, fields.pop("spans")))
        boxes = tuple(
            BoxAt(time, name, tuple(map(float, box))) for time, name, box in fields.pop("boxes")
        )
        fields["options"] = tuple(fields["options"])
        sample = VideoSample(**fields, evidence=Evidence(spans, boxes))
        question = "\n".join([sample.question, *sample.options])
        kind, frames = sample.media_type, entry["frames"]
        prompt = make_prompt(families["qwen3-vl"][1], sample.id, kind, question, frames)
        pool = [
            TeacherResponse(sample.id, k, text, "m", 1.0, 0.9)
            for k, text in enumerate(entry["pool"])
        ]
        items.append(Item(sample, prompt, score_responses(sample, pool)))
    return PromptBatch(tuple(items))


@pytest.fixture
def with_views(families, make_prompt):
    """Prompts with what a privileged teacher sees: another video where something is annotated."""
    from dataclasses import replace

    from lit_vdistill.data.batch import PromptBatch

    def build(window):
        items = []
        for item in window.items:
            sample = item.sample
            question = "\n".join([sample.question, *sample.options])
            if sample.media_type == "video" and (sample.evidence.spans or sample.evidence.boxes):
                name = f"{sample.id}, from near"
                view = make_prompt(families["qwen3-vl"][1], name, "video", question, 4)
                item = replace(item, view=view)
            items.append(item)
        return PromptBatch(tuple(items))

    return build


@pytest.fixture
def rollouts(stored):
    """The stored rollouts, by sample."""
    from lit_vdistill.types import Rollout

    return {
        entry["sample"]["id"]: tuple(
            Rollout(
                entry["sample"]["id"],
                index,
                tuple(found["completion_ids"]),
                tuple(found["rollout_logprobs"]),
                found["text"],
                found["is_truncated"],
                1.0,
            )
            for index, found in enumerate(entry["rollouts"])
        )
        for entry in stored
    }


@pytest.fixture
def keep_logprobs(stored):
    """Writes the sampler's log-probabilities of the stored rollouts."""

    def keep(logprobs):
        for entry in stored:
            for rollout, values in zip(
                entry["rollouts"], logprobs[entry["sample"]["id"]], strict=True
            ):
                rollout["rollout_logprobs"] = values
        write_stored(stored)

    return keep


def write_stored(entries):
    """One line a sample, pool and rollout."""
    blocks = []
    for entry in entries:
        rollouts = ",\n   ".join(json.dumps(rollout) for rollout in entry["rollouts"])
        pool = ",\n   ".join(json.dumps(text) for text in entry["pool"])
        blocks.append(
            f' {{"frames": {entry["frames"]},\n  "sample": {json.dumps(entry["sample"])},\n'
            f'  "pool": [\n   {pool}],\n  "rollouts": [\n   {rollouts}]}}'
        )
    STORED.write_text("[\n" + ",\n".join(blocks) + "\n]\n")


@pytest.fixture
def stage_of(monkeypatch, prepare, tmp_path):
    """Builds the stage of a recipe as the command does, on tiny networks."""
    from lit_vdistill.cli import training

    def build(config, *overrides):
        built = []
        monkeypatch.setattr(
            training.VDistillCLI, "_run_subcommand", lambda self, _: built.append(self)
        )
        training.run(
            [
                "fit",
                f"--config=configs/{config}.yaml",
                f"--run_dir={tmp_path}",
                "--stage1_config=null",
                "--trainer.logger=false",
                *overrides,
            ]
        )
        return prepare(built[0].model)

    return build
