import math

import pytest
import torch

from experiments import localisation
from experiments.credit_conditions import CONDITIONS, VERIFIER, log_ratios
from experiments.localisation import JudgedToken

RIGHT = "<think>red</think><answer>B</answer>"
WRONG = "<think>blue</think><answer>A</answer>"
TOLD = "<think>red</think><answer>B</answer> and more"


def tokens(*cells):
    """From (kind, is it wrong, Δ); each in a video of its own."""
    return [
        JudgedToken("mcq", kind, f"v{i}", is_wrong, {"feedback": value})
        for i, (kind, is_wrong, value) in enumerate(cells)
    ]


def test_the_area_is_the_chance_that_a_wrong_token_has_less():
    letters = tokens(
        ("letter", True, -3.0), ("letter", True, 0.5),
        ("letter", False, 0.0), ("letter", False, 1.0),
    )  # fmt: skip
    assert localisation.area(letters, "feedback") == pytest.approx(0.75)
    tied = tokens(("letter", True, 0.0), ("letter", False, 0.0))
    assert localisation.area(tied, "feedback") == pytest.approx(0.5)


def test_tokens_are_compared_within_their_kind_only():
    """Times have lower Δ than letters throughout; within each kind the detector is perfect."""
    mixed = tokens(
        ("letter", True, 4.0), ("letter", False, 5.0), ("time", True, -5.0), ("time", False, -4.0)
    )  # fmt: skip
    assert localisation.area(mixed, "feedback") == 1.0
    alone = tokens(("letter", True, 4.0), ("time", False, -4.0))
    assert math.isnan(localisation.area(alone, "feedback"))


def test_the_area_is_that_of_the_library():
    from torchmetrics.functional.classification import binary_auroc

    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(0, 20, (200,), generator=generator) / 20  # many ties
    truth = torch.rand(200, generator=generator) < 0.3
    given = zip(truth.tolist(), scores.tolist(), strict=True)
    ours = localisation.area(tokens(*(("letter", wrong, -x) for wrong, x in given)), "feedback")
    assert ours == pytest.approx(float(binary_auroc(scores, truth.long())), abs=1e-6)


def test_large_and_infinite_ratios_keep_their_order():
    far = tokens(("letter", True, -math.inf), ("letter", True, -1e9), ("letter", False, 1e9))
    assert localisation.area(far, "feedback") == 1.0


@pytest.fixture
def judged_tokens(families, batch_of, sampled_of):
    model, processor = families["qwen3-vl"]
    facts_of_mcq = batch_of(["B"], ["B"])
    sampled = sampled_of(VERIFIER, facts_of_mcq, [RIGHT, WRONG], [TOLD, RIGHT])
    with torch.no_grad():
        ratios = log_ratios(model, processor, sampled, seed=0)
    return list(localisation.judge_tokens(processor, sampled, ratios))


def test_each_stated_token_is_judged_under_every_condition(judged_tokens):
    known = [token for token in judged_tokens if token is not None]
    assert [token.is_wrong for token in known] == [False, True, False]
    assert {token.kind for token in known} == {"letter"}
    assert len(judged_tokens) - len(known) == 1  # of the invalid envelope
    for token in known:
        assert set(token.log_ratio) == set(CONDITIONS)
        assert all(math.isfinite(value) for value in token.log_ratio.values())
        # A teacher that is told more says something else.
        assert len(set(token.log_ratio.values())) > 1


def test_the_report_has_every_task_and_what_was_left_out(judged_tokens):
    known = [token for token in judged_tokens if token is not None]
    found = localisation.report(known, 1)
    assert set(found) == {"all", "mcq"}
    assert (found["mcq"]["wrong_tokens"], found["mcq"]["right_tokens"]) == (1, 2)
    assert found["mcq"]["oracle"] == 1.0
    assert found["mcq"]["constant"] == 0.5
    text = localisation.table(found)
    assert "| condition | all | mcq |" in text
    assert "| wrong tokens | 1 | 1 |" in text
    assert "1 tokens were unclear" in text
