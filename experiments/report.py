"""What the results of a sweep say: tables, a picture, and a verdict on each claim by the rule.

python -m experiments.report experiments/sweeps/rmsd_components.yaml
python -m experiments.report

With a file it writes `report.md`, `report.csv` and `curves.png` beside the sweep's results; without
one `experiments/RESULTS.md`, with what `FINDINGS.md` says of each verdict. Every interval is the
95 % t interval over seeds; differences are paired by seed with the sweep's first cell.
"""

import argparse
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from experiments.cell_curves import draw
from experiments.claims import (
    BEFORE,
    PAGE,
    Claim,
    Verdict,
    check_cells,
    read_claims,
    splits_of,
    verdict,
)
from experiments.findings import PAGE as FINDINGS
from experiments.findings import read_findings
from experiments.results import RESULTS, Record, Stored, stored
from experiments.seed_figures import MissingError, difference, figure_of, level, never_reached
from experiments.sweep_file import Sweep, config_of, hash_of, read_sweep
from lit_vdistill.metrics.intervals import Difference, Estimate
from lit_vdistill.world.scenes import Split

SWEEPS, SUMMARY = Path("experiments/sweeps"), Path("experiments/RESULTS.md")
LEVELS = ("greedy", "mean", "best", "reward")
TRAINED = ("final_reward", "grad_norm", "steps_saved")
COSTS = {
    "tokens": "tokens, millions",
    "teacher_responses": "teacher responses",
    "judged_rollouts": "judged rollouts",
    "seconds": "seconds a cell",
}
_OF_MANY: Mapping[Verdict, str] = {"holds": "hold", "does not hold": "do not hold"}
_MARK = (
    "<!-- Written by `python -m experiments.report` from experiments/results/; change those. -->"
)
Runs = Mapping[int, Record]
"""Results of a cell by seed."""


@dataclass(frozen=True, slots=True)
class Results:
    """All sweeps with what is stored of their cells."""

    sweeps: Mapping[str, Sweep]
    runs: Mapping[str, Runs]
    """By `<sweep>/<cell>`; of present values alone."""

    @classmethod
    def read(cls, sweeps: Path, known: Stored) -> "Results":
        """Look each cell of a folder's sweep files up by its hash."""
        found = {sweep.name: sweep for sweep in map(read_sweep, sorted(sweeps.glob("*.yaml")))}
        runs: dict[str, dict[int, Record]] = {}
        for sweep in found.values():
            for cell in sweep.cells:
                key = hash_of(config_of(cell))
                of_cell = {seed: record for (h, seed), record in known.items() if h == key}
                runs[f"{sweep.name}/{cell.name}"] = dict(sorted(of_cell.items()))
        return cls(found, runs)

    def of_claim(self, claim: Claim) -> Difference | None:
        """The difference that a claim is about, over its seeds; None where none has both sides."""
        is_before = claim.less == BEFORE
        runs, less = (
            {seed: run for seed, run in self.runs[cell].items() if seed in claim.seeds}
            for cell in (claim.cell, claim.cell if is_before else claim.less)
        )
        return difference(runs, less, claim.figure, claim.split, is_before=is_before)


def report(sweep: Sweep, results: Results, claims: Sequence[Claim]) -> str:
    """A sweep's page."""
    runs = {cell.name: results.runs[f"{sweep.name}/{cell.name}"] for cell in sweep.cells}
    lines = [f"# {sweep.name}", "", _MARK, f"± is half of a 95 % interval over seeds (t); "
             f"differences are paired by seed with `{sweep.cells[0].name}`."]  # fmt: skip
    for split in splits_of(sweep.name, claims):
        lines += ["", f"## {split}", "", *_table(runs, LEVELS, split)]
    lines += ["", "## Training", "", *_table(runs, TRAINED, "val"), "", *_costs(runs)]
    lines += ["", *_power(runs, sweep, claims), *_alarms(runs), "", "![Curves](curves.png)"]
    own = [claim for claim in claims if sweep.name in claim.sweeps]
    return "\n".join([*lines, "", "## Claims", "", *claim_rows(results, own)]) + "\n"


