import pytest

from lit_vdistill.cli.help import DATA, TRAINER, stages
from lit_vdistill.cli.options import (
    option_groups,
    option_names,
    public_names,
    subclasses,
    summary,
)

LISTED = [
    *stages(),
    DATA,
    *subclasses("callbacks", "Callback"),
    *subclasses("lit_vdistill.rewards", "Reward"),
]


def option(class_path, name):
    (found,) = [o for g in option_groups(class_path) for o in g.options if o.name == name]
    return found


@pytest.mark.parametrize("class_path", LISTED)
def test_every_option_has_its_sentence(class_path):
    assert summary(class_path)
    for group in option_groups(class_path):
        assert group.text, group.name
        assert [o.name for o in group.options if not o.text] == []


def test_defaults_follow_the_stage_and_constants():
    kl = [option(f"lit_vdistill.stages.{name}", "loss.kl_coef") for name in
          ("RMSDModule", "VISDModule")]  # fmt: skip
    assert [o.default for o in kl] == ["0.001", "0.0"]
    assert option(DATA, "sources.max_text_chars").default == "10000"
    assert option(DATA, "world.teacher.noise.mcq.contested").default == "0.16"
    assert option(DATA, "world.teacher.noise.times.mean").default == "0.6"
    assert option(DATA, "sources.train_path").default is None
    assert option("lit_vdistill.rewards.ThinkSpace", "name").default == "None"


def test_choices_are_read_through_their_names():
    assert option("lit_vdistill.stages.RMSDModule", "loss.advantage").kind == (
        "grpo | dr_grpo | rloo | reinforce"
    )
    assert option(TRAINER, "max_epochs").kind == "int | None"


def test_what_is_read_is_what_the_classes_take():
    import inspect

    import callbacks
    from lit_vdistill import stages as real

    for path in [f"lit_vdistill.stages.{name}" for name in real.__all__]:
        taken = list(inspect.signature(getattr(real, path.rpartition(".")[2])).parameters)
        assert [group.name for group in option_groups(path)] == taken
    named = {path.rpartition(".")[2] for path in subclasses("callbacks", "Callback")}
    assert named == set(callbacks.__all__)


def test_a_module_of_the_user_is_read_too(tmp_path, monkeypatch):
    (tmp_path / "their_rewards.py").write_text(
        "from lit_vdistill.rewards import Reward\n\n"
        "class Mine(Reward):\n    '''Mine.'''\n"
        "    def __init__(self, weight: float = 1.0, words: int = 5):\n        pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert option_names("their_rewards.Mine") == ["weight", "words"]
    assert "Mine" in public_names("their_rewards")


def test_what_does_not_exist_has_no_options():
    assert option_groups("lit_vdistill.stages.None") == []
    assert option_groups("no_such_module.Class") == []
    assert option_groups("Bare") == []


def test_a_config_has_the_options_of_those_that_it_descends_from():
    stage = "lit_vdistill.stages.SelfDistillationModule"
    assert option(stage, "distill.coef").default == "1.0"
    # Said again, with another default; the choices stand where the first one is.
    assert option(stage, "distill.conditioning").default == "evidence"
    assert option(stage, "distill.conditioning").kind == "none | answer | evidence | feedback"
    visd = "lit_vdistill.stages.VISDModule"
    assert option(visd, "credit.conditioning").default == "feedback"
    assert option(visd, "credit.evidence").kind == "times | boxes"
    assert option(visd, "credit.view.span").default == "evidence"
