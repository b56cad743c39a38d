"""Stage 1: supervised warm-up on the best teacher response."""

from collections.abc import Sequence

from torch import Tensor

from lit_vdistill.data.dataset import Item, PromptBatch
from lit_vdistill.judge.judge import JudgeCase
from lit_vdistill.judge.rule_judge import RuleJudge
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import TokenScores, completion_logprobs
from lit_vdistill.models.prompt import EncodedPrompt, split_prompt
from lit_vdistill.models.tokens import plain_ids, response_ids
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.objectives.policy import masked_average
from lit_vdistill.pool.matching import uniform
from lit_vdistill.pool.quality import best_response
from lit_vdistill.responses.prompts import Conditioning, privileged_text
from lit_vdistill.rewards import Reward, reward_breakdown
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.vlm_stage import OptimConfig, ValidationConfig, VLMStage
from lit_vdistill.types import ScoredResponse


class SFTModule(VLMStage):
    """SFT warm-up (R-MSD §3.4, Eq. 5).

    1. Pick one teacher response a prompt: the highest q for closed-ended tasks, a seeded random
       one for open-ended tasks (`best_response`).
    2. Tokenise it as rollouts end: with the end-of-sequence token (`targets`).
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
        scores = completion_logprobs(self.policy, *self.targets(batch, chosen))
        loss = -masked_average(scores.logprobs, scores.mask, "token_mean")
        size = len(batch)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=size, sync_dist=True)
        quality = sum(scored.quality for scored in chosen) / size
        for name, value in {"train/target_quality": quality, **self.details(scores)}.items():
            self.log(name, value, batch_size=size, sync_dist=True)
        return self.scale_for_accumulation(loss)

    def details(self, scores: TokenScores) -> dict[str, float]:
        """More to log about a step."""
        return {}

    def targets(
        self, batch: PromptBatch, chosen: Sequence[ScoredResponse]
    ) -> tuple[Sequence[EncodedPrompt], list[Row]]:
        """Prompts, and what is to be said to them."""
        return batch.prompts, [
            Row(i, response_ids(self.processor, scored.response.text))
            for i, scored in enumerate(chosen)
        ]


class PrivilegedSFTModule(SFTModule):
    """SFT that also teaches to read what VISD's teacher is told.

    Each target is learnt twice: to the bare question, and behind answer, evidence and feedback as a
    replay puts them (`privileged_text`). A pretrained network reads such text already and needs
    `SFTModule` only; one from random weights would find every token less probable behind words that
    it never saw, and its token credit would be noise. How much is told is drawn anew each step, and
    feedback is the rule judge's on some response of the pool. Neither paper has this.
    """

    def targets(
        self, batch: PromptBatch, chosen: Sequence[ScoredResponse]
    ) -> tuple[Sequence[EncodedPrompt], list[Row]]:
        """Prompts up to their question's end; each target without and with what is told."""
        turn_end = self.processor.tokenizer.eos_token_id
        prompts, rows = [], []
        for i, (item, scored) in enumerate(zip(batch.items, chosen, strict=True)):
            prompt, tail = split_prompt(item.prompt, turn_end)
            told = plain_ids(self.processor, self._told(item))
            ids = response_ids(self.processor, scored.response.text)
            prompts.append(prompt)
            rows += [Row(i, ids, tail), Row(i, ids, (*told, *tail))]
        return prompts, rows

    def details(self, scores: TokenScores) -> dict[str, float]:
        """How probable the responses are, in nats each, to the bare question and to who is told."""
        nats = -(scores.logprobs * scores.mask).sum(dim=1).detach()
        return {"nll/bare": nats[::2].mean().item(), "nll/told": nats[1::2].mean().item()}

    def _told(self, item: Item) -> str:
        def draw(what: str, among: int) -> int:
            return int(uniform(self.seed, what, item.sample.id, self.global_step) * among)

        levels: tuple[Conditioning, ...] = ("answer", "evidence", "feedback")
        level = levels[draw("told", len(levels))]
        if level != "feedback":
            return privileged_text(item.sample, level, None)
        text = item.pool[draw("judged", len(item.pool))].response.text
        parts = reward_breakdown(self.rewards, text, item.sample)
        case = JudgeCase.scored(item.sample, text, self.rewards, parts)
        (feedback,) = RuleJudge().diagnose([case])
        return privileged_text(item.sample, level, feedback)
