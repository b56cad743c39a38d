"""On-policy distillation of one piece: a teacher's distributions on the student's own tokens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from transformers import PreTrainedModel

from lit_vdistill.data.teacher_view import ViewConfig
from lit_vdistill.models.forward import CompletionStates
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import HeadRequest, TeacherHead, TokenScores
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.objectives.divergence import Divergence
from lit_vdistill.stages.averages import StepMetrics
from lit_vdistill.stages.method import TokenMethod, TokenTerms

Reading = tuple[Sequence[EncodedPrompt], Sequence[Row]]
"""Prompts, and the student's token ids behind them, with what else the teacher is told."""


@dataclass(frozen=True)
class DistillConfig:
    """What a token learns from the teacher, and what from the reward."""

    coef: float = 1.0
    """Weight of the divergence; 0 asks no teacher."""
    reward_weight: float = 0.0
    """Weight of the policy gradient; 1 with `coef` 0 is GRPO."""
    divergence: Divergence = "reverse"
    """`reverse` KL(student || teacher), `forward`, or `jensen_shannon`."""
    top_k: int = 0
    """Compare on the teacher's K most probable tokens and the rest; 0 = on the whole vocabulary."""
    view: ViewConfig | None = None
    """What the teacher sees; null = what the student sees."""


@dataclass
class Distillation(TokenMethod):
    """A token's loss is the divergence from the teacher, which reads the same token ids."""

    teacher: PreTrainedModel | None
    config: DistillConfig
    read: Callable[[], Reading] | None
    """Gives what the teacher reads; let go of by then, as it is on the device and the window goes
    on."""
    feedback: Mapping[int, str] = field(default_factory=dict)
    """As `TokenMethod` has it; whoever reads fills it."""

    def request(self, states: CompletionStates) -> HeadRequest:
        """Let the teacher see and read; the student's head then compares both, word for word."""
        read, self.read = self.read, None
        if self.teacher is None or read is None:
            return HeadRequest()
        how = self.config.divergence, self.config.top_k
        return HeadRequest(teacher=TeacherHead.of(self.teacher, *read(), *how))

    def terms(self, scores: TokenScores, metrics: StepMetrics) -> TokenTerms:
        """The policy gradient's share, and the divergence."""
        factors, apart = scores.mask * self.config.reward_weight, scores.divergences
        if apart is not None:
            metrics.add_mean("distill/divergence", apart[scores.mask])
        return TokenTerms(factors, None if apart is None else self.config.coef * apart)
