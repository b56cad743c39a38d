"""The critic as discriminator: one score for a response, seen with its video and question."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_vdistill.models.forward import CompletionStates, completion_states, pad_token_id
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import head_scores
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.objectives.precision import widened

ReadOut = Literal["last_token", "mean_token", "likelihood", "likelihood_mean_token"]
"""What a score is made of; `Discriminator` has the terms."""
LIKELIHOOD_SCALE = 2.0
"""Factor on the mean log-probability at the start, where Eq. 7 of untrained scores is lowest."""


class Discriminator(nn.Module):
    """A copy of the stage-1 student with a read-out that gives a scalar a response (R-MSD §3.5).

    - `last_token`: a fresh linear head on the state at the last token, as the paper and GAD have
      it. That token is the end of the sequence, whose state stage 1 never trains: nothing is
      predicted from it.
    - `mean_token`: such a head on the mean state over the response's tokens.
    - `likelihood`: the response's log-probability a token under the network's own language-model
      head, times a learnt factor; the reward of SimPO (arXiv:2405.14734), without its margin.
    - `likelihood_mean_token`: both added. The head starts at 0, so that an untrained score is what
      stage 1 has learnt. None of the papers has it.

    All of a score's terms are trained by Eq. 7. The paper writes D_φ(S) without its condition; as
    in GAD, ours sees video and question too, unless `disc.condition` says otherwise.
    """

    def __init__(self, student: PreTrainedModel, read_out: ReadOut) -> None:
        """Take over a student; pass a copy.

        Args:
            student: Its language-model head is kept where the read-out needs it.
            read_out: What a score is made of.
        """
        super().__init__()
        self.backbone = student.model
        self.pad_id = pad_token_id(student)
        self.pools_mean = read_out != "last_token"
        has_likelihood = read_out.startswith("likelihood")
        self.lm_head = student.lm_head if has_likelihood else None
        self.scale = _Scale(LIKELIHOOD_SCALE) if has_likelihood else None
        self.head = None
        if read_out != "likelihood":
            hidden_size = student.config.get_text_config().hidden_size
            self.head = _ScoreHead(hidden_size, starts_at_zero=has_likelihood)

    def forward(
        self, prompts: Sequence[EncodedPrompt], rows: Sequence[Row]
    ) -> Float[Tensor, " rows"]:
        """Score responses, higher = more like the teacher's.

        Student and teacher rows go through one forward. Equal rows are scored once, which makes
        their scores equal to the bit.

        Args:
            prompts: The prompts, on the discriminator's device.
            rows: Responses of students and teachers, each ending as `completion_ids` do.

        Returns:
            One float32 score a row, unbounded; only differences within a prompt mean anything.
        """
        unique = list(dict.fromkeys(rows))
        place = {row: index for index, row in enumerate(unique)}
        states = completion_states(self.backbone, prompts, unique, self.pad_id)
        scores = widened(states.final).new_zeros(len(unique))
        if self.lm_head is not None and self.scale is not None:
            words = head_scores(self.lm_head, states)
            scores = scores + self.scale(words.logprobs.sum(dim=1) / words.mask.sum(dim=1))
        if self.head is not None:
            scores = scores + self.head(_mean_state(states) if self.pools_mean else states.final)
        return scores[torch.tensor([place[row] for row in rows], device=scores.device)]


def _mean_state(states: CompletionStates) -> Float[Tensor, "rows hidden"]:
    """The average state at the tokens of each completion, in float32."""
    mask = states.mask[:, :, None]
    # What predicts the first token is the prompt's; what has seen the last one stands apart.
    inside = (widened(states.hidden[:, 1:]) * mask[:, 1:]).sum(dim=1)
    return (inside + widened(states.final)) / mask.sum(dim=1)


class _Scale(nn.Module):
    """A positive factor, a module so that what shards weights gathers it."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.log = nn.Parameter(torch.tensor([start], dtype=torch.float32).log())

    def forward(self, values: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        return widened(self.log).exp() * widened(values)


class _ScoreHead(nn.Linear):
    """Scores in float32 whatever the network's type: in bfloat16 unequal texts tie.

    Initialised as it is built, since ZeRO-3 shards it right after, and to the width: states have a
    norm of √hidden, so scores vary by about 1 whatever the network's size.
    """

    def __init__(self, hidden_size: int, *, starts_at_zero: bool) -> None:
        self._std = 0.0 if starts_at_zero else hidden_size**-0.5
        super().__init__(hidden_size, 1, bias=False, dtype=torch.float32)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self._std)

    def forward(self, input: Float[Tensor, "rows hidden"]) -> Float[Tensor, " rows"]:
        with torch.autocast(input.device.type, enabled=False):
            states = widened(input)
            return nn.functional.linear(states, self.weight.to(states.dtype))[:, 0]
