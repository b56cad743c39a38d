"""Stage 1: supervised warm-up on the best teacher response."""

from collections.abc import Sequence

from torch import Tensor

from lit_vdistill.data.dataset import PromptBatch
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import completion_logprobs
from lit_vdistill.models.tokens import response_ids
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.objectives.policy import masked_average
from lit_vdistill.pool.quality import best_response
from lit_vdistill.rewards import Reward
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.vlm_stage import OptimConfig, ValidationConfig, VLMStage


class SFTModule(VLMStage):
    """SFT warm-up (R-MSD §3.4, Eq. 5).

    1. Pick one teacher response a prompt: the highest q for closed-ended tasks, a seeded random
       one for open-ended tasks (`best_response`).
    2. Tokenise it as rollouts end: with the end-of-sequence token (`response_ids`).
    3. Minimise its negative log-likelihood, over the response only (`training_step`).
    """

    def __init__(
        self,
        policy: VLMConfig,
        rewards: Sequence[Reward],
        *,
        sampling: SamplingConfig = SamplingConfig(),
        validation: ValidationConfig = ValidationConfig(),
        optim: OptimConfig = OptimConfig(),
    ) -> None:
        """See `VLMStage`; the rewards are reported at validation and not trained on."""
        super().__init__(policy, rewards, sampling=sampling, validation=validation, optim=optim)

    def training_step(self, batch: PromptBatch, batch_idx: int) -> Tensor:
        """Negative log-likelihood of the chosen responses, averaged over their tokens."""
        assert self.policy is not None
        chosen = [best_response(item.sample, item.pool, self.seed) for item in batch.items]
        rows = [
            Row(i, response_ids(self.processor, scored.response.text))
            for i, scored in enumerate(chosen)
        ]
        scores = completion_logprobs(self.policy, batch.prompts, rows)
        loss = -masked_average(scores.logprobs, scores.mask, "token_mean")
        size = len(batch)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=size, sync_dist=True)
        quality = sum(scored.quality for scored in chosen) / size
        self.log("train/target_quality", quality, batch_size=size, sync_dist=True)
        return self.scale_for_accumulation(loss)
