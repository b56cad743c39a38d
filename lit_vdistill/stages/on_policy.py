"""Sample, reward, advantage, loss: the algorithm-blind loop of every reinforcement stage."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from lit_vdistill import processes
from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.data.window import WindowTurn
from lit_vdistill.models.forward import completion_states, encode_vision, pad_token_id
from lit_vdistill.models.logprobs import completion_logprobs, gap_problem, head_scores
from lit_vdistill.models.vlm import VLMConfig, copy_of_start
from lit_vdistill.objectives.advantages import group_advantages
from lit_vdistill.objectives.kl import kl_estimate
from lit_vdistill.objectives.policy import COUNTED, masked_total, policy_surrogate
from lit_vdistill.rewards import Reward, composite_reward, reward_breakdown
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.stages.averages import StepMetrics
from lit_vdistill.stages.method import Kept, TokenMethod
from lit_vdistill.stages.optimizer import OptimConfig
from lit_vdistill.stages.piece_metrics import describe_rewards, describe_tokens
from lit_vdistill.stages.pieces import cut
from lit_vdistill.stages.policy_loss import PolicyLossConfig
from lit_vdistill.stages.resampling import replace_without_signal
from lit_vdistill.stages.rollout_source import Groups, RolloutSource, check_overlap
from lit_vdistill.stages.step import Experience, GroupScores, PieceOutcome, StepRecord, Window
from lit_vdistill.stages.validation import ValidationConfig
from lit_vdistill.stages.vlm_stage import VLMStage
from lit_vdistill.stages.window_state import load_window, own_part, save_window
from lit_vdistill.types import RolloutGroup


class OnPolicyModule(VLMStage):
    """Policy gradient on fresh rollouts; as it stands, GRPO on rule rewards.

    1. Sample N rollouts of every prompt of a window from the current policy, and score them by
       rules (`sample`); replace what teaches nothing, where asked to (`replace_without_signal`).
    2. Cut the window into pieces of whole groups, and count what averages divide by
       (`begin_step`). For each piece, in the window's first update:
    3. add what a stage rewards beside the rules (`score_groups`),
    4. compare each rollout with its siblings (`group_advantages`),
    5. ask the stage's method about tokens (`start_method`). In every update:
    6. look at its videos, score its token ids under policy and reference (`policy_loss`), and
       descend the policy's surrogate on each token's advantage times the method's factor, plus the
       method's own loss a token, plus γ KL, plus the stage's auxiliary loss (`piece_loss`), plus a
       mixture's routers' where it is switched on (`with_router_loss`).
    """

    shown: ClassVar[tuple[str, ...]] = ("reward/total", "train/loss")
    has_other_tower: bool = False
    """Whether a network reads the prompts whose tower is not a copy of the policy's."""
    is_strictly_on_policy: ClassVar[bool] = False
    """Whether the stage's method forbids a second update of a window."""

    def __init__(
        self,
        policy: VLMConfig,
        rewards: Sequence[Reward],
        *,
        loss: PolicyLossConfig = PolicyLossConfig(),
        sampling: SamplingConfig = SamplingConfig(),
        validation: ValidationConfig = ValidationConfig(),
        optim: OptimConfig = OptimConfig(),
    ) -> None:
        """See `VLMStage`.

        Args:
            policy: The network to train; its starting weights are also the reference.
            rewards: Rule rewards, weighted (R-MSD Eq. 6).
            loss: The policy-gradient loss.
            sampling: How rollouts are drawn.
            validation: What is generated for held-out samples.
            optim: AdamW and its schedule.
        """
        super().__init__(policy, rewards, sampling=sampling, validation=validation, optim=optim)
        if loss.updates_per_rollout > 1 and self.is_strictly_on_policy:
            raise ValueError(f"{type(self).__name__} needs loss.updates_per_rollout 1")
        check_overlap(sampling, loss)
        self.loss_config = loss
        self.ref: PreTrainedModel | None = None
        self.window: Window | None = None
        """What the present step learns from."""
        self.outcomes: list[PieceOutcome] = []
        """Of its pieces, as they are taken."""
        self.last_step: StepRecord | None = None
        """The step just taken, for callbacks that show it."""
        self.resumed_ahead: dict[str, Any] | None = None
        """What its sampler had drawn for the window behind."""
        self.resumed: dict[str, Any] | None = None
        """The open window of the checkpoint that this run goes on from."""

    def load_networks(self) -> None:
        """Load the policy, and keep its starting weights as reference where KL needs them."""
        super().load_networks()
        assert self.policy is not None
        count = self.loss_config.group_size
        self.source = RolloutSource(self.engine, self.policy, self.sampling, count)
        self.source.load(self.resumed_ahead)
        if self.loss_config.kl_coef:
            self.ref = copy_of_start(self.policy, self.policy_config).requires_grad_(False).eval()

    @property
    def looks_ahead(self) -> bool:
        """Whether rollouts are drawn a window early."""
        return self.sampling.overlap > 0

    @property
    def updates_per_window(self) -> int:
        """Optimizer steps on the rollouts of one window."""
        return self.loss_config.updates_per_rollout

    @property
    def most_rollouts(self) -> int:
        """A group's, or validation's."""
        return max(self.loss_config.group_size, super().most_rollouts)

    def samples_of(self, turn: WindowTurn, piece: int) -> list[str]:
        """Ids of the samples of a piece."""
        assert self.window is not None
        return [self.window.experience.batch.items[i].sample.id for i in self.window.pieces[piece]]

    def piece_cost(self, prompt_tokens: int) -> int:
        """A prompt with all of its rollouts at their longest."""
        longest = self.sampling.max_completion_tokens
        return prompt_tokens + self.loss_config.group_size * longest

    def begin_step(self, turn: WindowTurn) -> None:
        """Sample the window before its first update; later ones learn from the same record."""
        if turn.update == 0:
            self.window, self.outcomes = None, []  # what it holds makes room for the next
            with self.stopwatch.measure("generate"):
                self.window = self.sample_window(turn)
        elif self.window is None:
            assert self.resumed is not None, "a window's later update needs its record"
            batch = self.looked(turn.window)
            self.window, self.outcomes = load_window(self, batch, self.resumed)
        assert self.window is not None
        experience = self.window.experience
        tokens = sum(len(r.completion_ids) for r in experience.rollouts)
        tokens += sum(len(prompt.input_ids) for prompt in experience.batch.prompts)
        self.metrics.add_sum("step/tokens", float(tokens))

    def sample_window(self, turn: WindowTurn) -> Window:
        """The frozen record of a window: rollouts, rule rewards, pieces, counts."""
        batch = self.looked(turn.window)
        drawn, age = self.source.draw(batch, self.step_seed())
        experience = self.graded(batch, drawn)
        next_step = self.global_step + self.updates_per_window
        if turn.following is not None and next_step < self.trainer.estimated_stepping_batches:
            self.source.begin(turn.following, self.step_seed(next_step), age, self.metrics)
        if self.engine.is_apart():
            self.metrics.add("rollout/age", float(age), 1.0)
        if self.loss_config.resample_no_signal:
            experience = replace_without_signal(self, experience, turn)
            turn.window = PromptBatch(experience.batch.items, turn.window.bad)
        costs = [self.piece_cost(item.num_tokens) for item in experience.batch.items]
        pieces = cut(costs, turn.num_pieces, self.max_tokens)
        counts = processes.sum_over(self.counts(experience))
        return Window(experience, pieces, counts, self.is_policy_at_rest, age)

    def sample(self, batch: PromptBatch) -> Experience:
        """N rollouts a prompt and their rule rewards.

        What is drawn depends on seed, step, sample and index alone: a resumed run draws it too.
        """
        count, seed = self.loss_config.group_size, self.step_seed()
        return self.graded(
            batch, self.engine.generate(batch.prompts, count, self.sampling, seed=seed)
        )

    def graded(self, batch: PromptBatch, drawn: Groups) -> Experience:
        """Rollouts with their rule rewards."""
        groups = tuple(
            RolloutGroup(item.sample, rollouts)
            for item, rollouts in zip(batch.items, drawn, strict=True)
        )
        breakdowns = tuple(
            tuple(reward_breakdown(self.rewards, r, group.sample) for r in group.rollouts)
            for group in groups
        )
        return Experience(batch, groups, breakdowns)

    def looked(self, batch: PromptBatch) -> PromptBatch:
        """With a frozen tower, the one look of the step, for all that share it; else as it is."""
        if not self.policy_config.freeze_vision:
            return batch
        seen = self.look(batch.prompts)
        is_seen_again = self.has_other_tower or self.engine.is_apart()
        kept = seen if is_seen_again else [prompt.without_pixels() for prompt in seen]
        return batch.with_prompts(kept)

    def counts(self, experience: Experience) -> dict[str, float]:
        """What the step's averages divide by, as far as it is here; a stage adds its own."""
        counted = experience.counts()
        limit = self.sampling.max_completion_tokens
        return counted | {"token_limit": counted["sequences"] * limit}

    def piece_loss(self, turn: WindowTurn) -> Tensor:
        """Lines 3 to 6 for one piece."""
        assert self.window is not None
        part = self.window.part(turn.piece, self.device)
        metrics, is_empty = self.metrics, not self.window.pieces[turn.piece]
        if is_empty:
            self.metrics = StepMetrics()  # what it says is about a group of another piece
        if turn.update == 0:
            with self.stopwatch.measure("score"):
                self.outcomes.append(self.score(part))
        outcome = self.outcomes[turn.piece]
        if self.window.is_at_rest:
            loss = self.touch_policy(part)
        else:
            loss = self.policy_loss(part, outcome)
        if turn.update == 0 and outcome.scores.auxiliary_loss is not None:
            loss = loss + outcome.scores.auxiliary_loss
        elif turn.update:
            loss = loss + self.touch_auxiliary(part)
        self.metrics = metrics
        return loss

    def score(self, part: Experience) -> PieceOutcome:
        """Rewards, advantages and the method's view of a piece, fixed from here on."""
        self.verify_once(part.batch.prompts, part.rows)
        scores = self.score_groups(part)
        advantages = group_advantages(scores.rewards, self.loss_config.advantage)
        describe_rewards(self.metrics, part, self.rewards, scores.rewards, advantages)
        if self.teacher_view is not None:
            plain = sum(item.view is None for item in part.batch.items)
            self.metrics.add("teacher/seen_plain", float(plain), float(len(part.groups)))
        return PieceOutcome(scores, advantages, self.start_method(part, advantages.flatten(), None))

    def policy_loss(self, part: Experience, outcome: PieceOutcome) -> Tensor:
        """A piece's share of surrogate, method and γ times KL (R-MSD Eq. 8)."""
        assert self.policy is not None
        assert self.window is not None
        config, rows = self.loss_config, part.rows
        prompts = encode_vision(self.policy.model, part.batch.prompts)
        states = completion_states(self.policy.model, prompts, rows, pad_token_id(self.policy))
        scores = head_scores(self.policy.lm_head, states, outcome.method.request(states))
        terms = outcome.method.terms(scores, self.metrics)
        drawn = [scores.logprobs.new_tensor(r.rollout_logprobs) for r in part.rollouts]
        sampled = pad_sequence(drawn, batch_first=True)
        old, weights_of_sampler = outcome.first.compared(config, scores, sampled, self.metrics)
        advantages = outcome.advantages.flatten()[:, None].expand_as(scores.logprobs)
        per_token, is_clipped = policy_surrogate(
            scores.logprobs,
            old,
            advantages if terms.factors is None else advantages * terms.factors,
            scores.mask,
            ratio=config.ratio,
            surrogate=config.surrogate,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
        )
        per_token = per_token if weights_of_sampler is None else per_token * weights_of_sampler
        per_token = per_token if terms.losses is None else per_token + terms.losses
        weights = part.row_weights(self.device)
        # Nothing counts where no group of the step has a signal.
        divisor = self.window.counts[COUNTED[config.reduction]] or 1.0
        describe_tokens(self.metrics, scores, sampled, is_clipped)
        if self.ref is not None:
            with torch.no_grad():
                ref = completion_logprobs(self.ref, part.batch.prompts, rows)
            kl = kl_estimate(scores.logprobs, ref.logprobs, config.kl_estimator)
            per_token = per_token + config.kl_coef * kl
            total = masked_total(kl, scores.mask, config.reduction, weights)
            self.metrics.add_sum("kl/ref", total / divisor)
        loss = masked_total(per_token, scores.mask, config.reduction, weights) / divisor
        share = part.counts()["tokens"] / (self.window.counts["tokens"] or 1.0)
        return self.with_router_loss(loss, scores, share)

    def start_method(
        self, part: Experience, advantages: Float[Tensor, " rows"], kept: Kept
    ) -> TokenMethod:
        """Who decides what each token of a piece learns; a stage that knows better says so.

        Args:
            part: The piece.
            advantages: One a rollout.
            kept: The method's state in the window's earlier updates, in a resumed run.
        """
        return TokenMethod()

    def score_groups(self, part: Experience) -> GroupScores:
        """Total rewards; a stage overrides this to add to the rules."""
        return GroupScores(self.rule_rewards(part))

    def rule_rewards(self, experience: Experience) -> Float[Tensor, "batch group"]:
        """Weighted sum of the rule rewards of each rollout (R-MSD Eq. 6 without its first term)."""
        rewards = [
            [composite_reward(self.rewards, parts) for parts in group]
            for group in experience.breakdowns
        ]
        # The default type may be bfloat16 here, which would round siblings' rewards together.
        return torch.tensor(rewards, device=self.device, dtype=torch.float32)

    @property
    def is_policy_at_rest(self) -> bool:
        """Whether the policy does not learn at present; asked once a window."""
        return False

    def touch_policy(self, part: Experience) -> Float[Tensor, ""]:
        """0, with a gradient path to every parameter of the policy.

        A parameter without a gradient hangs some sharded strategies and re-applies its last one
        under others; one row is enough.
        """
        assert self.policy is not None
        scores = completion_logprobs(self.policy, part.batch.prompts[:1], part.rows[:1])
        return scores.logprobs.sum() * 0.0

    def touch_auxiliary(self, part: Experience) -> Float[Tensor, ""] | float:
        """The same for networks of an auxiliary loss, which learn in the first update only."""
        return 0.0

    def step_seed(self, step: int | None = None) -> int:
        """Seed of an optimizer step's draws, of this one's where none is named."""
        return self.seed * 1_000_003 + (self.global_step if step is None else step)

    def finish_step(self, values: dict[str, float]) -> None:
        """Keep the record for observers, and stop where sampler and trainer disagree."""
        assert self.window is not None
        assert self.policy is not None
        self.last_step = StepRecord.of(self.global_step, self.window, self.outcomes)
        is_comparable = self.update == 0 and self.window.age == 0
        if is_comparable and "rollout/logprob_gap" in values:
            gap, largest = (values[f"rollout/logprob_gap{name}"] for name in ("", "_max"))
            engine, prompts = self.engine, self.window.experience.batch.prompts
            if problem := gap_problem(self.policy, gap, largest, is_apart=engine.is_apart()):
                raise RuntimeError(f"{problem}; {engine.likely_cause(prompts)}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the record of a window whose updates are not over."""
        super().on_save_checkpoint(checkpoint)
        save_window(self, checkpoint)
        checkpoint["ahead"] = processes.gather(self.source.state())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it over."""
        super().on_load_checkpoint(checkpoint)
        self.resumed = own_part(checkpoint["windows"])
        self.resumed_ahead = own_part(checkpoint.get("ahead", ()))
        if self.policy is not None:
            self.source.load(self.resumed_ahead)
