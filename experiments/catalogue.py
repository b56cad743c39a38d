"""One run of every recipe on the embedded world, and the page of all methods from it.

python -m experiments.catalogue
python -m experiments.catalogue --only gspo cispo

Recipes are fitted one after another with seed 0. Each student, and the one that it began with,
answers the validation split, as `experiments.answers` has it. A recipe whose result is stored for
the same values is not run again, nor is a fit that has ended; change a value, and it is. Runs lie
in `<folder>/<name>-<hash of the values>`. The page is written from what is stored and from the
recipes themselves; `--only` without a name writes it alone.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments import answers
from experiments.answers import COLUMNS, Answered, Figures
from experiments.cell_record import alarms_of
from experiments.methods import CATALOGUE, STARTS, Entry, hash_of, merged_values
from lit_vdistill.cli.config_files import read_config
from lit_vdistill.world.scenes import Split

SPLIT: Split = "val"
PAGE, STORED = Path("configs/README.md"), Path("experiments/catalogue.json")
Stored = dict[str, dict[str, Any]]


class Runs:
    """Fits recipes and grades their students, each once."""

    def __init__(self, folder: Path, world: str, steps: int | None) -> None:
        """Remember where.

        Args:
            folder: Of all runs.
            world: Of the embedded world whose validation split is asked.
            steps: Optimizer steps of every run; None = the recipe's own.
        """
        self.folder, self.world, self.steps = folder, world, steps

    def after(self, entry: Entry) -> list[Answered]:
        """Answers of an entry's student, which is fitted where it is missing."""
        if entry.student:
            return self.graded(entry.student)
        home, steps = self.home(entry), self.steps
        short = [f"--trainer.{key}={steps}" for key in ("max_steps", "val_check_interval") if steps]
        options = ["--name", entry.name, *entry.overrides, *short]
        answers.fit(f"configs/{entry.recipe}.yaml", home, 0, options)
        return answers.answers_of(str(home / "student"), self.world, SPLIT, home)

    def figures(self, entry: Entry, other: Entry | None) -> dict[str, Figures]:
        """What is stored of an entry: figures before, after, and of both differences."""
        after = self.after(entry)
        found = {"after": answers.figures(after)}
        if not entry.student:
            before = self.graded(answers.start_of(self.home(entry)))
            found["before"] = answers.figures(before)
            found["gain"] = answers.figures(answers.difference(after, before))
        if other is not None:
            found["beside"] = answers.figures(answers.difference(after, self.after(other)))
        return found

    def alarms(self, entry: Entry) -> list[str] | None:
        """What an entry's run was told by `TrainingHealth`; None where nobody watched."""
        return None if entry.student else alarms_of(self.home(entry))

    def home(self, entry: Entry) -> Path:
        """Run folder of an entry."""
        return self.folder / f"{entry.name}-{hash_of(entry, self.steps)}"

    def graded(self, student: str) -> list[Answered]:
        """Answers of a student that was fitted elsewhere."""
        home = self.folder / "starts" / student.replace("/", "_")
        return answers.answers_of(student, self.world, SPLIT, home)


def page(stored: Stored) -> str:
    """The catalogue in Markdown."""
    lines = [
        *("# The catalogue of methods", "", INTRODUCTION, ""),
        "| method | described in | recipe | class, and what the recipe sets | test |",
        "|" + "---|" * 5,
        *map(described, (*CATALOGUE, *STARTS)),
        *("", SCORES, ""),
        "| method | steps | " + " | ".join(COLUMNS.values()) + " | alarms |",
        "|" + "---|" * (3 + len(COLUMNS)),
        *(scored(entry, stored.get(entry.name)) for entry in CATALOGUE),
        *("", BESIDE, ""),
        "| method less | the other | " + " | ".join(COLUMNS.values()) + " |",
        "|" + "---|" * (2 + len(COLUMNS)),
    ]
    by_name = {entry.name: entry for entry in CATALOGUE}
    for entry in CATALOGUE:
        known, other = stored.get(entry.name), by_name.get(entry.beside)
        if other is not None and known is not None and is_current(entry, known, other):
            cells = " | ".join(gain(known["figures"]["beside"], key) for key in COLUMNS)
            lines.append(f"| {entry.method} | {other.method} | {cells} |")
    return "\n".join(lines) + "\n"


def described(entry: Entry) -> str:
    """An entry's row of what it is."""
    own = read_config(Path(f"configs/{entry.recipe}.yaml"))
    model, base = own.get("model", {}), own.get("base")
    said = [f"`{key} {value}`" for key, value in leaves(model.get("init_args", {}))]
    if entry.overrides:
        names = [part.removeprefix("--model.") for part in entry.overrides]
        said, base = [f"`{' '.join(names)}`"], f"{entry.recipe}.yaml"
    elif "class_path" in model:
        name = f"`{model['class_path'].rpartition('.')[2]}`"
        said = [name, *said] if isinstance(base, str) else [name]
    if isinstance(base, str):
        said = [f"as {base.removesuffix('.yaml')}", *said]
    file, _, test = entry.test.partition("::")
    recipe, known = f"{entry.recipe}.yaml", f"[{test}](../{file})"
    cells = (entry.method, entry.source, f"[{recipe}]({recipe})", ", ".join(said), known)
    return "| " + " | ".join(cells) + " |"


