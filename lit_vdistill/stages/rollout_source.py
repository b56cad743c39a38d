"""Where a window's rollouts come from: drawn at its turn, or while the one before it trained."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from transformers import PreTrainedModel

from lit_vdistill import processes
from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.models.logprobs import gap_problem
from lit_vdistill.models.prompt import EncodedPrompt
from lit_vdistill.rollouts.engine import BackgroundEngine, RolloutEngine, SamplingConfig
from lit_vdistill.rollouts.parity import gap_of
from lit_vdistill.stages.averages import StepMetrics
from lit_vdistill.stages.policy_loss import PolicyLossConfig
from lit_vdistill.types import Rollout

Groups = list[tuple[Rollout, ...]]


class RolloutSource:
    """Draws groups from one engine; all methods are collectives."""

    def __init__(
        self, engine: RolloutEngine, policy: PreTrainedModel, sampling: SamplingConfig, count: int
    ) -> None:
        """Set up.

        Args:
            engine: Draws.
            policy: What it is to draw from.
            sampling: How.
            count: Rollouts of a group.

        Raises:
            ValueError: When the engine cannot draw ahead, and is to.
        """
        if sampling.overlap and not isinstance(engine, BackgroundEngine):
            raise ValueError(
                f"sampling.overlap: {type(engine).__name__} cannot draw while something else is "
                "done; take another engine, or 0"
            )
        self.engine, self.policy, self.sampling, self.count = engine, policy, sampling, count
        self._drawing: Any = None
        self._ahead: Mapping[str, Sequence[Rollout]] | None = None
        """Of the window to come, by sample, once they are all there."""

    def draw(self, window: PromptBatch, seed: int) -> tuple[Groups, int]:
        """The groups of a window, and how many windows their weights are older than it."""
        if self.sampling.overlap:
            ids = [item.sample.id for item in window.items]
            ahead = self._finished() or {}
            if all(processes.gather(set(ids) == set(ahead))):
                return [tuple(ahead[name]) for name in ids], 1
        self.engine.synchronise()
        return self.engine.generate(window.prompts, self.count, self.sampling, seed=seed), 0

    def begin(self, window: PromptBatch, seed: int, age: int, metrics: StepMetrics) -> None:
        """Have the groups of the next window drawn from here on, by the policy's present weights.

        Args:
            window: The next.
            seed: Of its draws.
            age: What `draw` has said of this one; 0: the engine has the present weights.
            metrics: Takes how well it keeps to them.

        Raises:
            RuntimeError: When it does not.
        """
        assert isinstance(self.engine, BackgroundEngine)
        if age:
            self.engine.synchronise()
        self._check_parity(window.prompts, metrics)
        self._drawing = self.engine.begin(window.prompts, self.count, self.sampling, seed=seed)
        self._ahead = None

    def state(self) -> dict[str, list[dict[str, Any]]] | None:
        """What has been drawn ahead, as plain values; it is waited for."""
        if (ahead := self._finished()) is None:
            return None
        return {name: [asdict(r) for r in group] for name, group in ahead.items()}

    def load(self, state: Mapping[str, Sequence[Mapping[str, Any]]] | None) -> None:
        """Go on from a checkpoint."""
        self._ahead = None
        if state is not None:
            self._ahead = {name: [rollout_of(r) for r in group] for name, group in state.items()}

    def _finished(self) -> Mapping[str, Sequence[Rollout]] | None:
        if self._drawing is not None:
            groups = self.engine.finish(self._drawing)  # type: ignore[attr-defined]
            self._ahead = {group[0].sample_id: group for group in groups}
            self._drawing = None
        return self._ahead

    def _check_parity(self, prompts: Sequence[EncodedPrompt], metrics: StepMetrics) -> None:
        """Of a window that trains later, nobody scores the tokens with the weights of today."""
        chosen = [next((p for p in prompts if p.kind != "text"), prompts[0])]
        short = replace(self.sampling, max_completion_tokens=16)
        mean, largest = gap_of(self.engine, self.policy, chosen, short)
        metrics.add("parity/gap", mean, 1.0)
        metrics.add("parity/gap_max", largest, 1.0)
        found = gap_problem(self.policy, mean, largest, is_apart=True)
        if any(processes.gather(found is not None)):
            cause = self.engine.likely_cause(chosen)
            raise RuntimeError(f"{found or 'another process found the engine apart'}; {cause}")


def check_overlap(sampling: SamplingConfig, loss: PolicyLossConfig) -> None:
    """Refuse a loss that cannot learn from rollouts that are drawn a window early.

    Raises:
        ValueError: Names what it needs.
    """
    if sampling.overlap and (loss.resample_no_signal or loss.mismatch == "none"):
        raise ValueError(
            "sampling.overlap 1 needs loss.resample_no_signal 0, as prompts are drawn a window "
            "early, and loss.mismatch truncate or mask, as their rollouts are of older weights"
        )


def rollout_of(state: Mapping[str, Any]) -> Rollout:
    """From its plain values."""
    ids, logprobs = tuple(state["completion_ids"]), tuple(state["rollout_logprobs"])
    return Rollout(**{**state, "completion_ids": ids, "rollout_logprobs": logprobs})