def _table(runs: Mapping[str, Runs], figures: Sequence[str], split: Split) -> Iterator[str]:
    yield "| cell | seeds | " + " | ".join(figures) + " |"
    yield "|" + "---|" * (len(figures) + 2)
    base, *_ = runs
    for name, of_cell in runs.items():
        cells = [_shown(level(of_cell, figure, split)) for figure in figures]
        yield f"| {name} | {len(of_cell)} | " + " | ".join(cells) + " |"
    for name, of_cell in runs.items():
        if name != base:
            cells = [_shown(difference(of_cell, runs[base], f, split)) for f in figures]
            common = len(of_cell.keys() & runs[base].keys())
            yield f"| {name} less {base} | {common} | " + " | ".join(cells) + " |"


def _costs(runs: Mapping[str, Runs]) -> Iterator[str]:
    yield "| cell | " + " | ".join(COSTS.values()) + " |"
    yield "|" + "---|" * (len(COSTS) + 1)
    for name, of_cell in runs.items():
        cells = []
        for key in COSTS:
            values = [_cost(record, key) for record in of_cell.values()]
            cells.append(f"{sum(values) / len(values):.4g}" if values else "not run")
        yield f"| {name} | " + " | ".join(cells) + " |"


def _cost(record: Record, key: str) -> float:
    if key == "seconds":
        return sum(record["seconds"].values())
    return record[key] / 1e6 if key == "tokens" else record[key]


def _power(runs: Mapping[str, Runs], sweep: Sweep, claims: Sequence[Claim]) -> Iterator[str]:
    """What the seeds would have shown, and what of the figures is not as good as it looks."""
    base, *others = runs
    split = splits_of(sweep.name, claims)[-1]
    for name in others:
        found = difference(runs[name], runs[base], "mean", split)
        if found is not None and found.detectable is not None:
            yield (
                f"- Power: a difference of {found.detectable:.3f} in `mean` ({split}) between "
                f"{name} and {base} would have been found in four cases of five."
            )
        late = never_reached(runs[name], runs[base])
        if late:
            yield f"- {name} never reaches {base}'s final reward with the seeds {late}."
    starts = {r["start"]["weights"] for of_cell in runs.values() for r in of_cell.values()}
    if len(starts) > 1:
        yield f"- **Not all runs start from the same weights**: {sorted(starts)}."


def _alarms(runs: Mapping[str, Runs]) -> Iterator[str]:
    """What `TrainingHealth` said in the runs whose results tell; earlier ones do not."""
    told = [
        (f"{cell}, seed {seed}", alarms)
        for cell, of_cell in runs.items()
        for seed, record in of_cell.items()
        if (alarms := record.get("alarms")) is not None
    ]
    if told and not any(alarms for _, alarms in told):
        yield f"- Alarms of `TrainingHealth`: none in {len(told)} runs."
    for place, alarms in told:
        if alarms:
            yield f"- **Alarm of `TrainingHealth`**: {place}: {', '.join(alarms)}."


def claim_rows(results: Results, claims: Sequence[Claim]) -> Iterator[str]:
    """The table of claims with verdicts."""
    yield (
        "| claim | said in | cell less | figure | smallest effect | ours | seeds | verdict "
        "| the paper's, of another model and data |"
    )
    yield "|" + "---|" * 9
    for claim in claims:
        found = results.of_claim(claim)
        said = f"**{verdict(claim, found)}**"
        if said == "**holds**" and claim.sign != "=" and abs(_known(found).value) < claim.smallest:
            said += ", below the smallest effect"
        cells = [
            claim.text, claim.source, f"{claim.cell} less {claim.less}",
            f"{claim.figure}, {claim.split}", f"{claim.sign} {claim.smallest:g}",
            _interval(found), "0" if found is None else str(found.count), said, claim.paper,
        ]  # fmt: skip
        yield "| " + " | ".join(cells) + " |"


def _known(found: Difference | None) -> Difference:
    assert found is not None
    return found


