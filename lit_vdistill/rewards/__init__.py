"""Pure scores of one response; YAML chooses which by class path."""

from lit_vdistill.rewards.content import Content, answer_quality
from lit_vdistill.rewards.format import OuterFormat, TaskFormat
from lit_vdistill.rewards.reward import Reward, composite_reward, reward_breakdown, rule_score

__all__ = [
    "Content",
    "OuterFormat",
    "Reward",
    "TaskFormat",
    "answer_quality",
    "composite_reward",
    "reward_breakdown",
    "rule_score",
]
