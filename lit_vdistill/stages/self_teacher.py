"""A teacher that was the policy when the run began, and that may follow it."""

from typing import Any

from transformers import PreTrainedModel

from lit_vdistill.judge.judge import JudgeCase
from lit_vdistill.models.ema import EMAWeights
from lit_vdistill.stages.on_policy import OnPolicyModule
from lit_vdistill.stages.step import Experience


class SelfTeacherModule(OnPolicyModule):
    """An on-policy stage whose teacher is the policy itself, told more than the student.

    As it stands the teacher stays the starting policy; `EMATeacherUpdate` moves it.
    """

    has_teacher: bool
    """Whether the run is going to ask it; a stage sets it."""

    def load_networks(self) -> None:
        """Load the policy, and copy it into the teacher where one is needed."""
        super().load_networks()
        self._ema = EMAWeights()
        self.ema_teacher: PreTrainedModel | None = None
        if self.has_teacher:
            self.ema_teacher = self.copy_of_start().requires_grad_(False).eval()

    def update_teacher(self, rate: float) -> None:
        """Move the teacher towards the policy (VISD Eq. 8); `EMATeacherUpdate` calls it."""
        if self.ema_teacher is not None:
            assert self.policy is not None
            self._ema.update(self.ema_teacher, self.policy, rate)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the float32 weights of a teacher that is stored in less."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["ema_master"] = self._ema.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take them over."""
        super().on_load_checkpoint(checkpoint)
        self._ema.master = {
            name: tensor.to(self.device) for name, tensor in checkpoint["ema_master"].items()
        }

    def judge_cases(self, part: Experience) -> list[JudgeCase]:
        """What a judge is shown of each rollout of a piece."""
        return [
            JudgeCase.scored(group.sample, rollout.text, self.rewards, parts)
            for group, breakdowns in zip(part.groups, part.breakdowns, strict=True)
            for rollout, parts in zip(group.rollouts, breakdowns, strict=True)
        ]
