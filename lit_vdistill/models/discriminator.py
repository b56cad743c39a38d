"""The critic as discriminator: one score for a response, seen with its video and question."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from lit_vdistill.models.forward import completion_states, pad_token_id
from lit_vdistill.models.layout import Row
from lit_vdistill.models.prompt import EncodedPrompt


class Discriminator(nn.Module):
    """A scalar head at the last response token over a copy of the stage-1 student (R-MSD §3.5).

    The paper writes D_φ(S) without its condition; as in GAD, ours sees video and question too.
    The head starts small: scores of an untrained discriminator hardly differ.
    """

    def __init__(self, student: PreTrainedModel) -> None:
        """Take over a student's backbone; pass a copy, its language-model head is not kept."""
        super().__init__()
        self.backbone = student.model
        self.pad_id = pad_token_id(student)
        hidden_size = student.config.get_text_config().hidden_size
        self.head = _ScoreHead(hidden_size, 1, bias=False)

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
            One float32 score a row, unbounded.
        """
        unique = list(dict.fromkeys(rows))
        place = {row: index for index, row in enumerate(unique)}
        states = completion_states(self.backbone, prompts, unique, self.pad_id)
        scores = self.head(states.final.to(self.head.weight.dtype))[:, 0].float()
        return scores[torch.tensor([place[row] for row in rows], device=scores.device)]


class _ScoreHead(nn.Linear):
    """Initialised as it is built, since ZeRO-3 shards it right after."""

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.02)
