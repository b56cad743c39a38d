"""The training commands: LightningCLI with run folders, stage hand-over and readable errors."""

import logging
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
import yaml
from jsonargparse import ActionConfigFile  # pyright: ignore[reportPrivateImportUsage]
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

# Importing them lets YAML name callbacks without their package.
import callbacks
from lit_vdistill.checkpoint_file import WholeFileIO
from lit_vdistill.data.datamodule import VideoDistillDataModule
from lit_vdistill.earlier_stages import EarlierStageError, fit_missing
from lit_vdistill.run_folder import RunFolderError, claim, claims
from lit_vdistill.stages.vlm_stage import VLMStage
from lit_vdistill.stages.zero_resume import check_zero_checkpoint

logger = logging.getLogger(__name__)
_BAD_NAME = re.compile(
    r"Option '(?P<option>[\w.]+)' is not accepted|does not accept option '(?P<key>[\w.]+)'"
    r"|unrecognized arguments: --(?P<flag>[\w.]+)|has no attribute '(?P<name>\w+)'"
    r"|Unexpected option: (?P<unexpected>[\w.]+)|Key '(?P<nested>[\w.]+)' is not expected"
)


def run(args: Sequence[str]) -> None:
    """Run one training command."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # Of no use to a user: one process may load the data, and a frozen reference is in eval mode.
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*dataloader is not resumable.*")  # ours is
    warnings.filterwarnings("ignore", message="Found .* in eval mode at the start of training")
    jsonargparse.set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    # LightningCLI reads sys.argv by itself and warns when it is given arguments beside it.
    sys.argv = [sys.argv[0], *with_bases(args)]
    with claims():
        VDistillCLI(
            VLMStage,
            VideoDistillDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveResolvedConfig,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=0,
            trainer_defaults={
                "callbacks": [callbacks.RandomState(), callbacks.StopOnSignal()],
                "use_distributed_sampler": False,
            },
            # `${…}` resolves after all files and overrides have been merged.
            parser_kwargs={"parser_mode": "omegaconf+", "prog": "python -m lit_vdistill"},
        )


def with_bases(args: Sequence[str]) -> list[str]:
    """Put the files that a config names under `base` before it, theirs before them.

    `base: [data/world.yaml, cluster/cpu.yaml]`, relative to the file, merges those below it: the
    parser itself knows several `--config` and no inclusion.

    Raises:
        SystemExit: With 2, for a base that does not exist.
    """
    expanded: list[str] = []
    rest = iter(args)
    for arg in rest:
        name, _, value = arg.partition("=")
        if name not in ("--config", "-c"):
            expanded.append(arg)
            continue
        path = Path(value or next(rest, ""))
        for file in (*_bases(path), path):
            expanded += ["--config", str(file)]
    return expanded


def _bases(path: Path) -> list[Path]:
    if not path.is_file():
        return []  # the parser says so
    config = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    names = config.get("base") or [] if isinstance(config, dict) else []
    found: list[Path] = []
    for base in [names] if isinstance(names, str) else names:
        file = path.parent / base
        if not file.is_file():
            sys.stderr.write(f"{path}: error: base '{base}' does not exist ({file})\n")
            raise SystemExit(2)
        found += [*_bases(file), file]
    return found


class VDistillParser(LightningArgumentParser):
    """Reports a mistake in a line or two, with the nearest valid name."""

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Print what is wrong and exit with 2.

        Raises:
            SystemExit: Always.
        """
        sys.stderr.write(f"{self.prog}: error: {message.strip()}{self._suggestion(message)}\n")
        raise SystemExit(2)

    def _suggestion(self, message: str) -> str:
        found = _BAD_NAME.search(message)
        if not found:
            return ""
        bad = next(name for name in found.groups() if name)
        close = get_close_matches(bad, self._known_names(), n=1)
        close = close or get_close_matches(bad.rsplit(".", 1)[-1], self._known_names(), n=1)
        return f"\nDid you mean '{close[0]}'?" if close else ""

    def _known_names(self) -> list[str]:
        """Every key of the command, and every parameter and class a config can name."""
        names = set(_option_names(self))
        for cls in [*_subclasses(VLMStage), VideoDistillDataModule, *_callback_classes()]:
            names |= {cls.__name__, *_parameter_names(cls)}
        return sorted(names)


