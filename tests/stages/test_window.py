"""A step is one loss, however it is cut: gradients and metrics of the whole."""

import pytest
import torch

from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.pool.matching import MatchingConfig
from lit_vdistill.rewards import Content, OuterFormat, TaskFormat
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages import (
    OnPolicyModule,
    OPDModule,
    PrivilegedSFTModule,
    RMSDModule,
    SelfDistillationModule,
    SFTModule,
    VISDModule,
)
from lit_vdistill.stages.on_policy import PolicyLossConfig
from lit_vdistill.stages.opd import DistillConfig
from lit_vdistill.stages.rmsd import DiscriminatorConfig
from lit_vdistill.stages.self_distillation import SelfDistillConfig

REWARDS = [OuterFormat(0.1), TaskFormat(0.1), Content(0.4)]
LONG = "<think>a red dog runs to the left and then a blue cow stops</think>"
TEXTS = {
    "s0": ["<think>t</think><answer>B</answer>", "<think>t</think><answer>A</answer>"],
    "s1": [LONG + "<answer>A</answer>", "<think></think><answer>B</answer>"],
    "s2": ["<think>a red dog…", "<think>t</think><answer>B</answer>"],
    "s3": ["<answer>B</answer>", LONG + "<answer>B</answer>"],
    "s4": ["<think>t</think><answer>C</answer>", "<think>t</think><answer>C</answer>"],
}
PROMPTS = (
    {"kind": "video"},
    {"kind": "text", "question": "Which of the two shapes was seen first, and for how long?"},
    {"kind": "image", "question": "What is it?"},
    {"kind": "video", "frames": 4, "question": "Where?"},
    {"kind": "video", "frames": 2},
)
RMSD = {
    "disc": DiscriminatorConfig(warmup_max_steps=0, pair_weight="q_norm"),
    # Pairs of quality 0 beside those of 1, so that means over a piece differ.
    "matching": MatchingConfig(empty_pool="uniform"),
}
DISTILL = DistillConfig(coef=0.5, reward_weight=0.5, divergence="jensen_shannon", top_k=9)
SDPO = SelfDistillConfig(
    coef=0.5, reward_weight=0.5, divergence="jensen_shannon", top_k=9, conditioning="feedback"
)
STAGES = {
    "sft": (SFTModule, {}),
    "sft_privileged": (PrivilegedSFTModule, {}),
    "grpo": (OnPolicyModule, {}),
    "rmsd": (RMSDModule, RMSD),
    "visd": (VISDModule, {}),
    "sdpo": (SelfDistillationModule, {"distill": SDPO}),
    "opd": (OPDModule, {"teacher": VLMConfig("tiny/qwen3-vl/4m"), "distill": DISTILL}),
}
# Reduction, weight of the KL, whether the tower is frozen; each stage sees each value of each.
FIRST, SECOND = ("sequence_mean", 0.0, True), ("token_mean", 0.1, False)
THIRD = ("token_sum_over_limit", 0.1, True)
OTHERS = [("sequence_mean", 0.1, False), ("token_mean", 0.0, True)]
SHORT = [
    *[(name, *FIRST) for name in ("sft", "grpo", "visd")],
    *[(name, *SECOND) for name in ("sft_privileged", "rmsd", "visd", "opd", "sdpo")],
    ("grpo", *THIRD),
]
WIDE = [
    (name, *case)
    for name in ("grpo", "rmsd", "visd", "opd", "sdpo")
    for case in (FIRST, SECOND, *OTHERS)
    if (name, *case) not in SHORT
]
CASES = [*SHORT, *[pytest.param(*case, marks=pytest.mark.matrix) for case in WIDE]]


@pytest.fixture
def stage_of(prepare, script):
    """A stage in float64, whose policy has left reference and teacher behind."""

    def build(name, reduction, kl_coef, freeze_vision):
        kind, options = STAGES[name]
        path = "tiny/qwen3-vl"
        policy = VLMConfig(path, freeze_vision=freeze_vision, verify_shared_prefix="never")
        loss = PolicyLossConfig(group_size=2, kl_coef=kl_coef, reduction=reduction)
        options = options | ({} if name.startswith("sft") else {"loss": loss})
        torch.manual_seed(0)
        stage = prepare(kind(policy, REWARDS, sampling=SamplingConfig(), **options)).double()
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in stage.policy.parameters():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.05 * noise * parameter.std())
            if name == "rmsd":
                stage.discriminator.head.weight.normal_(generator=generator)
        return stage if name.startswith("sft") else script(stage, TEXTS)

    return build


@pytest.mark.parametrize(("name", "reduction", "kl_coef", "freeze_vision"), CASES)
def test_a_step_is_the_same_in_any_number_of_pieces(
    stage_of, batch_of, take_step, name, reduction, kl_coef, freeze_vision
):
    """Groups of unequal length and medium; more pieces than groups, too."""
    stage = stage_of(name, reduction, kl_coef, freeze_vision)
    batch = batch_of(["B", "A"], ["B"], ["A", "C"], ["B", "B", "A"], ["B"], prompts=PROMPTS)
    values = comparable(take_step(stage, batch))
    expected = {n: p.grad.clone() for n, p in stage.named_parameters() if p.grad is not None}
    has_tower = any(".visual." in n and g.any() for n, g in expected.items() if "policy" in n)
    assert has_tower != freeze_vision
    total = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    for num_pieces in (2, 3, 7):
        found = comparable(take_step(stage, batch, num_pieces))
        assert found == pytest.approx(values, rel=1e-6, abs=1e-9, nan_ok=True)
        pieces = stage.pieces if name.startswith("sft") else stage.window.pieces
        assert sum(piece == () for piece in pieces) == max(0, num_pieces - 5)
        for n, parameter in stage.named_parameters():
            if n in expected:
                error = (parameter.grad - expected[n]).norm()
                # Where the gradient of the whole is rounding, so is that of its parts.
                assert error <= 1e-6 * expected[n].norm() + 1e-12 * total, (n, num_pieces)


def comparable(values):
    """What is logged, without what a cut costs."""
    return {name: value for name, value in values.items() if not name.startswith("shared/")}
