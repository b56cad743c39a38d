"""Does token credit turn the policy's gradient towards the right answers?

The gradient of a window under VISD's credit (Eqs. 5-9) is compared, by its cosine, with the
gradient of the mean log-likelihood of true responses to the same questions: those of a teacher that
sees everything as it is. Credit is taken at the paper's bounds and at wide ones, under every
condition and control of `credit_conditions.py`: `constant` has the mean weight of `feedback` on all
tokens of a rollout, `improbable` all of ε on improbable ones, `oracle` is the most that credit can
do within the bounds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin

from experiments.credit_conditions import CONDITIONS, Ratios
from lit_vdistill.metrics.intervals import Difference, paired_difference
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import completion_logprobs
from lit_vdistill.models.tokens import response_ids
from lit_vdistill.objectives.advantages import group_advantages
from lit_vdistill.objectives.credit import mixed_credit, token_weights
from lit_vdistill.stages.step import Experience
from lit_vdistill.world.config import TeacherConfig, WorldConfig
from lit_vdistill.world.questions import questions
from lit_vdistill.world.scenes import scenes
from lit_vdistill.world.simulated_teacher import SimulatedTeacher

DOSES = {"paper": (0.5, 0.2), "wide": (1.0, 0.9)}
"""λ and ε_w by name."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """How one window's gradient stands to that of the true responses."""

    dose: str
    condition: str
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
    ratios: Ratios,
    truth: Mapping[str, str],
) -> list[Alignment]:
    """Cosines of a window under every credit and dose; empty where no group tells rollouts apart.

    Args:
        model: The student.
        processor: Its processor.
        experience: Its rollouts, with what the verifier says of them.
        ratios: Δ of their tokens by condition.
        truth: True responses by sample id.
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
    given = _given(ratios["feedback"], experience.rows)
    credits = [torch.ones_like(ratios["feedback"])]
    for mix, clip in DOSES.values():
        weights = {name: token_weights(ratio, advantages, clip) for name, ratio in ratios.items()}
        weights["improbable"] = 1.0 + clip * (ratios["improbable"] < 0)
        mean = (weights["feedback"] * given).sum(1) / given.sum(1)
        weights["constant"] = mean[:, None].expand_as(given)
        credits += [mixed_credit(weights[name], mix) for name in CONDITIONS]
    plain, *others = gradient(
        model, prompts, experience.rows, [advantages[:, None] * credit for credit in credits]
    )
    names = [("none", "grpo"), *((dose, name) for dose in DOSES for name in CONDITIONS)]
    return [
        Alignment(*name, _cosine(found, wanted), _cosine(found, plain))
        for name, found in zip(names, [plain, *others], strict=True)
    ]


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


def report(found: Sequence[Sequence[Alignment]]) -> dict[str, Aligned]:
    """Over windows, by `<dose>/<credit>`; gains are paired with GRPO's cosine of the window.

    Raises:
        ValueError: For fewer than two windows, which have no interval.
    """
    if len(found) < 2:
        raise ValueError(f"expected two windows with a signal or more, got {len(found)}")
    table: dict[str, Aligned] = {}
    names = [f"{item.dose}/{item.condition}" for item in found[0]]
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
