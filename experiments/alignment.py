"""Does token credit turn the policy's gradient towards the right answers?

python -m experiments.alignment --json experiments/alignment.json

The student answers held-out questions of the embedded world, two videos a window. The gradient of
its window under VISD's credit (Eqs. 5-9) is compared, by its cosine, with the gradient of the mean
log-likelihood of true responses to the same questions: those of a teacher that sees everything as
it is. Credit is taken from a copy of the student that is told more, at the paper's bounds and at
wide ones. Controls: feedback on other rollouts (`shuffled`); the weights of `feedback` put on other
tokens of their rollout by chance (`permuted`), or their mean on all of them (`constant`); weights
that know which tokens are wrong (`oracle`, `metrics/token_truth.py`), the most that credit can do
within the bounds. Which tokens credit finds is measured by `experiments.credit`.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.data import Subset
from transformers import PreTrainedModel, ProcessorMixin

from experiments.credit import cases_of, experience_of, log_ratio
from experiments.students import Student
from lit_vdistill.judge.rule_judge import RuleJudge
from lit_vdistill.judge.shuffled import ShuffledJudge
from lit_vdistill.metrics.intervals import Difference, paired_difference
from lit_vdistill.metrics.token_truth import marks, token_marks
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import completion_logprobs
from lit_vdistill.models.tokens import response_ids, token_spans
from lit_vdistill.objectives.advantages import group_advantages
from lit_vdistill.objectives.credit import mixed_credit, token_weights
from lit_vdistill.responses.prompts import Conditioning
from lit_vdistill.stages.step import Experience
from lit_vdistill.world.config import TeacherConfig, WorldConfig
from lit_vdistill.world.questions import questions
from lit_vdistill.world.scenes import scenes
from lit_vdistill.world.simulated_teacher import SimulatedTeacher

DOSES = {"paper": (0.5, 0.2), "wide": (1.0, 0.9)}
"""λ and ε_w by name."""
TOLD: dict[str, Conditioning] = {
    "answer": "answer", "evidence": "evidence", "feedback": "feedback", "shuffled": "feedback",
}  # fmt: skip
CREDITS = (*TOLD, "permuted", "constant", "oracle")
WINDOW = 18
"""Questions: nine about each of two videos."""
_SURE = 10.0
"""|Δ| of the oracle, beyond every bound."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """How one window's gradient stands to that of the true responses."""

    dose: str
    credit: str
    cosine: float
    with_grpo: float
    """Cosine with the gradient without credit."""


@dataclass(frozen=True, slots=True)
class Aligned:
    """A credit's cosines over windows; half widths are of 95 % intervals over windows."""

    cosine: float
    gained: float
    """Over GRPO's, window by window."""
    gained_half: float
    with_grpo: float
    windows: int
    p_value: float
    """Two-sided, of no gain."""


def true_responses(config: WorldConfig, split: str) -> dict[str, str]:
    """By question, what a teacher writes that sees everything as it is.

    Args:
        config: Of the world whose questions are asked; its teacher's noise does not count.
        split: Of held-out questions, `val` or `test`.
    """
    seeing = SimulatedTeacher(
        WorldConfig(**{**_fields(config), "teacher": TeacherConfig(noise_free=True)})
    )
    return {
        sample.id: seeing.respond(sample, scene, 1)[0].text
        for scene in scenes(split, config)  # type: ignore[arg-type]
        for sample in questions(scene, config)
    }


def _fields(config: WorldConfig) -> dict[str, int]:
    return {key: value for key, value in asdict(config).items() if key != "teacher"}


def aligned(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    experience: Experience,
    truth: Mapping[str, str],
    seed: int,
) -> list[Alignment]:
    """Cosines of a window under every credit and dose; empty where no group tells rollouts apart.

    Args:
        model: The student.
        processor: Its processor.
        experience: Its rollouts, with what the verifier says of them.
        truth: True responses by sample id.
        seed: Of the permutation.
    """
    rewards = torch.tensor(
        [[sum(part.values()) for part in parts] for parts in experience.breakdowns]
    )
    advantages = group_advantages(rewards, "grpo").flatten()
    if not advantages.any():
        return []
    prompts = experience.batch.prompts
    ids = [group.sample.id for group in experience.groups]
    rows = [Row(i, response_ids(processor, truth[name])) for i, name in enumerate(ids)]
    wanted = gradient(model, prompts, rows, [torch.ones(len(rows))[:, None]])[0]
    ratios = log_ratios(model, processor, experience, seed)
    weights = [torch.ones_like(ratios["answer"])]
    for mix, clip in DOSES.values():
        credits = {
            name: mixed_credit(token_weights(ratio, advantages, clip), mix)
            for name, ratio in ratios.items()
        }
        given = _given(ratios["answer"], experience.rows)
        mean = (credits["feedback"] * given).sum(1) / given.sum(1)
        credits["constant"] = mean[:, None].expand_as(given)
        weights += [credits[name] for name in CREDITS]
    plain, *others = gradient(
        model, prompts, experience.rows, [advantages[:, None] * w for w in weights]
    )
    names = [("none", "grpo"), *((dose, name) for dose in DOSES for name in CREDITS)]
    return [
        Alignment(*name, _cosine(found, wanted), _cosine(found, plain))
        for name, found in zip(names, [plain, *others], strict=True)
    ]


