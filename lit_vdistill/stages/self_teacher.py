"""A teacher that was the policy when the run began, and that may follow it."""

import gc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from transformers import PreTrainedModel

from lit_vdistill.data.teacher_view import ViewConfig
from lit_vdistill.judge.judge import JudgeCase
from lit_vdistill.models.ema import EMAWeights
from lit_vdistill.models.sharding import free_weights
from lit_vdistill.models.vlm import copy_of_start
from lit_vdistill.stages.on_policy import OnPolicyModule
from lit_vdistill.stages.saved_networks import has_network, saved_weights
from lit_vdistill.stages.step import Experience


class SelfTeacherModule(OnPolicyModule):
    """An on-policy stage whose teacher is the policy itself, told more than the student.

    As it stands the teacher stays the starting policy; `EMATeacherUpdate` moves it.
    """

    has_teacher: bool
    """Whether the run is going to ask it; a stage sets it."""

    def let_see(self, view: ViewConfig | None) -> None:
        """Let the teacher see what the student does not; its tower then looks at all prompts."""
        self.teacher_view, self.has_other_tower = view, view is not None

    def load_networks(self) -> None:
        """Load the policy, and copy it into the teacher where one is needed."""
        super().load_networks()
        self._ema = EMAWeights()
        self.ema_teacher: PreTrainedModel | None = None
        if self.has_teacher and not self._goes_on_without_teacher():
            assert self.policy is not None
            start = copy_of_start(self.policy, self.policy_config)
            self.ema_teacher = start.requires_grad_(False).eval()

    def update_teacher(self, rate: float, *, in_place: bool = False) -> None:
        """Move the teacher towards the policy (VISD Eq. 8); `EMATeacherUpdate` calls it."""
        if self.ema_teacher is not None:
            assert self.policy is not None
            self._ema.update(self.ema_teacher, self.policy, rate, in_place=in_place)

    def free_teacher(self) -> None:
        """Give back the memory of the teacher and of its float32 weights; a collective.

        It does not come back. A checkpoint then has no teacher, and a run that goes on from it
        neither.
        """
        if self.ema_teacher is not None:
            free_weights(self.ema_teacher)
            self.ema_teacher = None
            self._ema.master = {}
            gc.collect()  # modules and their hooks are cycles

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Free the teacher first where a checkpoint has none; see `Module.load_state_dict`."""
        if not has_network(state_dict, "ema_teacher"):
            self.free_teacher()
        return super().load_state_dict(state_dict, strict, assign)

    def _goes_on_without_teacher(self) -> bool:
        """Whether the run goes on from a checkpoint without one, as far as it must be known here.

        Under FSDP2 alone: it fills the networks that there are, and asks for each of their weights.
        """
        if not self._trainer or not isinstance(self.trainer.strategy, ModelParallelStrategy):
            return False
        if self.checkpoint is None or not Path(self.checkpoint).exists():
            return False
        return not has_network(saved_weights(Path(self.checkpoint)), "ema_teacher")

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
