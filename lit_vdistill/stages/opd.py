"""On-policy distillation: a white-box teacher's distributions on the student's own tokens."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor
from transformers import PreTrainedModel

from lit_vdistill.models.vlm import VLMConfig, check_same_tokens, load_model
from lit_vdistill.rewards import Reward
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.distillation import Distillation, DistillConfig, Reading
from lit_vdistill.stages.method import Kept, TokenMethod
from lit_vdistill.stages.on_policy import OnPolicyModule
from lit_vdistill.stages.optimizer import OptimConfig
from lit_vdistill.stages.policy_loss import PolicyLossConfig
from lit_vdistill.stages.step import Experience
from lit_vdistill.stages.validation import ValidationConfig


class OPDModule(OnPolicyModule):
    """On-policy distillation (GKD, arXiv:2306.13649; reverse KL as in MiniLLM, arXiv:2306.08543).

    1. Sample N rollouts of every prompt from the student (`sample`); no gradient goes there.
    2. The teacher reads video, prompt and the same token ids (`Distillation.request`).
    3. A token's loss: `coef` x divergence + `reward_weight` x GRPO's (`Distillation.terms`).
    """

    has_other_tower, is_strictly_on_policy = True, True

    def __init__(
        self,
        policy: VLMConfig,
        rewards: Sequence[Reward],
        teacher: VLMConfig,
        *,
        distill: DistillConfig = DistillConfig(),
        loss: PolicyLossConfig = PolicyLossConfig(group_size=4, kl_coef=0.0),
        sampling: SamplingConfig = SamplingConfig(),
        validation: ValidationConfig = ValidationConfig(),
        optim: OptimConfig = OptimConfig(),
    ) -> None:
        """See `OnPolicyModule`.

        Args:
            policy: The student.
            rewards: Rule rewards, weighted; paid where `distill.reward_weight` says so.
            teacher: Any frozen network of the same token ids.
            distill: What a token learns from the teacher, and what from the reward.
            loss: The policy-gradient loss.
            sampling: How rollouts are drawn.
            validation: What is generated for held-out samples.
            optim: AdamW and its schedule.
        """
        super().__init__(
            policy, rewards, loss=loss, sampling=sampling, validation=validation, optim=optim
        )
        check_same_tokens(policy.path, teacher.path)
        self.teacher_config, self.distill = teacher, distill
        self.teacher_view = distill.view if distill.coef else None
        self.teacher: PreTrainedModel | None = None

    def load_networks(self) -> None:
        """The student, and the teacher where it is asked."""
        super().load_networks()
        if self.distill.coef:
            self.teacher = load_model(self.teacher_config).requires_grad_(False).eval()

    def start_method(self, part: Experience, advantages: Tensor, kept: Kept) -> TokenMethod:
        """The teacher's view of a piece: its prompts, by its own tower."""

        def read() -> Reading:
            return [replace(prompt, features=None) for prompt in part.batch.views], part.rows

        return Distillation(self.teacher, self.distill, read)
