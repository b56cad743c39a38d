import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from experiments import answers, catalogue
from experiments.answers import Answered
from experiments.methods import CATALOGUE, STARTS, Entry
from lit_vdistill import jsonl
from tests.smoke.test_fit import STAGES

WANTED = {
    "SFT", "GRPO", "Dr.GRPO", "DAPO", "GSPO", "CISPO", "GAD", "SFT+RL", "R-MSD", "RLSD", "VISD",
    "R-MSD → VISD", "OPD", "OPSD", "SDPO",
}  # fmt: skip


def test_every_method_and_every_recipe_stands_in_the_catalogue():
    assert {entry.method for entry in CATALOGUE} >= WANTED
    recipes = {path.stem for path in Path("configs").glob("*.yaml")}
    assert {entry.recipe for entry in (*CATALOGUE, *STARTS)} == recipes
    names = [entry.name for entry in CATALOGUE]
    assert len(set(names)) == len(names)
    assert {entry.beside for entry in CATALOGUE} - {""} <= set(names)


@pytest.mark.parametrize("entry", [*CATALOGUE, *STARTS], ids=lambda entry: entry.name)
def test_what_an_entry_names_exists(entry):
    file, _, test = entry.test.partition("::")
    assert re.search(rf"^def {test}\(", Path(file).read_text(), re.M), entry.test
    assert entry.recipe in STAGES  # fits two steps
    assert Path(f"tests/golden/{entry.recipe}.json").is_file()


def test_the_page_is_what_the_recipes_and_results_say():
    stored = json.loads(catalogue.STORED.read_text())
    written = catalogue.PAGE.read_text()
    assert written == catalogue.page(stored), "python -m experiments.catalogue --only"
    assert set(stored) <= {entry.name for entry in CATALOGUE}


@pytest.fixture
def own_recipes(tmp_path, monkeypatch):
    """Three small recipes in a folder of their own; gives what was fitted, and a command."""
    monkeypatch.chdir(tmp_path)
    Path("configs").mkdir()

    def write(recipe, clip, comment="", **more):
        model = {"init_args": {"loss": {"clip_low": clip}}}
        text = yaml.safe_dump({"model": model, "trainer": {"max_steps": 9}, **more})
        Path(f"configs/{recipe}.yaml").write_text(f"# {comment}\n{text}")

    for recipe, clip in (("one", 0.1), ("two", 0.2), ("bad", 0.3)):
        write(recipe, clip)
    for name in ("one", "two", "bad"):
        text = yaml.safe_load(Path(f"configs/{name}.yaml").read_text())
        text["model"]["class_path"] = "lit_vdistill.stages.OnPolicyModule"
        Path(f"configs/{name}.yaml").write_text(yaml.safe_dump(text))
    entries = (
        Entry("Shipped", "one", "ours", "t.py::t", student="shipped", variant="shipped"),
        Entry("Bad", "bad", "ours", "t.py::t"),
        Entry("One", "one", "ours", "t.py::t"),
        Entry("Two", "two", "ours", "t.py::t", beside="one", overrides=("--model.x", "1")),
    )
    monkeypatch.setattr(catalogue, "CATALOGUE", entries)
    monkeypatch.setattr(catalogue, "STARTS", ())
    fitted = []

    def fit(config, home, seed, overrides):
        if (home / "summary.json").is_file():
            return
        fitted.append((Path(config).stem, seed, *overrides))
        if "bad" in config:
            raise subprocess.CalledProcessError(2, config)
        home.mkdir(parents=True)
        told = [{"alarm": "kl", "step": 7}] if "two" in config else []
        jsonl.write(home / "health.jsonl", told)
        (home / "summary.json").write_text("{}")
        (home / "config.yaml").write_text("model: {init_args: {policy: {path: start}}}")

    def answers_of(student, world, split, folder):
        worth = {"start": 0.2, "shipped": 0.3}.get(student, 0.5 if "/one-" in student else 0.75)
        return [Answered(f"q{i}", "mcq", "easy", f"v{i}", *[worth] * 3) for i in range(4)]

    monkeypatch.setattr(answers, "fit", fit)
    monkeypatch.setattr(answers, "answers_of", answers_of)

    def run(*args):
        fitted.clear()
        monkeypatch.setattr(
            sys, "argv", ["catalogue", "--folder=runs", "--json=s.json", "--page=p.md", *args]
        )
        catalogue.main()

    return fitted, run


def test_a_result_is_kept_until_a_value_changes(own_recipes):
    fitted, run = own_recipes
    run("--only", "one", "two", "shipped")
    assert fitted == [
        ("one", 0, "--name", "one"),
        ("two", 0, "--name", "two", "--model.x", "1"),
    ]
    run("--only", "one", "two", "shipped")
    assert fitted == []
    text = Path("configs/one.yaml").read_text()
    Path("configs/one.yaml").write_text("# a comment\n" + text)
    run("--only", "one", "two")
    assert fitted == []
    Path("configs/one.yaml").write_text(text.replace("0.1", "0.15"))
    run("--only")  # writes the page alone
    assert "| One | | not run since its values changed | | | |" in Path("p.md").read_text()
    assert "| Two | One |" not in Path("p.md").read_text()
    run("--only", "two")  # its own values are as they were, those that it stands beside are not
    assert fitted == [("one", 0, "--name", "one")]
    run("--only", "one", "--steps", "3")
    short = ("--trainer.max_steps=3", "--trainer.val_check_interval=3")
    assert fitted == [("one", 0, "--name", "one", *short)]


def test_a_fit_that_fails_keeps_no_other_from_its_turn(own_recipes):
    fitted, run = own_recipes
    with pytest.raises(SystemExit, match="bad"):
        run()
    assert [name for name, *_ in fitted] == ["bad", "one", "two"]
    assert set(json.loads(Path("s.json").read_text())) == {"shipped", "one", "two"}


def test_the_page_has_scores_and_differences(own_recipes):
    _, run = own_recipes
    run("--only", "one", "two", "shipped")
    rows = Path("p.md").read_text().splitlines()
    assert "| Shipped | 9 | 0.300 | 0.300 | 0.300 | not watched |" in rows
    cell = "0.200 → 0.500 (+0.300 ± 0.000)"
    assert f"| One | 9 | {cell} | {cell} | {cell} | none |" in rows
    assert [row for row in rows if row.startswith("| Two |") and row.endswith("| kl in step 7 |")]
    assert "| Two | One | +0.250 ± 0.000 | +0.250 ± 0.000 | +0.250 ± 0.000 |" in rows
    assert "| Bad | | not run yet | | | |" in rows
    two = "| Two | ours | [two.yaml](two.yaml) | as two, `x 1` | [t](../t.py) |"
    assert two in rows


def test_a_recipe_is_the_same_with_and_without_who_only_watches(monkeypatch):
    from experiments import methods

    def hash_with(*callbacks):
        values = {"trainer": {"callbacks": [{"class_path": "callbacks.RunProgress"}, *callbacks]}}
        monkeypatch.setattr(methods, "merged_values", lambda recipe: values)
        return methods.hash_of(methods.CATALOGUE[0], None)

    health = {"class_path": "callbacks.TrainingHealth", "init_args": {"folder": "a"}}
    card = {"class_path": "callbacks.RunCard", "init_args": {"folder": "a"}}
    stopping = {**health, "init_args": {"folder": "a", "stop": True}}
    assert hash_with(health, card) == hash_with()
    assert hash_with(stopping) != hash_with()
    assert hash_with({"class_path": "callbacks.EMATeacherUpdate"}) != hash_with()
