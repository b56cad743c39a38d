"""Dynamic sampling: other prompts in the place of those that teach nothing (DAPO, §3.2)."""

from dataclasses import replace
from typing import TYPE_CHECKING

from lit_vdistill import processes
from lit_vdistill.data.batch import Item, PromptBatch
from lit_vdistill.data.window import WindowTurn
from lit_vdistill.objectives.advantages import has_signal
from lit_vdistill.stages.step import Experience

if TYPE_CHECKING:
    from lit_vdistill.stages.on_policy import OnPolicyModule


def replace_without_signal(
    stage: "OnPolicyModule", experience: Experience, turn: WindowTurn
) -> Experience:
    """Replace groups whose rollouts all have the same rule reward.

    Further prompts are drawn from the stream and sampled, as many on every process as the neediest
    one lacks, until no process lacks any or `loss.resample_no_signal` windows have been drawn. What
    was drawn and not needed is dropped, and counts as seen. Unlike DAPO, a group that is left
    without signal keeps its place with weight 0, so that all processes have whole windows.

    Args:
        stage: Samples and scores.
        experience: The window as it was drawn first.
        turn: Draws more.
    """
    budget = stage.loss_config.resample_no_signal * len(turn.window)
    drawn = 0
    while True:
        has = _signals(stage, experience)
        lacking = [i for i, signal in enumerate(has) if not signal]
        wanted = min(max(processes.gather(len(lacking))), min(processes.gather(budget - drawn)))
        if wanted == 0:
            break
        drawn += wanted
        more = stage.sample(stage.looked(turn.draw(wanted)))
        experience = _swapped(stage, experience, lacking, more)
    stage.metrics.add("rollout/resampled", float(drawn), float(len(turn.window)))
    return replace(experience, weights=tuple(float(signal) for signal in has))


def _swapped(
    stage: "OnPolicyModule", experience: Experience, lacking: list[int], more: Experience
) -> Experience:
    """The experience with groups of `more` that have a signal in place of some that lack it."""
    fresh = [i for i, signal in enumerate(_signals(stage, more)) if signal]
    items: list[Item] = list(experience.batch.items)
    groups, breakdowns = list(experience.groups), list(experience.breakdowns)
    for place, index in zip(lacking, fresh, strict=False):
        items[place] = more.batch.items[index]
        groups[place], breakdowns[place] = more.groups[index], more.breakdowns[index]
    return Experience(PromptBatch(tuple(items)), tuple(groups), tuple(breakdowns))


def _signals(stage: "OnPolicyModule", experience: Experience) -> list[bool]:
    rewards = stage.rule_rewards(experience)
    return has_signal(rewards - rewards[:, :1]).tolist()
