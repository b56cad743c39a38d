from dataclasses import replace
from pathlib import Path

import pytest

from experiments.claims import PAGE, check_cells, read_claims, splits_of, verdict
from experiments.sweep_file import read_sweep
from lit_vdistill.metrics.intervals import Difference

TEXT = PAGE.read_text()
ROW = next(line for line in TEXT.splitlines() if line.startswith("| several_responses | four"))


def found(low, high):
    middle = None if low is None else (low + high) / 2
    return Difference(middle or 0.0, low, high, 0.1, 5, 5, 4.0)


@pytest.fixture
def claim():
    return read_claims()[0]


@pytest.mark.parametrize(
    ("sign", "low", "high", "expected"),
    [
        (">", 0.001, 0.03, "holds"),
        (">", 0.001, 0.005, "holds"),  # small, which the report says
        (">", 0.0, 0.03, "cannot be told"),
        (">", -0.01, 0.009, "does not hold"),
        (">", -0.03, -0.01, "does not hold"),
        (">", -0.01, 0.01, "cannot be told"),
        ("<", -0.03, -0.001, "holds"),
        ("<", 0.001, 0.03, "does not hold"),
        ("<", -0.009, 0.03, "does not hold"),
        ("<", -0.02, 0.03, "cannot be told"),
        ("=", -0.009, 0.009, "holds"),
        ("=", 0.001, 0.009, "holds"),
        ("=", 0.001, 0.02, "does not hold"),
        ("=", -0.02, -0.001, "does not hold"),
        ("=", -0.009, 0.02, "cannot be told"),
        (">", None, None, "not finished"),
    ],
)
def test_the_verdict_follows_from_the_interval_alone(claim, sign, low, high, expected):
    """With a smallest effect of interest of 0.01."""
    assert verdict(replace(claim, sign=sign, smallest=0.01), found(low, high)) == expected


def test_what_has_no_difference_was_not_run_and_fewer_seeds_give_no_verdict(claim):
    assert verdict(claim, None) == "not run"
    assert verdict(replace(claim, seeds=range(6)), found(0.001, 0.03)) == "not finished"


def test_a_claim_may_be_about_fresh_seeds():
    seeds = {claim.id: claim.seeds for claim in read_claims()}
    assert seeds["rmsd_over_sft_rl"] == range(5)
    assert seeds["rmsd_open"] == range(5, 10)


def test_the_page_and_the_sweeps_name_the_same_cells():
    sweeps = map(read_sweep, Path("experiments/sweeps").glob("*.yaml"))
    cells = {sweep.name: [cell.name for cell in sweep.cells] for sweep in sweeps}
    claims = read_claims()
    check_cells(claims, cells)
    # Those choose a rate, and nothing is claimed of them.
    rates = {"visd_rate", "opd_sft_rate"}
    assert {name for claim in claims for name in claim.sweeps} == set(cells) - rates
    wrong = replace(claims[0], cell="rmsd_components/rmsd_x")
    with pytest.raises(ValueError, match="several_responses.*rmsd_components/rmsd_x"):
        check_cells([wrong], cells)


def test_test_answers_are_asked_for_where_a_claim_needs_them():
    claims = read_claims()
    assert splits_of("rmsd_components", claims) == ["val", "test"]
    assert splits_of("visd_rate", claims) == splits_of("unknown", claims) == ["val"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (ROW, ROW.replace("| test |", "| train |"), r":\d+: split: expected .*'train'"),
        (ROW, ROW.replace("| > |", "| ≥ |"), "sign: .*'≥'"),
        (ROW, ROW.replace("| 0.01 |", "| much |"), "expected numbers"),
        (ROW, ROW.replace("| 0.01 |", "| nan |"), "smallest > 0"),
        (ROW, ROW.replace("| 0.01 |", "| -1 |"), "smallest > 0"),
        (ROW, ROW.replace("| 5 |", "| 1 |"), "two seeds or more .*got 0.01, 1"),
        (ROW, ROW.replace("| 5 |", "| 5-5 |"), "two seeds or more"),
        (ROW, ROW.replace("| 5 |", "| 9-5 |"), "two seeds or more"),
        (ROW, ROW.replace("| 5 |", "| 5- |"), "expected numbers"),
        (ROW, ROW.replace("| 5 |", "| -5 |"), "expected numbers"),
        (ROW, ROW.removesuffix(" 5 |"), "expected 10 cells"),
        (ROW, ROW.replace("| mean |", "| |"), "not empty"),
        (ROW, f"{ROW}\n{ROW}", "ids twice: .*several_responses"),
        ("| filter | VideoMME", "| filtre | VideoMME", "rows of no claim: .*filtre"),
        ("| id | claim |", "| id | claims |", "expected one table"),
    ],
)
def test_a_row_that_is_not_as_the_others_is_refused_by_line(tmp_path, old, new, message):
    page = tmp_path / "c.md"
    assert old in TEXT
    page.write_text(TEXT.replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        read_claims(page)
    assert str(caught.value).startswith(str(page))