def leaves(tree: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, str]]:
    """What a tree of values sets, by dotted key; lists by their classes."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{place}{key}.")
        elif isinstance(value, list):
            yield f"{place}{key}", ", ".join(map(_reward, value))
        else:
            yield f"{place}{key}", str(value)


def _reward(given: Mapping[str, Any]) -> str:
    name = given["class_path"].rpartition(".")[2]
    return f"{name} {given.get('init_args', {}).get('weight', 1.0)}"


def is_current(entry: Entry, known: Mapping[str, Any], other: Entry | None = None) -> bool:
    """Whether a stored result is that of present values, of the one that it stands beside too."""
    steps = known["steps"]
    is_own = known["hash"] == hash_of(entry, steps)
    return is_own and (other is None or known["beside"] == hash_of(other, steps))


def scored(entry: Entry, known: Mapping[str, Any] | None) -> str:
    """An entry's row of scores."""
    if known is None or not is_current(entry, known):
        why = "not run yet" if known is None else "not run since its values changed"
        return f"| {entry.method} | | {why} |" + " |" * len(COLUMNS)
    found, trainer = known["figures"], merged_values(entry.recipe)["trainer"]
    cells = [entry.method, str(known["steps"] or trainer["max_steps"])]
    for key in COLUMNS:
        after = f"{found['after'][key]:.3f}"
        if "before" in found:
            after = f"{found['before'][key]:.3f} → {after} ({gain(found['gain'], key)})"
        cells.append(after)
    alarms = known.get("alarms")
    cells.append("not watched" if alarms is None else ", ".join(alarms) or "none")
    return "| " + " | ".join(cells) + " |"


def gain(row: Figures, key: str) -> str:
    """A difference and its standard error."""
    return f"{row[key]:+.3f} ± {row[f'{key}_error']:.3f}"


INTRODUCTION = """\
<!-- Written by `python -m experiments.catalogue`; change that, or the recipes. -->
`python -m lit_vdistill fit --config configs/NAME.yaml` runs a recipe. Behind its class stands all
that it sets itself, of those that name another recipe; `rmsd.yaml` and `visd.yaml` are to be read
whole. Its head says what it does not take over from its paper. Each fits two steps in
`tests/smoke/test_fit.py`, and its numbers on stored rollouts are kept in `tests/golden/`. The
folders here hold fragments to put behind a recipe: `cluster/`, `data/`, `models/`, `rollouts/`,
`curriculum/` and `logger/`; `paper/` has the papers' own values, `teacher/` what `pool collect` and
`serve` are given.

GRPO and what is derived from it take a group's mean alone as baseline, as Dr.GRPO does; why,
stands in `rmsd.yaml`. VISD and what is derived from it divide by the standard deviation too."""
SCORES = """\
## Scores

One run each, seed 0, on the embedded world's validation split (60 videos, nine questions on
each), before → after (difference ± one standard error over videos, paired by question). GRPO and
its relatives, R-MSD and OPD start from the stage-1 student in `experiments/stage1`, VISD and its
relatives from one that has learnt to read what their teacher is told. A step is an optimizer's:
with two updates of a window, half as many windows are sampled. Alarms are those of
`TrainingHealth` ([callbacks](../callbacks/README.md)). One run of so small a student ranks no
methods."""
BESIDE = """\
Less what a method is to be compared with, by question (± one standard error over videos):"""


def main() -> None:
    """Fit and grade what is not stored, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [entry.name for entry in CATALOGUE]
    parser.add_argument("--only", nargs="*", choices=names, default=names, metavar="NAME")
    parser.add_argument("--steps", type=int, help="of every recipe, instead of its own")
    parser.add_argument("--folder", type=Path, default=Path("runs/catalogue"))
    parser.add_argument("--world", default="runs/world")
    parser.add_argument("--json", type=Path, default=STORED, help="results are kept here")
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    stored: Stored = json.loads(args.json.read_text()) if args.json.is_file() else {}
    runs, failed = Runs(args.folder, args.world, args.steps), []
    by_name = {entry.name: entry for entry in CATALOGUE}
    for name in args.only:
        entry, other = by_name[name], by_name.get(by_name[name].beside)
        values = {"steps": args.steps, "hash": hash_of(entry, args.steps)}
        values["beside"] = None if other is None else hash_of(other, args.steps)
        if stored.get(name, {}).items() >= values.items():
            continue
        try:
            figures = runs.figures(entry, other)
            stored[name] = {**values, "figures": figures, "alarms": runs.alarms(entry)}
        except subprocess.CalledProcessError:  # it has said why, and the others need not wait
            failed.append(name)
            continue
        args.json.write_text(json.dumps(stored, indent=1) + "\n")
        args.page.write_text(page(stored))
    args.page.write_text(page(stored))
    if failed:
        sys.exit(f"these fits have failed, and are tried again by the same command: {failed}")


if __name__ == "__main__":
    main()
