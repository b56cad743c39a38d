"""Stage 1: supervised warm-up on the best teacher response."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from lit_vdistill import processes
from lit_vdistill.data.batch import Item
from lit_vdistill.data.window import WindowTurn
from lit_vdistill.judge.judge import JudgeCase
from lit_vdistill.judge.rule_judge import RuleJudge
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import TokenScores, completion_logprobs
from lit_vdistill.models.prompt import EncodedPrompt, split_prompt
from lit_vdistill.models.shared_media import share_media
from lit_vdistill.models.tokens import plain_ids, response_ids
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.objectives.policy import masked_total
from lit_vdistill.pool.matching import uniform
from lit_vdistill.pool.quality import best_response
from lit_vdistill.responses.prompts import Conditioning, Telling, privileged_text
from lit_vdistill.rewards import Reward, reward_breakdown
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.matches import check_pool_size
from lit_vdistill.stages.optimizer import OptimConfig
from lit_vdistill.stages.pieces import cut
from lit_vdistill.stages.validation import ValidationConfig
from lit_vdistill.stages.vlm_stage import VLMStage
from lit_vdistill.types import ScoredResponse

_LEVELS: tuple[Conditioning, ...] = ("answer", "evidence", "feedback")
TOLD_TOKENS = 1024
"""Room for what a privileged target is told; `cut` refuses a window in which it was not enough."""


class SFTModule(VLMStage):
    """SFT warm-up (R-MSD §3.4, Eq. 5).

    1. Pick one teacher response a prompt among the first K of its pool: the highest q for
       closed-ended tasks, a seeded random one for open-ended tasks (`best_response`).
    2. Tokenise it as rollouts end: with the end-of-sequence token (`targets_of`).
    3. Minimise its negative log-likelihood, over the response only (`piece_loss`): all tokens of
       the step weigh alike, whatever piece or process they are in. Questions of a piece about one
       medium share its tokens (`share_media`); `data.loader.by_medium` brings them together.
       A mixture's routers may have a loss beside it (`with_router_loss`).
    """

    def __init__(
        self,
        policy: VLMConfig,
        rewards: Sequence[Reward],
        *,
        pool_size: int | None = None,
        sampling: SamplingConfig = SamplingConfig(),
        validation: ValidationConfig = ValidationConfig(),
        optim: OptimConfig = OptimConfig(),
    ) -> None:
        """See `VLMStage`; the rewards are reported at validation and not trained on.

        Args:
            policy: The network to train.
            rewards: Reported at validation.
            pool_size: Choose among the first K responses of each pool only; None = all. With 1
                nothing is chosen: GAD's stage 1, and setting A of R-MSD's Table 3.
            sampling: How completions are drawn at validation.
            validation: What is generated for held-out samples.
            optim: AdamW and its schedule.
        """
        super().__init__(policy, rewards, sampling=sampling, validation=validation, optim=optim)
        self.pool_size = pool_size

    def begin_step(self, turn: WindowTurn) -> None:
        """Choose the window's targets, cut it, and count its tokens over all processes."""
        items = turn.window.items
        chosen = [best_response(i.sample, self.pool_of(i), self.seed) for i in items]
        self.targets = [self.targets_of(i, pick) for i, pick in zip(items, chosen, strict=True)]
        costs = [
            len(item.prompt.input_ids) + sum(row.num_tokens for row in targets)
            for item, targets in zip(items, self.targets, strict=True)
        ]
        self.pieces = cut(costs, turn.num_pieces, self.max_tokens)
        lengths = [len(row.completion_ids) for targets in self.targets for row in targets]
        places = {item.prompt.medium or item.sample.id for item in items}
        # Over all processes: where weights are sharded, all make the calls of a check or none does.
        self.counts = processes.sum_over(
            {"tokens": float(sum(lengths)), "shared": float(len(lengths) - len(places))}
        )
        qualities = [scored.quality for scored in chosen]
        self.metrics.add("train/target_quality", sum(qualities), len(qualities))
        self.metrics.add_sum("step/tokens", float(sum(costs)))

    def piece_loss(self, turn: WindowTurn) -> Tensor:
        """Negative log-likelihood of a piece's targets, over all tokens of the step."""
        assert self.policy is not None
        # An empty piece runs the first prompt for nothing: all processes make the same calls.
        indices = self.pieces[turn.piece] or (0,)
        weight = 1.0 if self.pieces[turn.piece] else 0.0
        prompts = [self.prompt_of(turn.window.items[i]).to(self.device) for i in indices]
        rows = [replace(r, prompt=n) for n, i in enumerate(indices) for r in self.targets[i]]
        prompts, rows = share_media(prompts, rows)
        if self.counts["shared"]:
            self.verify_once(prompts, rows)
        scores = completion_logprobs(self.policy, prompts, rows)
        if weight:
            self.describe(scores)
        total = masked_total(scores.logprobs, scores.mask, "token_mean")
        loss = -weight * total / self.counts["tokens"]
        tokens = weight * sum(len(row.completion_ids) for row in rows)
        return self.with_router_loss(loss, scores, tokens / self.counts["tokens"])

    def on_train_start(self) -> None:
        """Refuse a K that no pool has; see `VLMStage.on_train_start`."""
        super().on_train_start()
        data: Any = getattr(self.trainer, "datamodule", None)
        if data is not None:
            check_pool_size(self.pool_size, data.train_set.pools, "model.pool_size")

    def pool_of(self, item: Item) -> tuple[ScoredResponse, ...]:
        """The responses that a target is chosen among."""
        return item.pool[: self.pool_size]

    def samples_of(self, turn: WindowTurn, piece: int) -> list[str]:
        """Ids of the samples of a piece."""
        return [turn.window.items[i].sample.id for i in self.pieces[piece]]

    def piece_cost(self, prompt_tokens: int) -> int:
        """A prompt and the longest responses of the pool."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        return prompt_tokens + self.longest_target(data.train_set.longest_responses())

    def longest_target(self, texts: Sequence[str]) -> int:
        """Tokens of the longest of these texts as a target."""
        return max((len(response_ids(self.processor, text)) for text in texts), default=0)

    def prompt_of(self, item: Item) -> EncodedPrompt:
        """What a target stands behind."""
        return item.prompt

    def targets_of(self, item: Item, chosen: ScoredResponse) -> list[Row]:
        """What is to be said to an item's prompt."""
        return [Row(0, response_ids(self.processor, chosen.response.text))]

    def describe(self, scores: TokenScores) -> None:
        """Add to the step's metrics what else is known about a piece."""