class SaveResolvedConfig(SaveConfigCallback):
    """Writes the merged config to the run folder and into W&B, and compares it on resume."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write `config.yaml`, or `validate.yaml` and the like; called on the first process only.

        Another command's keys are not all `fit`'s: its config takes no place of the run's.
        """
        folder = Path(self.config.run_dir)
        folder.mkdir(parents=True, exist_ok=True)
        assert trainer.state.fn is not None
        name = "config" if stage == "fit" else trainer.state.fn.value
        (folder / f"{name}.yaml").write_text(self._text(), encoding="utf-8")
        for run_logger in trainer.loggers:
            if isinstance(run_logger, WandbLogger):
                run_logger.experiment.config.update(yaml.safe_load(self._text()))

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write on the first process; a fast development run writes nothing."""
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.save_config(trainer, pl_module, stage)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the config beside the weights."""
        checkpoint["lit_vdistill_config"] = self._text()

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Report what differs; what counts is the config that was given, not the checkpoint's."""
        saved = _flatten(yaml.safe_load(checkpoint.get("lit_vdistill_config", "{}")))
        given = _flatten(yaml.safe_load(self._text()))
        for key in sorted(saved.keys() | given.keys()):
            if saved.get(key) != given.get(key) and key != "ckpt_path":
                logger.warning(
                    "resuming with %s: %r, the checkpoint was trained with %r",
                    key, given.get(key), saved.get(key),
                )  # fmt: skip

    def _text(self) -> str:
        config = self.config.clone()
        config.overwrite = False  # said once, for this run
        config.base = None  # merged already
        return self.parser.dump(config, skip_none=False)


class VDistillCLI(LightningCLI):
    """LightningCLI with a run folder, and earlier stages fitted on demand."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Use the parser with readable errors, for the commands too."""
        kwargs.setdefault("dump_header", ["lit_vdistill: the resolved config of this run"])
        parser = VDistillParser(**kwargs)
        parser.add_argument(
            "-c", "--config", action=ActionConfigFile, help="YAML file; several merge."
        )
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add what belongs to a run and not to a class."""
        parser.add_argument("--name", type=str, default="student", help="What this run trains.")
        parser.add_argument(
            "--run_dir", type=str, default="runs/default", help="Folder of the run."
        )
        parser.add_argument(
            "--overwrite",
            action="store_true",
            help="Let a fit replace the run that its folder holds.",
        )
        parser.add_argument(
            "--base", type=str | list[str] | None, help="Files that a config merges below itself."
        )
        parser.add_argument(
            "--stage1_config",
            type=list[tuple[str, str]] | None,
            default=None,
            help="Folders of earlier runs with their configs: one is fitted, once, where the model "
            "names the student that its ExportStudent will write.",
        )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer whose checkpoints are whole files, where its strategy writes files."""
        trainer = super().instantiate_trainer(**kwargs)
        if type(trainer.strategy) in (SingleDeviceStrategy, DDPStrategy):
            trainer.strategy.checkpoint_io = WholeFileIO()
        return trainer

    def before_instantiate_classes(self) -> None:
        """Fit earlier stages first where their students are missing."""
        assert self.subcommand is not None
        config = self.config[self.subcommand]
        if "://" in str(config.ckpt_path or ""):
            self._refuse(
                f"ckpt_path {config.ckpt_path}: expected a file on this machine; whoever writes a "
                "remote one decides what it does here: fetch it and look at it first"
            )
        if config.trainer.enable_progress_bar is False:
            shown = config.trainer.callbacks or []
            config.trainer.callbacks = [
                c for c in shown if not c.class_path.endswith("RunProgress")
            ]
        try:
            fit_missing(config, lambda args: self.parser.parse_args(with_bases(args)).fit)
        except EarlierStageError as error:
            self._refuse(str(error))

    def _claim_folder(self, folder: Path, ckpt_path: str | None, *, overwrite: bool) -> None:
        if not self.trainer.is_global_zero:
            return
        try:
            claim(folder, ckpt_path, overwrite=overwrite)
        except RunFolderError as error:
            self._refuse(str(error))

    def _refuse(self, reason: str) -> NoReturn:
        """End with one line and code 2, as for a mistake in the command."""
        sys.stderr.write(f"{self.parser.prog}: error: {reason}\n")
        raise SystemExit(2)

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
        """Do nothing: by default a checkpoint's values silently win over YAML and command line."""


def _flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix.removesuffix("."): str(tree) if isinstance(tree, list) else tree}
    return {k: v for key, sub in tree.items() for k, v in _flatten(sub, f"{prefix}{key}.").items()}


def _option_names(parser: jsonargparse.ArgumentParser) -> Iterable[str]:
    for action in parser._actions:
        yield from (option.removeprefix("--") for option in action.option_strings)
        for command in getattr(action, "_name_parser_map", {}).values():
            yield from _option_names(command)


def _subclasses(cls: type) -> list[type]:
    return [cls, *(deeper for sub in cls.__subclasses__() for deeper in _subclasses(sub))]


def _callback_classes() -> list[type]:
    return [getattr(callbacks, name) for name in callbacks.__all__]


def _parameter_names(cls: type) -> Iterable[str]:
    """Parameters of a class, and dotted fields of those that are dataclasses."""
    import dataclasses
    import inspect
    import typing

    hints = typing.get_type_hints(cls.__init__)
    for name in inspect.signature(cls).parameters:
        yield name
        kinds = [hints.get(name), *typing.get_args(hints.get(name))]
        for kind in kinds:
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                for field in dataclasses.fields(kind):
                    yield from (field.name, f"{name}.{field.name}")
