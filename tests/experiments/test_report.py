import csv
import math
import sys
from pathlib import Path

import pytest

from experiments import report, results
from experiments.claims import read_claims, verdict
from experiments.findings import read_findings
from experiments.results import stored
from experiments.seed_figures import MissingError, difference, figure_of, level, never_reached
from experiments.sweep_file import config_of, hash_of, read_sweep

FILE = Path("experiments/sweeps/visd_grpo.yaml")


def record(cell="c", seed=0, mean=0.5, curve=(1.0,) * 10, **changes):
    """A result whose answers are worth `mean`, and whose reward runs along a curve of ten steps."""
    tasks = {"mean/mcq": mean, "mean/ocr": mean, "mean/temporal_grounding": mean}
    answers = {"greedy": 0.6, "mean": mean, "best": 0.9, "reward": 0.7, **tasks}
    return {
        "sweep": "visd_grpo",
        "cell": cell,
        "seed": seed,
        "config_hash": cell,
        "stage": "S",
        "steps": 10,
        "seconds": {"fit": 90.0, "answers": 10.0},
        "start": {"path": "p", "weights": "w"},
        "before": {"val": {"mean": 0.4}, "test": {"mean": 0.4}},
        "after": {"val": answers, "test": answers},
        "training": {
            "reward/total": {"mean": 1.0, "final": curve[-1]},
            "policy/grad_norm": {"mean": 1.0, "final": math.e},
        },
        "curves": {"reward/total": [[step + 1, value] for step, value in enumerate(curve)]},
        "tokens": 2_000_000,
        "teacher_responses": 400,
        "judged_rollouts": 0,
        **changes,
    }


def seeds(*means, **options):
    return {seed: record(seed=seed, mean=mean, **options) for seed, mean in enumerate(means)}


def test_levels_and_differences_by_hand():
    """Means 0.52 and 0.50, whose differences 0.01, 0.02, 0.03 have a standard error of 0.01/√3."""
    ours, theirs = seeds(0.51, 0.52, 0.53), seeds(0.50, 0.50, 0.50)
    found = level(ours, "mean", "test")
    half = 4.302653 * 0.01 / math.sqrt(3)  # t of two degrees
    assert (found.value, found.count) == (pytest.approx(0.52), 3)
    assert found.high - found.value == pytest.approx(half, rel=1e-5)
    pair = difference(ours, theirs, "mean", "test")
    assert pair.value == pytest.approx(0.02)
    assert (pair.low, pair.high) == (pytest.approx(0.02 - half), pytest.approx(0.02 + half))
    assert pair.detectable == pytest.approx((4.302653 + 1.060660) * 0.01 / math.sqrt(3), rel=1e-5)


def test_only_seeds_that_both_have_are_paired():
    ours = seeds(0.6, 0.7, 0.8)
    pair = difference(ours, {2: record(seed=2, mean=0.5)}, "mean", "val")
    assert (pair.value, pair.count, pair.low) == (pytest.approx(0.3), 1, None)
    assert difference(ours, {7: record(seed=7)}, "mean", "val") is None
    assert difference({}, ours, "mean", "val") is None
    assert difference(ours, ours, "mean/binary", "val") is None


def test_a_run_is_compared_with_the_student_it_started_from():
    ours = seeds(0.5, 0.6)
    pair = difference(ours, ours, "mean", "test", is_before=True)
    assert pair.value == pytest.approx(0.15)


def test_steps_are_saved_where_the_others_final_reward_is_reached_early():
    """The other is at 1.0 with its tenth step, the cell with its fourth, a third one never."""
    slow = tuple(i / 10 for i in range(1, 11))
    fast = (0.2, 0.4, 0.9, 1.0, 1.2, 1.2, 1.2, 1.2, 1.2, 1.2)
    ours = {0: record(curve=fast), 1: record(seed=1, curve=fast)}
    theirs = {0: record(curve=slow), 1: record(seed=1, curve=slow)}
    assert difference(ours, theirs, "steps_saved", "val").value == pytest.approx(0.6)
    low = {0: record(curve=(0.5,) * 10), 1: record(seed=1, curve=slow)}
    assert never_reached(low, theirs) == [0]
    assert difference(low, theirs, "steps_saved", "val").value == 0.0
    assert level(ours, "steps_saved", "val") is None
    bare = {0: record(curves={})}
    assert difference(bare, theirs, "steps_saved", "val") is None


