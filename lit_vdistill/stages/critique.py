"""What the discriminator says about both sides, what it learns from it, and its health."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import ProcessorMixin

from lit_vdistill.data.batch import Item
from lit_vdistill.models.discriminator import Discriminator
from lit_vdistill.models.encode import encode_prompt
from lit_vdistill.models.layout import Row
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.models.tokens import response_ids, spelt_out
from lit_vdistill.objectives.adversarial import PairWeight, pair_weights, pairwise_total
from lit_vdistill.responses.prompts import SHORT, render_messages
from lit_vdistill.stages.averages import StepMetrics
from lit_vdistill.stages.matches import Match, Pair
from lit_vdistill.stages.step import Experience

Condition = Literal["video_question", "question", "none"]
"""What stands before a response that is scored."""


@dataclass(frozen=True, slots=True)
class Critique:
    """D of both sides, with gradients."""

    students: Float[Tensor, "batch group"]
    teachers: tuple[Float[Tensor, "_"], ...]
    """Of each prompt's responses that can be drawn."""

    def sides(
        self, pairs: Sequence[Pair]
    ) -> tuple[Float[Tensor, " pairs"], Float[Tensor, " pairs"]]:
        """The teacher's and the student's score in each pair."""
        # An empty choice keeps the graph: every parameter must get a gradient in every step.
        none = self.students.flatten()[:0]
        own = [self.students[pair.group, pair.rollout] for pair in pairs]
        other = [self.teachers[pair.group][pair.response] for pair in pairs]
        teachers, students = (torch.stack(s) if s else none for s in (other, own))
        return teachers, students

    def pool_scores(self, matches: Sequence[Match | None]) -> Float[Tensor, " batch"]:
        """Expected D of each prompt's teacher under the matching distribution, detached.

        0 where there is none.
        """
        expected = [
            (scores.detach() * scores.new_tensor(match.probabilities)).sum()
            if match is not None
            else scores.new_zeros(())
            for scores, match in zip(self.teachers, matches, strict=True)
        ]
        return torch.stack(expected)


def critique(
    discriminator: Discriminator,
    processor: ProcessorMixin,
    part: Experience,
    matches: Sequence[Match | None],
    condition: Condition = "video_question",
) -> Critique:
    """D of all rollouts and of all teacher responses, in one forward.

    Rollout texts are tokenised as teacher texts are: equal texts become equal ids however the
    policy happened to spell them, and so get equal scores. Nothing is trained on these ids but the
    discriminator.
    """
    rows, sizes = [], []
    for i, group in enumerate(part.groups):
        rows += [
            Row(
                i,
                response_ids(processor, r.text, is_complete=not r.is_truncated) or r.completion_ids,
            )
            for r in group.rollouts
        ]
    for i, match in enumerate(matches):
        responses = match.responses if match is not None else ()
        rows += [Row(i, response_ids(processor, s.response.text)) for s in responses]
        sizes.append(len(responses))
    scores = discriminator(prompts_seen(processor, part.batch.items, condition), rows)
    count = len(part.rollouts)
    students = scores[:count].view(len(part.groups), -1)
    return Critique(students, tuple(scores[count:].split(sizes)))


def prompts_seen(
    processor: ProcessorMixin, items: Sequence[Item], condition: Condition
) -> list[EncodedPrompt]:
    """The prompts as the discriminator gets them, on the device that they are on.

    Without the video it reads the bare question as a text; without that too, an empty turn.
    """
    if condition == "video_question":
        return [item.prompt for item in items]
    seen = []
    for item in items:
        lines = (item.sample.question, *item.sample.options) if condition == "question" else ("",)
        question, *options = (spelt_out(processor, line) for line in lines)
        told = replace(
            item.sample, question=question, options=tuple(options), media=None, media_type="text"
        )
        text = encode_prompt(processor, render_messages(told, SHORT), None, told.id)
        seen.append(text.to(item.prompt.input_ids.device))
    return seen


def discriminator_loss(
    metrics: StepMetrics,
    said: Critique,
    pairs: Sequence[Pair],
    counts: Mapping[str, float],
    mode: PairWeight,
) -> Float[Tensor, ""]:
    """A piece's share of R-MSD Eq. 7.

    Args:
        metrics: Takes loss, accuracy and margin.
        said: Of the piece.
        pairs: Of the piece.
        counts: `pairs` and `pair_quality` of the whole step.
        mode: How a pair is weighted.
    """
    teachers, students = said.sides(pairs)
    quality = students.new_tensor([pair.quality for pair in pairs])
    num_pairs = max(counts["pairs"], 1.0)
    weights = pair_weights(quality, counts["pair_quality"] / num_pairs, mode)
    counted = students.new_tensor([pair.weight for pair in pairs])
    loss = pairwise_total(teachers, students, weights * counted) / num_pairs
    margin = (teachers - students).detach()
    # Equal texts have equal scores and teach nothing: accuracy is over pairs that differ.
    metrics.add_sum("disc/loss", loss)
    metrics.add_mean("disc/accuracy", margin[margin != 0].gt(0).float())
    metrics.add_mean("disc/margin", margin)
    metrics.add_mean("disc/ties", margin.eq(0).float())
    metrics.add_mean("disc/pair_weight", weights)
    return loss


def describe_critique(
    metrics: StepMetrics, said: Critique, part: Experience, matches: Sequence[Match | None]
) -> None:
    """Add what D follows: length among rollouts, quality among teacher responses.

    Within prompts: Eq. 7 fixes D only up to a constant a prompt, so what D says of two prompts
    cannot be compared.
    """
    for scores, group in zip(said.students, part.groups, strict=True):
        lengths = [float(len(r.completion_ids)) for r in group.rollouts]
        metrics.add_correlation("disc/corr_length", scores, scores.new_tensor(lengths))
    for scores, match in zip(said.teachers, matches, strict=True):
        qualities = [scored.quality for scored in match.responses] if match is not None else []
        metrics.add_correlation("disc/corr_quality", scores, scores.new_tensor(qualities))


def without_unpaired(
    paid: Float[Tensor, "batch group"], part: Experience, matches: Sequence[Match | None]
) -> Float[Tensor, "batch group"]:
    """Nothing for prompts without a teacher; the group's least for truncated rollouts.

    The discriminator has learnt nothing about truncated text, so its opinion does not count.
    """
    paid = paid.clone()
    for i, (group, match) in enumerate(zip(part.groups, matches, strict=True)):
        truncated = torch.tensor([r.is_truncated for r in group.rollouts], device=paid.device)
        if match is None or bool(truncated.all()):
            paid[i] = 0.0
        else:
            paid[i, truncated] = paid[i, ~truncated].min()
    return paid
