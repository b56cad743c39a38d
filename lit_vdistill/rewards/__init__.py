"""Pure scores of one response; YAML chooses which by class path."""

from lit_vdistill.rewards.content import Content, answer_metric, answer_quality
from lit_vdistill.rewards.facts import FactCounts, StatedFacts, count_facts, graded_quality
from lit_vdistill.rewards.format import OuterFormat, TaskFormat
from lit_vdistill.rewards.length import NotOverlong
from lit_vdistill.rewards.reward import Reward, composite_reward, reward_breakdown, rule_score
from lit_vdistill.rewards.verifier import (
    Answer,
    AnswerBox,
    AnswerTime,
    GroundedFormat,
    ThinkPoint,
    ThinkSegment,
    ThinkSpace,
    rouge_f1,
)

__all__ = [
    "Answer",
    "AnswerBox",
    "AnswerTime",
    "Content",
    "FactCounts",
    "GroundedFormat",
    "NotOverlong",
    "OuterFormat",
    "Reward",
    "StatedFacts",
    "TaskFormat",
    "ThinkPoint",
    "ThinkSegment",
    "ThinkSpace",
    "answer_metric",
    "answer_quality",
    "composite_reward",
    "count_facts",
    "graded_quality",
    "reward_breakdown",
    "rouge_f1",
    "rule_score",
]
