"""The training commands: LightningCLI with run folders, stage hand-over and readable errors."""

import logging
import re
import sys
from collections.abc import Sequence
from contextlib import chdir
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
import yaml
from jsonargparse import ActionConfigFile  # pyright: ignore[reportPrivateImportUsage]
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

# Importing them lets YAML name callbacks without their package.
import callbacks
from lit_vdistill.cli.checkpoint_file import WholeFileIO
from lit_vdistill.cli.config_files import with_bases
from lit_vdistill.cli.earlier_stages import EarlierStageError, fit_missing
from lit_vdistill.cli.errors import explained, mistakes_told
from lit_vdistill.cli.help import RUN_OPTIONS
from lit_vdistill.cli.quiet import hush, hush_wandb
from lit_vdistill.cli.refusal import PROG, refuse
from lit_vdistill.cli.run_folder import RunFolderError, claim, claims
from lit_vdistill.cli.student import with_student
from lit_vdistill.data.datamodule import VideoDistillDataModule
from lit_vdistill.stages.vlm_stage import VLMStage
from lit_vdistill.stages.zero_resume import check_zero_checkpoint
from lit_vdistill.tracking.logged_media import that_show_media

logger = logging.getLogger(__name__)


def run(args: Sequence[str]) -> None:
    """Run one training command."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    hush()
    jsonargparse.set_parsing_settings(
        omegaconf_absolute_to_relative_paths=True,
        # It takes a second or more, and only `--model.help=CLASS` and its like show what is read.
        docstring_parse_attribute_docstrings=any(".help" in arg for arg in args),
    )
    # LightningCLI reads sys.argv by itself and warns when it is given arguments beside it.
    sys.argv = [sys.argv[0], *with_student(with_bases(args))]
    VDistillParser.started_in = Path.cwd()
    let_users_modules_be_named()
    ours = mistakes_told(of=("lit_vdistill", "callbacks"))
    with claims(), ours, mistakes_told((MisconfigurationException,), of=("lightning",)):
        VDistillCLI(
            VLMStage,
            VideoDistillDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveResolvedConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            auto_configure_optimizers=False,  # ours are made by the stages
            trainer_defaults={
                "callbacks": [callbacks.RandomState(), callbacks.StopOnSignal()],
                "use_distributed_sampler": False,
            },
            # `${…}` resolves after all files and overrides have been merged.
            parser_kwargs={"parser_mode": "omegaconf+", "prog": PROG},
        )


def let_users_modules_be_named() -> None:
    """Let YAML name classes in modules of the working directory, behind everything installed.

    Ours are imported by now: a `callbacks.py` there takes no place of theirs.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