def _shown(found: Estimate | None) -> str:
    """A level, or with its sign a difference, ± half of its interval."""
    if found is None:
        return ""
    sign = "+" if isinstance(found, Difference) else ""
    half = "" if found.low is None else f" ± {found.value - found.low:.3f}"
    return f"{found.value:{sign}.3f}{half}"


def _interval(found: Difference | None) -> str:
    if found is None:
        return ""
    if found.low is None or found.high is None:
        return f"{found.value:+.3f}"
    return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def write_csv(path: Path, sweep: Sweep, results: Results, claims: Sequence[Claim]) -> None:
    """A row a cell, split, figure and seed: all that tables are made of."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["cell", "seed", "split", "figure", "value"])
        for cell in sweep.cells:
            for seed, record in results.runs[f"{sweep.name}/{cell.name}"].items():
                for split in splits_of(sweep.name, claims):
                    for figure, value in record["after"].get(split, {}).items():
                        rows.writerow([cell.name, seed, split, figure, value])
                for figure in ("final_reward", "grad_norm"):
                    try:
                        value = figure_of(record, figure, "val")
                    except MissingError:
                        continue  # what a run has not logged has no row
                    rows.writerow([cell.name, seed, "train", figure, value])


def summary(results: Results, claims: Sequence[Claim], words: Path = FINDINGS) -> str:
    """The page of all claims, with what is said of their verdicts.

    Raises:
        ValueError: For words about a verdict that is another now.
    """
    verdicts = {claim.id: verdict(claim, results.of_claim(claim)) for claim in claims}
    findings = read_findings(verdicts, words)
    found = list(verdicts.values())
    counted = ", ".join(
        f"{found.count(v)} {_OF_MANY.get(v, v)}" for v in get_args(Verdict) if v in found
    )
    lines = [
        "# Results", "", _MARK,
        "What the claims of [CLAIMS.md](CLAIMS.md) come to by its rule: a student of 1.4 M",
        "parameters on the embedded world. The papers' numbers are of other models and data.",
        "", f"{len(claims)} claims: {counted}.", "", *claim_rows(results, claims),
    ]  # fmt: skip
    for claim in claims:
        if claim.id in findings:
            lines += ["", f"**{claim.text}: {verdicts[claim.id]}.** {findings[claim.id]}"]
    return "\n".join(lines) + "\n"


def write_sweep(sweep: Sweep, results: Results, claims: Sequence[Claim], folder: Path) -> None:
    """A sweep's page, table and picture, beside its results."""
    home = folder / sweep.name
    home.mkdir(parents=True, exist_ok=True)
    (home / "report.md").write_text(report(sweep, results, claims), encoding="utf-8")
    write_csv(home / "report.csv", sweep, results, claims)
    cells = {cell.name: results.runs[f"{sweep.name}/{cell.name}"] for cell in sweep.cells}
    draw({name: list(runs.values()) for name, runs in cells.items()}, home / "curves.png")


def main() -> None:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?", help="a sweep file; the page of all without")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--claims", type=Path, default=PAGE)
    parser.add_argument("--findings", type=Path, default=FINDINGS)
    parser.add_argument("--summary", type=Path, default=SUMMARY)
    args = parser.parse_args()
    try:
        sweeps = SWEEPS if args.file is None else args.file.parent
        results = Results.read(sweeps, stored(args.results))
        claims = read_claims(args.claims)
        if args.file is None:
            cells = {s.name: [cell.name for cell in s.cells] for s in results.sweeps.values()}
            check_cells(claims, cells)
            text = summary(results, claims, args.findings)
            args.summary.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{args.summary}\n")
            return
        sweep = read_sweep(args.file)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if not any(results.runs[f"{sweep.name}/{cell.name}"] for cell in sweep.cells):
        sys.exit(f"error: {args.file}: none of its cells has a result in {args.results}")
    write_sweep(sweep, results, claims, args.results)
    sys.stdout.write(f"{args.results / sweep.name / 'report.md'}\n")


if __name__ == "__main__":
    main()
