"""Each mistake ends with one to three lines and code 2: what, where, and what is right."""

import pytest
from jsonargparse import ArgumentParser, Namespace

from lit_vdistill.__main__ import main
from lit_vdistill.cli.config_files import with_bases
from lit_vdistill.cli.errors import explained, mistakes_told


def refused(capsys, *args, config="configs/rmsd.yaml", command="fit"):
    with pytest.raises(SystemExit) as stop:
        main([command, *(["--config", config] if config else []), *args])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert 1 <= len(said.splitlines()) <= 3, said
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize(
    ("arg", "nearest"),
    [
        ("--trainer.max_stepz=3", "--trainer.max_steps"),
        ("--model.optim.lrr=3", "--model.optim.lr"),
        ("--model.los.kl_coef=0", "--model.loss.kl_coef"),
        ("--model.loss.klcoef=0", "--model.loss.kl_coef"),
        ("--model.disc.reward_weigth=0", "--model.disc.reward_weight"),
        ("--data.loader.batchsize=3", "--data.loader.batch_size"),
        ("--run_dirr=x", "--run_dir"),
    ],
)
def test_a_wrong_flag_names_the_one_to_type(capsys, arg, nearest):
    said = refused(capsys, arg)
    assert f"no option {arg.partition('=')[0]}\n" in said
    assert said.endswith(f"Did you mean {nearest}?\n")


@pytest.mark.parametrize(
    ("text", "wrong", "nearest"),
    [
        ("trainr: {max_steps: 3}", "trainr.max_steps", "trainer.max_steps"),
        ("trainer: {max_stepz: 3}", "trainer.max_stepz", "trainer.max_steps"),
        (
            "model: {init_args: {optm: {lr: 1}}}",
            "model.init_args.optm.lr",
            "model.init_args.optim.lr",
        ),
        (
            "model: {init_args: {optim: {lrr: 1}}}",
            "model.init_args.optim.lrr",
            "model.init_args.optim.lr",
        ),
        (
            "data: {init_args: {loader: {batchsize: 3}}}",
            "data.init_args.loader.batchsize",
            "data.init_args.loader.batch_size",
        ),
        (
            "trainer: {callbacks: [{class_path: callbacks.ExportStudent, init_args: {foldr: x}}]}",
            "trainer.callbacks[0].init_args.foldr",
            "trainer.callbacks[0].init_args.folder",
        ),
    ],
)
def test_a_wrong_key_names_file_and_key(capsys, tmp_path, text, wrong, nearest):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    said = refused(capsys, "--config", str(path))
    assert f"{path}: no key {wrong}\n" in said
    assert said.endswith(f"Did you mean {nearest}?\n")


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("model: {class_path: lit_vdistill.stages.RMSDModul}", "lit_vdistill.stages.RMSDModule"),
        (
            "model: {init_args: {rewards: [{class_path: lit_vdistill.rewards.Contents}]}}",
            "lit_vdistill.rewards.Content",
        ),
        (
            "trainer: {callbacks: [{class_path: callbacks.ExportStudnt}]}",
            "callbacks.ExportStudent",
        ),
        (
            "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.ModelCheckpont}]}",
            "lightning.pytorch.callbacks.ModelCheckpoint",
        ),
    ],
)
def test_a_wrong_class_names_the_nearest(capsys, tmp_path, text, nearest):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    assert refused(capsys, "--config", str(path)).endswith(f"Did you mean {nearest}?\n")


def test_a_wrong_class_on_the_command_line_names_the_nearest(capsys):
    assert refused(capsys, "--model", "RMSDModul").endswith("Did you mean RMSDModule?\n")


@pytest.mark.parametrize(
    ("arg", "told"),
    [
        ("--model.optim.lr=abc", "--model.optim.lr: expected float, got abc"),
        ("--trainer.max_epochs=abc", "--trainer.max_epochs: expected int or null, got abc"),
        ("--model.matching.mode=quallity", "--model.matching.mode: "),
    ],
)
def test_a_wrong_value_names_option_type_and_value(capsys, arg, told):
    said = refused(capsys, arg)
    assert told in said
    assert arg.partition("=")[2] in said


