from types import SimpleNamespace

import pytest
import torch

from callbacks.rollout_table import rollout_rows


@pytest.fixture
def record(make_sample, rollouts_of):
    """One rollout, paid by rewards whose names are columns too."""

    def build(parts, columns):
        group = SimpleNamespace(sample=make_sample(), rollouts=rollouts_of("s1", ["a"]))
        experience = SimpleNamespace(groups=(group,), breakdowns=((parts,),))
        one = torch.tensor([[0.5]])
        return SimpleNamespace(
            step=3, experience=experience, columns=columns, rewards=one, advantages=one,
            feedback=lambda: [[None]],
        )  # fmt: skip

    return build


def test_a_reward_replaces_no_column(record):
    (row,) = rollout_rows(record({"task": 0.25, "answer": 1.0}, {}))
    assert (row["task"], row["answer"]) == ("mcq", "B")
    assert (row["reward/task"], row["reward/answer"]) == (0.25, 1.0)


def test_two_columns_of_one_name_are_refused(record):
    with pytest.raises(ValueError, match=r"column 'reward/disc' stands there twice; give the rew"):
        rollout_rows(record({"disc": 1.0}, {"reward/disc": [[0.5]]}))