def test_gains_are_set_beside_the_teachers_spread():
    """Within a question the teacher's deviation is smallest in choices, largest in segments."""
    theirs = seeds(0.5, 0.5)
    ours = seeds(0.5, 0.5)
    for seed, run in ours.items():
        gains = {"mean/mcq": 0.51, "mean/ocr": 0.6, "mean/temporal_grounding": 0.62 + seed / 100}
        run["after"]["val"] = run["after"]["val"] | gains
    assert difference(ours, theirs, "variance", "val").value > 0.95
    assert difference(theirs, theirs, "variance", "val") is None  # all gain the same


def test_figures_of_training():
    run = record(curve=(1.0, 2.0))
    assert figure_of(run, "final_reward", "val") == 2.0
    assert figure_of(run, "grad_norm", "val") == pytest.approx(1.0)
    with pytest.raises(MissingError, match="visd_grpo/c, seed 0: has no mean/x on test"):
        figure_of(run, "mean/x", "test")
    with pytest.raises(MissingError, match="has logged no reward/total"):
        figure_of(record(training={}), "final_reward", "val")


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs the report on given results of VISD and GRPO, by cell."""
    keys = {cell.name: hash_of(config_of(cell)) for cell in read_sweep(FILE).cells}

    def run(by_cell, *args):
        for cell, runs in by_cell.items():
            for run in runs.values():
                results.write(run | {"cell": cell, "config_hash": keys[cell]}, tmp_path / "r")
        (tmp_path / "F.md").write_text("# Findings\n")
        options = ["--results", str(tmp_path / "r"), "--summary", str(tmp_path / "R.md")]
        options += ["--findings", str(tmp_path / "F.md")]
        monkeypatch.setattr(sys, "argv", ["report", *args, *options])
        report.main()

    return run


def test_a_sweeps_page_table_and_picture(command, tmp_path):
    grpo, visd = seeds(*[0.50, 0.50, 0.51] * 2), seeds(*[0.52, 0.53, 0.53] * 2)
    command({"mix-0.0": grpo, "mix-0.5": visd}, str(FILE))
    home = tmp_path / "r" / "visd_grpo"
    lines = (home / "report.md").read_text().splitlines()
    assert "| mix-0.0 | 6 | 0.600 | 0.503 ± 0.005 | 0.900 | 0.700 |" in lines
    assert "| mix-0.5 less mix-0.0 | 6 | +0.000 | +0.023 ± 0.005 | +0.000 | +0.000 |" in lines
    assert "| mix-0.5 | 2 | 400 | 0 | 100 |" in lines
    (row,) = [line for line in lines if line.startswith("| VISD is above GRPO")]
    # The claim has five seeds, so the sixth does not count for it.
    assert "| +0.024 [+0.017, +0.031] | 5 | **holds** |" in row
    assert any("Power: a difference of 0.007 in `mean` (test)" in line for line in lines)
    rows = list(csv.DictReader((home / "report.csv").open()))
    assert {
        "cell": "mix-0.5",
        "seed": "1",
        "split": "test",
        "figure": "mean",
        "value": "0.53",
    } in rows
    assert (home / "curves.png").stat().st_size > 5_000


def test_a_page_says_what_alarms_there_were(command, tmp_path):
    """Results of before they were kept say nothing; of the others, all or none are told."""
    silent, unknown = seeds(0.5, 0.5, alarms=[]), seeds(0.5, 0.5)
    page = tmp_path / "r" / "visd_grpo" / "report.md"
    command({"mix-0.0": silent, "mix-0.5": unknown}, str(FILE))
    assert "- Alarms of `TrainingHealth`: none in 2 runs.\n" in page.read_text()
    loud = {1: record(seed=1, alarms=["kl in step 3", "truncated in step 9"])}
    command({"mix-0.0": silent, "mix-0.5": loud}, str(FILE))
    (line,) = [line for line in page.read_text().splitlines() if "Alarm" in line]
    assert line == (
        "- **Alarm of `TrainingHealth`**: mix-0.5, seed 1: kl in step 3, truncated in step 9."
    )
    command({"mix-0.0": unknown, "mix-0.5": seeds(0.5, 0.5)}, str(FILE))
    assert "TrainingHealth" not in page.read_text()


def test_no_shipped_recipe_raised_an_alarm_in_the_sweeps():
    """Those that stand for themselves, without overrides or lines of a sweep's own."""
    told = {}
    for run in stored().values():
        recipe = run["arguments"][0].removeprefix("--config=")
        is_shipped = recipe.startswith("configs/") and len(run["arguments"]) == 3
        if is_shipped and run.get("alarms") is not None:
            told.setdefault(recipe, []).extend(run["alarms"])
    assert "configs/sft_rl.yaml" in told
    assert {recipe: alarms for recipe, alarms in told.items() if alarms} == {}