class VDistillParser(LightningArgumentParser):
    """Reports a mistake in one to three lines, in the user's form, with the nearest valid name."""

    started_in = Path()

    def parse_args(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """Parse, with `null` told to options of any depth.

        What stands on a command line is read once, and an option below a class's own options is
        then given to another parser like this one as text again: that of None is not `null`.
        """
        if args is not None:
            args = [re.sub("=None$", "=null", arg) for arg in args]
        return super().parse_args(args, *more, **options)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print what is wrong and exit with 2.

        Raises:
            SystemExit: Always.
        """
        # The parser reads a config file from within its folder.
        with chdir(self.started_in):
            refuse(explained(message, sys.argv[1:]))


class SaveResolvedConfig(SaveConfigCallback):
    """Writes the merged config to the run folder and to W&B or Trackio; compares it on resume."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write `config.yaml`, or `validate.yaml` and the like; called on the first process only.

        Another command's keys are not all `fit`'s: its config takes no place of the run's.
        """
        folder = Path(self.config.run_dir)
        folder.mkdir(parents=True, exist_ok=True)
        assert trainer.state.fn is not None
        name = "config" if stage == "fit" else trainer.state.fn.value
        (folder / f"{name}.yaml").write_text(self._text, encoding="utf-8")
        for run_logger in that_show_media(trainer.loggers):
            run_logger.log_hyperparams(yaml.safe_load(self._text))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write on the first process; a fast development run writes nothing."""
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.save_config(trainer, pl_module, stage)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the config beside the weights."""
        checkpoint["lit_vdistill_config"] = self._text

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Report what differs; what counts is the config that was given, not the checkpoint's."""
        saved = _flatten(yaml.safe_load(checkpoint.get("lit_vdistill_config", "{}")))
        given = _flatten(yaml.safe_load(self._text))
        for key in sorted(saved.keys() | given.keys()):
            if saved.get(key) != given.get(key) and key != "ckpt_path":
                logger.warning(
                    "resuming with %s: %r, the checkpoint was trained with %r",
                    key, given.get(key), saved.get(key),
                )  # fmt: skip

    @cached_property
    def _text(self) -> str:
        """The config as YAML; parsed and checked values take a second to write."""
        config = self.config.clone()
        config.overwrite = False  # said once, for this run
        config.base = config.student = None  # merged already, and followed
        return self.parser.dump(config, skip_unset=False)


class VDistillCLI(LightningCLI):
    """LightningCLI with a run folder, and earlier stages fitted on demand."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Use the parser with readable errors, for the commands too."""
        kwargs.setdefault("dump_header", ["lit_vdistill: the resolved config of this run"])
        parser = VDistillParser(**kwargs)
        parser.add_argument("-c", "--config", action=ActionConfigFile, help=RUN_OPTIONS["config"])
        return parser

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Of Lightning's commands the given one, and `fit`, by which earlier stages are fitted.

        To prepare the options of one takes a third of a second.
        """
        known = LightningCLI.subcommands()
        given = {"fit", *sys.argv[1:2]}
        return {name: known[name] for name in given} if given <= known.keys() else known

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what belongs to a run and not to a class."""
        kinds: dict[str, dict[str, Any]] = {
            "name": {"type": str, "default": "student"},
            "run_dir": {"type": str, "default": "runs/default"},
            "overwrite": {"action": "store_true"},
            "base": {"type": str | list[str] | None},
            "stage1_config": {"type": list[list[str]] | None, "default": None},
            "for_random_weights": {"action": "store_true"},
            "student": {"type": dict[str, Any] | None, "default": None},
        }
        for name, kind in kinds.items():
            parser.add_argument(f"--{name}", help=RUN_OPTIONS[name], **kind)

    def instantiate_classes(self) -> None:
        """Make everything; a value that a class refuses, whoever wrote it, needs no traceback."""
        with mistakes_told():
            super().instantiate_classes()
        self.model.checkpoint = self._get(self.config_init, "ckpt_path")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer whose checkpoints are whole files, where its strategy writes files."""
        trainer = super().instantiate_trainer(**kwargs)
        hush_wandb(trainer.loggers)
        stock = [i for i, c in enumerate(trainer.callbacks) if isinstance(c, ModelSummary)]  # type: ignore[attr-defined]
        for i in stock:
            trainer.callbacks[i] = callbacks.NetworkSummary()  # type: ignore[attr-defined]
        if type(trainer.strategy) in (SingleDeviceStrategy, DDPStrategy):
            trainer.strategy.checkpoint_io = WholeFileIO()
        return trainer

    def before_instantiate_classes(self) -> None:
        """Fit earlier stages first where their students are missing."""
        assert self.subcommand is not None
        config = self.config[self.subcommand]
        if "://" in str(config.ckpt_path or ""):
            refuse(
                f"ckpt_path {config.ckpt_path}: expected a file on this machine; whoever writes a "
                "remote one decides what it does here: fetch it and look at it first"
            )
        if config.trainer.enable_progress_bar is False:
            shown = config.trainer.callbacks or []
            config.trainer.callbacks = [
                c for c in shown if not c.class_path.endswith("RunProgress")
            ]

        def parse(arguments: list[str]) -> Any:
            return self.parser.parse_args(with_student(with_bases(arguments))).fit

        try:
            fit_missing(config, parse)
        except EarlierStageError as error:
            refuse(str(error))

    def _claim_folder(self, folder: Path, ckpt_path: str | None, *, overwrite: bool) -> None:
        if not self.trainer.is_global_zero:
            return
        try:
            claim(folder, ckpt_path, overwrite=overwrite)
        except RunFolderError as error:
            refuse(str(error))

    def before_fit(self) -> None:
        """Take the run's folder, once all else is in order.

        And refuse a checkpoint that cannot be read here: no hook of a run comes before DeepSpeed's.

        Raises:
            ValueError: For one of DeepSpeed's from another number of processes.
        """
        config = self.config.fit
        if not config.trainer.fast_dev_run:
            self._claim_folder(Path(config.run_dir), config.ckpt_path, overwrite=config.overwrite)
        deepspeed = getattr(self.trainer.strategy, "config", None)
        if isinstance(deepspeed, dict):
            count = self.trainer.num_devices * self.trainer.num_nodes
            check_zero_checkpoint(self.config.fit.ckpt_path, count, deepspeed)

    def _parse_ckpt_path(self) -> None:
        """Look whether it is there, before anything is loaded.

        Nothing is read from it: by default a checkpoint's values silently win over YAML and command
        line.
        """
        path = self.config[self.config.subcommand].ckpt_path
        if path and "/" in path and "://" not in path and not Path(path).exists():
            refuse(f"ckpt_path {path} does not exist")


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.removesuffix("."): str(tree) if isinstance(tree, list) else tree}
    return {k: v for key, sub in tree.items() for k, v in _flatten(sub, f"{prefix}{key}.").items()}
