"""What VISD's released code loses in bfloat16: the EMA teacher's move, and Δ.

python -m experiments.released_precision --json experiments/released_precision.json

The release moves its teacher in place in bfloat16 (`EMATeacherUpdate` mode `ema_in_place`) and
computes both log-softmaxes and Δ in it (`credit.dtype bfloat16`). Teachers of both kinds follow the
same student over simulated steps of Adam's size; and the embedded student's answers are replayed by
its own weights, which are told more, with Δ in both types from the same network in float32.
"""

import argparse
import copy
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from experiments.credit_conditions import TEACHERS, cases_of, experience_of, log_ratio
from experiments.students import STAGE1, Student
from lit_vdistill.judge.rule_judge import RuleJudge
from lit_vdistill.models.ema import EMAWeights
from lit_vdistill.models.vlm import VLMConfig, load_model
from lit_vdistill.objectives.credit import token_weights

STEPS, RATE, STEP_SIZE = 600, 0.01, 1e-6
"""Updates of the teacher, 1 - τ and Adam's step, which is its learning rate (VISD Table 8)."""
CLIP = 0.2
"""ε_w (VISD Table 8)."""
NEAR = 0.05
"""|Δ| up to which teacher and student nearly agree."""

Direction = Callable[[Tensor], Tensor]
"""From a weight to the signs of its next step."""
WALKS: dict[str, Direction] = {
    "straight": lambda weight: torch.ones_like(weight),
    "random_walk": lambda weight: torch.randint_like(weight, 2) * 2 - 1,
}
"""Each step the same way, the most that a weight can move; each step either way."""


def ema_moves(network: nn.Module, walk: Direction, num_steps: int = STEPS) -> dict[str, float]:
    """How teachers follow a bfloat16 student, in place in bfloat16 and in float32.

    The optimizer keeps the student's weights in float32, as it does under mixed precision.

    Args:
        network: Where the student starts, in bfloat16.
        walk: Its steps.
        num_steps: Their number.

    Returns:
        `ever_changed` and `changed`: the share of weights of the in-place teacher that were another
        in some step, and at the end; `cosine` between its move and that of the float32 one;
        `length`: its move over that one's.
    """
    student, rounded, exact = (copy.deepcopy(network) for _ in range(3))
    start = [weight.detach().float() for weight in network.parameters()]
    master = [weight.clone() for weight in start]
    has_changed = [torch.zeros_like(weight, dtype=torch.bool) for weight in start]
    in_place, in_float32 = EMAWeights(), EMAWeights()
    with torch.no_grad():
        for _ in range(num_steps):
            for weight, kept in zip(student.parameters(), master, strict=True):
                weight.copy_(kept.add_(walk(kept), alpha=STEP_SIZE))
            in_place.update(rounded, student, RATE, in_place=True)
            in_float32.update(exact, student, RATE)
            for changed, weight, first in zip(
                has_changed, rounded.parameters(), start, strict=True
            ):
                changed |= weight.float() != first
    names = [name for name, _ in network.named_parameters()]
    ends = [in_float32.master[name] for name in names]
    ours = torch.cat([(e - s).flatten() for e, s in zip(ends, start, strict=True)])
    theirs = torch.cat(
        [
            (w.detach().float() - s).flatten()
            for w, s in zip(rounded.parameters(), start, strict=True)
        ]
    )
    return {
        "ever_changed": torch.cat([x.flatten() for x in has_changed]).float().mean().item(),
        "changed": theirs.ne(0).float().mean().item(),
        "cosine": nn.functional.cosine_similarity(theirs.double(), ours.double(), dim=0).item(),
        "length": (theirs.norm() / ours.norm()).item(),
    }


def networks(student: str) -> dict[str, nn.Module]:
    """Where the teachers start: an embedded student, and weights of a large network's size."""
    normal = nn.Linear(1000, 1000, bias=False)
    nn.init.normal_(normal.weight, std=0.02)
    return {
        "embedded_student": load_model(VLMConfig(student, dtype="bfloat16")),
        "normal_0.02": normal.bfloat16(),
    }


def replayed(
    student: Student, num_rollouts: int, seed: int, limit: int | None
) -> list[tuple[float, float]]:
    """Δ of every token in float32 and in bfloat16, the teacher told answer, evidence, feedback."""
    pairs: list[tuple[float, float]] = []
    with torch.no_grad():
        for batch, drawn in student.answers(student.data.val_set, num_rollouts, seed, limit):
            experience = experience_of(batch, drawn)
            told = RuleJudge().diagnose(cases_of(experience))
            exact, rounded = (
                log_ratio(student.model, student.processor, experience, config, told)
                for config in map(TEACHERS["feedback"].config, ("float32", "bfloat16"))
            )
            for row, rollout in enumerate(experience.rollouts):
                length = len(rollout.completion_ids)
                sides = (exact[row, :length].tolist(), rounded[row, :length].tolist())
                pairs += zip(*sides, strict=True)
    return pairs


def precision(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """What rounding does to Δ and to m, with A > 0.

    Args:
        pairs: Δ of each token, in float32 and in bfloat16.
    """
    exact, rounded = (torch.tensor(side) for side in zip(*pairs, strict=True))
    error = (rounded - exact).abs()
    one = torch.ones(1)
    weights = [token_weights(side[None], one, CLIP)[0] for side in (exact, rounded)]
    near = exact.abs() <= NEAR
    moving = near & exact.ne(0)
    return {
        "tokens": float(len(pairs)),
        "mean_error": error.mean().item(),
        "max_error": error.max().item(),
        "max_weight_error": (weights[0] - weights[1]).abs().max().item(),
        "near": near.float().mean().item(),
        **{
            f"{name}_{kind}": weight[chosen].eq(1).float().mean().item()
            for kind, weight in zip(("float32", "bfloat16"), weights, strict=True)
            for name, chosen in (("one_where_near", near), ("one_where_near_but_not_0", moving))
        },
    }


def table(
    moves: Mapping[str, Mapping[str, Mapping[str, float]]], replay: Mapping[str, float]
) -> str:
    """The report in Markdown.

    Args:
        moves: By start and walk, from `ema_moves`.
        replay: From `precision`.
    """
    lines = ["| start | steps | ever changed | changed at the end | cosine | length |"]
    lines.append("|---|---|---|---|---|---|")
    for start, walks in moves.items():
        for walk, row in walks.items():
            shares = f"{row['ever_changed']:.1%} | {row['changed']:.1%}"
            lines.append(
                f"| {start} | {walk} | {shares} | {row['cosine']:.2f} | {row['length']:.2f} |"
            )
    lines += ["", "| Δ | |", "|---|---|"]
    return "\n".join(lines + [f"| {name} | {value:.3g} |" for name, value in replay.items()])


def main() -> None:
    """Simulate, replay and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", default=STAGE1)
    parser.add_argument("--world", default="runs/world")
    parser.add_argument("--rollouts", type=int, default=4, help="answers to each question")
    parser.add_argument("--questions", type=int, help="only so many of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    moves = {
        start: {name: ema_moves(network, walk) for name, walk in WALKS.items()}
        for start, network in networks(args.student).items()
    }
    student = Student.load(args.student, args.world)
    pairs = replayed(student, args.rollouts, args.seed, args.questions)
    replay = precision(pairs)
    sys.stdout.write("\n" + table(moves, replay) + "\n")
    if args.json:
        args.json.write_text(json.dumps({"ema": moves, "replay": replay}, indent=1) + "\n")


if __name__ == "__main__":
    main()