def test_a_claim_about_fresh_seeds_counts_no_others():
    """Seeds 0 to 4 say 0.5, those after them 0.01 and 0.02."""
    (claim,) = [claim for claim in read_claims() if claim.id == "rmsd_open"]
    ours, theirs = seeds(*[1.0] * 5, 0.51, 0.52), seeds(*[0.5] * 7)
    for runs in (ours, theirs):
        for run in runs.values():
            run["after"]["test"]["mean/open"] = run["after"]["test"]["mean"]
    found = report.Results({}, {claim.cell: ours, claim.less: theirs}).of_claim(claim)
    assert (found.value, found.count) == (pytest.approx(0.015), 2)
    early = {claim.cell: dict(list(ours.items())[:5]), claim.less: theirs}
    assert report.Results({}, early).of_claim(claim) is None


def test_the_summary_has_a_verdict_a_claim(command, tmp_path):
    command({"mix-0.0": seeds(0.50, 0.50), "mix-0.5": seeds(0.5, 0.502)})
    text = (tmp_path / "R.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == len(read_claims())
    (ours,) = [row for row in rows if row.startswith("| VISD is above GRPO")]
    assert "| 2 | **not finished** |" in ours
    (other,) = [row for row in rows if row.startswith("| feedback helps")]
    assert "|  | 0 | **not run** | V-STAR" in other


def test_results_of_other_values_do_not_count(command, tmp_path, monkeypatch):
    results.write(record(cell="mix-0.0"), tmp_path / "r")
    with pytest.raises(SystemExit, match="none of its cells has a result"):
        command({}, str(FILE))


@pytest.mark.parametrize("text", ["[]", "{}", '{"seed": NaN}', "{", ""])
def test_a_file_that_is_no_result_is_named(tmp_path, text):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "übel-0.json").write_text(text)
    with pytest.raises(ValueError, match=r"übel-0\.json"):
        stored(tmp_path)


def test_of_two_results_of_the_same_the_one_with_more_splits_is_taken(tmp_path):
    less = record(after={"val": {"mean": 0.1}})
    results.write(less | {"sweep": "a"}, tmp_path)
    results.write(record() | {"sweep": "b"}, tmp_path)
    results.write(less | {"sweep": "c"}, tmp_path)
    assert stored(tmp_path)["c", 0]["sweep"] == "b"


def test_words_about_a_verdict_hold_for_that_one_alone(tmp_path):
    page = tmp_path / "FINDINGS.md"
    verdicts = {"a": "holds", "b": "does not hold"}
    page.write_text(
        "# Findings\n\nWhy.\n\n## a: holds\n\nOne.\nTwo.\n\n## b: does not hold\nThree.\n"
    )
    assert read_findings(verdicts, page) == {"a": "One.\nTwo.", "b": "Three."}
    for text, named in {
        "## a: does not hold\nx": r":1: what is said of a was written for 'does not hold'",
        "## a: holds\n\n## b: does not hold\nx": ":3: a has no text",
        "## a: holds\nx\n## a: holds\ny": ":3: a has a section already",
        "## c: holds\nx": ":1: expected '## <id of a claim>: <verdict>'",
        "## a: maybe\nx": ":1: expected",
        "## a\nx": ":1: expected",
        "## a: holds\n": "a has no text",
    }.items():
        page.write_text(text)
        with pytest.raises(ValueError, match=named):
            read_findings(verdicts, page)


def test_every_verdict_has_its_words():
    found = report.Results.read(report.SWEEPS, stored())
    verdicts = {claim.id: verdict(claim, found.of_claim(claim)) for claim in read_claims()}
    said = set(read_findings(verdicts))
    assert {name for name, v in verdicts.items() if v not in ("not run", "not finished")} == said


def test_the_page_of_results_is_what_claims_and_results_say():
    found = report.Results.read(report.SWEEPS, stored())
    written = report.summary(found, read_claims())
    assert report.SUMMARY.read_text() == written, "python -m experiments.report"