class PrivilegedSFTModule(SFTModule):
    """SFT that also teaches to read what VISD's teacher is told.

    Each target is learnt twice: to the bare question, and behind answer, evidence and feedback as a
    replay puts them (`privileged_text`). A pretrained network reads such text already and needs
    `SFTModule` only; one from random weights would find every token less probable behind words that
    it never saw, and its token credit would be noise. How much is told is drawn anew each step.
    Neither paper has this.

    Feedback is the rule judge's on a response drawn from the pool, of which the target of a
    closed-ended task is the best: what follows is what feedback asks for. On the target itself it
    would be a description, and who reads it so finds a replayed rollout's wrong tokens more
    probable once they are named.
    """

    def __init__(
        self,
        policy: VLMConfig,
        rewards: Sequence[Reward],
        *,
        told: Telling = Telling(),
        sampling: SamplingConfig = SamplingConfig(),
        validation: ValidationConfig = ValidationConfig(),
        optim: OptimConfig = OptimConfig(),
    ) -> None:
        """See `SFTModule`.

        Args:
            policy: The network to train.
            rewards: What feedback is about.
            told: How the replay will tell it, and how much at the most.
            sampling: How completions are drawn at validation.
            validation: What is generated for held-out samples.
            optim: AdamW and its schedule.
        """
        super().__init__(policy, rewards, sampling=sampling, validation=validation, optim=optim)
        self.told = told

    def prompt_of(self, item: Item) -> EncodedPrompt:
        """The prompt up to its question's end."""
        return split_prompt(item.prompt, self.processor.tokenizer.eos_token_id)[0]

    def targets_of(self, item: Item, chosen: ScoredResponse) -> list[Row]:
        """The target without and with what is told."""
        _, tail = split_prompt(item.prompt, self.processor.tokenizer.eos_token_id)
        told = plain_ids(self.processor, self._told(item))
        ids = response_ids(self.processor, chosen.response.text)
        return [Row(0, ids, tail), Row(0, ids, (*told, *tail))]

    def longest_target(self, texts: Sequence[str]) -> int:
        """The target twice, and what is told."""
        return 2 * super().longest_target(texts) + TOLD_TOKENS

    def describe(self, scores: TokenScores) -> None:
        """How probable the responses are, in nats each, to the bare question and to who is told."""
        nats = -(scores.logprobs * scores.mask).sum(dim=1)
        self.metrics.add_mean("nll/bare", nats[::2])
        self.metrics.add_mean("nll/told", nats[1::2])

    def _told(self, item: Item) -> str:
        def draw(what: str, among: int) -> int:
            return int(uniform(self.seed, what, item.sample.id, self.global_step) * among)

        levels = _LEVELS[: _LEVELS.index(self.told.conditioning) + 1]
        told = replace(self.told, conditioning=levels[draw("told", len(levels))])
        if told.conditioning != "feedback":
            return privileged_text(item.sample, told, None)
        pool = self.pool_of(item)
        text = pool[draw("judged", len(pool))].response.text
        parts = reward_breakdown(self.rewards, text, item.sample)
        case = JudgeCase.scored(item.sample, text, self.rewards, parts)
        (feedback,) = RuleJudge().diagnose([case])
        return privileged_text(item.sample, told, feedback)