def test_a_wrong_value_in_a_file_names_the_file(capsys, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text("model: {init_args: {optim: {lr: fast}}}")
    said = refused(capsys, "--config", str(path))
    assert f"{path}: model.init_args.optim.lr: expected float, got fast" in said


def test_a_command_alone_names_what_it_needs(capsys):
    assert "--config configs/rmsd.yaml" in refused(capsys, config=None)


@pytest.mark.parametrize("option", ["--optimizer=Adam", "--lr_scheduler=StepLR"])
def test_lightnings_own_optimizer_is_no_option(capsys, option):
    assert "no option" in refused(capsys, option)


def test_a_missing_checkpoint_is_said_before_anything_is_loaded(capsys, tmp_path):
    said = refused(capsys, f"--ckpt_path={tmp_path}/nothing.ckpt")
    assert f"ckpt_path {tmp_path}/nothing.ckpt does not exist" in said


def test_a_value_that_a_class_refuses_needs_no_traceback(capsys, tmp_path):
    path = tmp_path / "twice.yaml"
    content = "{class_path: lit_vdistill.rewards.Content}"
    path.write_text(f"model: {{init_args: {{rewards: [{content}, {content}]}}}}")
    said = refused(capsys, "--config", str(path), "--trainer.logger=false", "--stage1_config=null")
    assert "'content' stands there twice" in said


def test_a_value_that_lightning_refuses_needs_no_traceback(capsys, tmp_path):
    said = refused(
        capsys,
        "--trainer.limit_val_batches=-1",
        "--stage1_config=null",
        "--trainer.logger=false",
        f"--run_dir={tmp_path}",
    )
    assert "limit_val_batches" in said


def test_a_missing_student_needs_no_traceback(capsys, tmp_path):
    said = refused(
        capsys,
        "--stage1_config=null",
        "--trainer.logger=false",
        f"--model.policy.path={tmp_path}/none/student",
        f"--run_dir={tmp_path}",
    )
    assert "does not exist" in said


def test_a_message_that_is_not_understood_is_kept_short():
    told = explained("\n".join(f"line {i}" for i in range(40)), ["fit", "--config", "x"])
    assert told == "line 0\nline 1\nline 2"
    args = with_bases(["fit", "--config", "configs/rmsd.yaml"])
    unknown = "unrecognized arguments: --nowhere.to.be=1"
    assert explained(unknown, args) == unknown


def test_slips_of_ours_keep_their_traceback():
    """An error that Python raises, in code of ours or anybody's, is told to nobody but us."""
    with pytest.raises(ValueError, match="invalid literal"), mistakes_told():
        int("x")
    with pytest.raises(ValueError, match="unpack"), mistakes_told():
        _, _ = (1,)
    with pytest.raises(ValueError, match="theirs"), mistakes_told(of=("lit_vdistill",)):
        raise ValueError("theirs")
    with pytest.raises(RuntimeError), mistakes_told():
        raise RuntimeError


def test_what_is_raised_for_a_user_ends_the_command(capsys):
    with pytest.raises(SystemExit) as stop, mistakes_told():
        raise ValueError("data.x: expected 1, got 2")
    assert stop.value.code == 2
    assert capsys.readouterr().err.endswith("error: data.x: expected 1, got 2\n")


def test_a_class_among_several_types_is_told_by_its_own_words(capsys):
    """jsonargparse wraps what a constructor raises; a slip in one keeps its traceback."""
    parser = ArgumentParser()
    parser.add_argument("--picky", type=Picky | None)
    for value, kind in ((-1, SystemExit), (0, ValueError)):
        config = parser.parse_object({"picky": {"class_path": f"{__name__}.Picky"}})
        config.picky.init_args = Namespace(value=value)
        with pytest.raises(kind), mistakes_told():
            parser.instantiate_classes(config)
    assert "error: picky.value: expected 1 or more, got -1\n" in capsys.readouterr().err


class Picky:
    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError(f"picky.value: expected 1 or more, got {value}")
        self.share = 1 / value if value else int("x")
