"""A window between two of its updates, as a checkpoint holds it."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lit_vdistill import processes
from lit_vdistill.data.batch import PromptBatch
from lit_vdistill.stages.off_policy import FirstScores
from lit_vdistill.stages.rollout_source import rollout_of
from lit_vdistill.stages.step import Experience, GroupScores, PieceOutcome, Window
from lit_vdistill.types import RolloutGroup

if TYPE_CHECKING:
    from lit_vdistill.stages.on_policy import OnPolicyModule


def save_window(stage: "OnPolicyModule", checkpoint: dict[str, Any]) -> None:
    """Put the windows of all processes into a checkpoint, where further updates of them follow."""
    state = None
    if stage.window is None:
        state = stage.resumed  # nothing was learnt since the checkpoint that it is from
    elif stage.update + 1 < stage.updates_per_window:
        state = window_state(stage.window, stage.outcomes)
    checkpoint["windows"] = processes.gather(state)


def own_part(parts: Sequence[Any]) -> Any:
    """What this process has put into a checkpoint; None where their number was another."""
    return parts[processes.rank()] if len(parts) == processes.world_size() else None


def window_state(window: Window, outcomes: list[PieceOutcome]) -> dict[str, Any]:
    """Plain values and tensors of a window and of what its first update has found out.

    Prompts are not in it; the data module draws the same samples again.
    """
    experience = window.experience
    return {
        "rollouts": {
            group.sample.id: [asdict(rollout) for rollout in group.rollouts]
            for group in experience.groups
        },
        "breakdowns": {
            group.sample.id: [dict(parts) for parts in found]
            for group, found in zip(experience.groups, experience.breakdowns, strict=True)
        },
        "order": [group.sample.id for group in experience.groups],
        "weights": list(experience.weights),
        "pieces": [list(piece) for piece in window.pieces],
        "counts": dict(window.counts),
        "is_at_rest": window.is_at_rest,
        "age": window.age,
        "outcomes": [
            {
                "rewards": outcome.scores.rewards.cpu(),
                "columns": {k: [list(row) for row in v] for k, v in outcome.scores.columns.items()},
                "advantages": outcome.advantages.cpu(),
                "method": {name: t.cpu() for name, t in outcome.method.state().items()},
                "first": None if (first := outcome.first.logprobs) is None else first.cpu(),
            }
            for outcome in outcomes
        ],
    }


def load_window(
    stage: "OnPolicyModule", batch: PromptBatch, state: dict[str, Any]
) -> tuple[Window, list[PieceOutcome]]:
    """The window of a checkpoint.

    Args:
        stage: Makes its methods anew.
        batch: Its samples, looked at where the tower is frozen.
        state: From `window_state`.
    """
    items = {item.sample.id: item for item in batch.items}
    order = state["order"]
    experience = Experience(
        PromptBatch(tuple(items[name] for name in order)),
        tuple(
            RolloutGroup(items[name].sample, tuple(map(rollout_of, state["rollouts"][name])))
            for name in order
        ),
        tuple(tuple(state["breakdowns"][name]) for name in order),
        tuple(state["weights"]),
    )
    window = Window(
        experience, tuple(map(tuple, state["pieces"])), state["counts"], state["is_at_rest"],
        state["age"],
    )  # fmt: skip
    outcomes = []
    for piece, found in enumerate(state["outcomes"]):
        part = window.part(piece, stage.device)
        advantages = found["advantages"].to(stage.device)
        kept = {name: tensor.to(stage.device) for name, tensor in found["method"].items()}
        scores = GroupScores(found["rewards"].to(stage.device), columns=found["columns"])
        method = stage.start_method(part, advantages.flatten(), kept)
        first = found["first"]
        kept_first = FirstScores(None if first is None else first.to(stage.device))
        outcomes.append(PieceOutcome(scores, advantages, method, kept_first))
    return window, outcomes