def log_ratios(
    model: PreTrainedModel, processor: ProcessorMixin, experience: Experience, seed: int
) -> dict[str, Float[Tensor, "rows seq"]]:
    """Δ of every token by credit, but for `constant`, which is of weights."""
    cases = cases_of(experience)
    feedback = RuleJudge().diagnose(cases)
    shuffled = ShuffledJudge(RuleJudge()).diagnose(cases)
    found = {
        name: log_ratio(
            model, processor, experience, said, shuffled if name == "shuffled" else feedback
        )
        for name, said in TOLD.items()
    }
    generator = torch.Generator().manual_seed(seed)
    found["permuted"] = found["feedback"].clone()
    found["oracle"] = torch.zeros_like(found["feedback"])
    samples = [group.sample for group in experience.groups for _ in group.rollouts]
    for place, (sample, rollout) in enumerate(zip(samples, experience.rollouts, strict=True)):
        length = len(rollout.completion_ids)
        order = torch.randperm(length, generator=generator)
        found["permuted"][place, :length] = found["feedback"][place, order]
        spans = token_spans(processor, rollout.completion_ids)
        for token, mark in enumerate(token_marks(marks(rollout.text, sample), spans)):
            if mark is not None and mark.verdict == "wrong":
                found["oracle"][place, token] = -_SURE
    return found


def gradient(
    model: PreTrainedModel,
    prompts: Sequence,
    rows: Sequence[Row],
    factors: Sequence[Float[Tensor, "rows _"]],
) -> list[Float[Tensor, " weights"]]:
    """Gradients of Σ factor · log p, mean over a row's tokens and over rows, from one forward pass.

    Vision features of the prompts are made before, so the tower has no part in it.

    Args:
        model: The student.
        prompts: With their features.
        rows: Completions.
        factors: On each token, or one a row for all of its tokens.
    """
    scores = completion_logprobs(model, prompts, rows)
    given = _given(scores.logprobs, rows)
    share = given / given.sum(1, keepdim=True) / len(rows)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    found = []
    for place, factor in enumerate(factors):
        parts = torch.autograd.grad(
            scores.logprobs,
            weights,
            grad_outputs=factor * share,
            retain_graph=place < len(factors) - 1,
            allow_unused=True,
        )
        found.append(torch.cat([part.flatten() for part in parts if part is not None]))
    return found


def _given(like: Tensor, rows: Sequence[Row]) -> Bool[Tensor, "rows seq"]:
    """Which places are tokens of a completion."""
    lengths = torch.tensor([len(row.completion_ids) for row in rows])
    return torch.arange(like.shape[1])[None] < lengths[:, None]


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=0))


def windows(
    student: Student, num_rollouts: int, seed: int, limit: int | None
) -> Iterator[Experience]:
    """The student's answers to whole videos, a window at a time."""
    held_out = student.data.val_set
    count = min(len(held_out), limit or len(held_out))
    for first in range(0, count - WINDOW + 1, WINDOW):
        chosen = Subset(held_out, range(first, first + WINDOW))
        with torch.no_grad():
            ((batch, drawn),) = student.answers(chosen, num_rollouts, seed)
        yield experience_of(batch, drawn)


def report(found: Sequence[Sequence[Alignment]]) -> dict[str, Aligned]:
    """Over windows, by `<dose>/<credit>`; gains are paired with GRPO's cosine of the window.

    Raises:
        ValueError: For fewer than two windows, which have no interval.
    """
    if len(found) < 2:
        raise ValueError(f"expected two windows with a signal or more, got {len(found)}")
    table: dict[str, Aligned] = {}
    names = [f"{item.dose}/{item.credit}" for item in found[0]]
    for place, name in enumerate(names):
        ours = {str(i): window[place].cosine for i, window in enumerate(found)}
        plain = {str(i): window[0].cosine for i, window in enumerate(found)}
        gain: Difference = paired_difference(ours, plain, {i: i for i in ours})
        table[name] = Aligned(
            cosine=sum(ours.values()) / len(found),
            gained=gain.value,
            gained_half=0.0 if gain.high is None else gain.high - gain.value,
            with_grpo=sum(window[place].with_grpo for window in found) / len(found),
            windows=len(found),
            p_value=1.0 if gain.p_value is None else gain.p_value,
        )
    return table


def table(found: Mapping[str, Aligned]) -> str:
    """The report in Markdown."""
    lines = ["| credit | cosine | more than GRPO | cosine with GRPO's |", "|---|---|---|---|"]
    for name, row in found.items():
        gained = f"{row.gained:+.3f} ± {row.gained_half:.3f}"
        lines.append(f"| {name} | {row.cosine:.3f} | {gained} | {row.with_grpo:.4f} |")
    return "\n".join(lines)


def main() -> None:
    """Sample, take gradients and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--student", default="runs/sft_privileged/student")
    parser.add_argument("--world", default="runs/world", help="of the default size and seed")
    parser.add_argument("--split", default="val", choices=("val", "test"))
    parser.add_argument("--rollouts", type=int, default=8, help="answers to each question")
    parser.add_argument("--questions", type=int, help="only so many of them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    student = Student.load(args.student, args.world, args.split)
    truth = true_responses(WorldConfig(), args.split)
    found = []
    for window in windows(student, args.rollouts, args.seed, args.questions):
        cosines = aligned(student.model, student.processor, window, truth, args.seed)
        found += [cosines] if cosines else []
    told = report(found)
    sys.stdout.write("\n" + table(told) + "\n")
    if args.json:
        rows = {name: asdict(row) for name, row in told.items()}
        args.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
