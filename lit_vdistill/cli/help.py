"""The page that a training command's `--help` prints, without importing torch."""

import re
import shutil
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

from lit_vdistill.cli.options import (
    Option,
    OptionGroup,
    option_groups,
    subclasses,
    summary,
)
from lit_vdistill.cli.refusal import PROG

RUN_OPTIONS = {
    "config": "YAML file; several merge, later ones win, and the command line wins over all.",
    "print_config": "Print all values, defaults included, and stop.",
    "name": "What this run trains; the last student's name in tables and in W&B.",
    "run_dir": "Folder of the run.",
    "overwrite": "Let a fit replace the run that its folder holds.",
    "ckpt_path": "A checkpoint to go on from (fit) or to score.",
    "seed_everything": "Seed of everything that is drawn.",
    "base": "Files that a config merges below itself, relative to it.",
    "stage1_config": "Folders of earlier runs with their configs: one is fitted, once, where the "
    "model names the student that its ExportStudent will write.",
    "for_random_weights": "Of a recipe: an earlier stage that pretrained students go without.",
    "student": "Of a config file, as those in configs/models: the network that a recipe and the "
    "stages before it run on, and the name that their folders end in.",
}
"""What belongs to a run and not to a class, with a sentence each."""

DATA = "lit_vdistill.data.datamodule.VideoDistillDataModule"
TRAINER = "lightning.pytorch.trainer.trainer.Trainer"
_JUDGES = [
    "lit_vdistill.judge.rule_judge.RuleJudge",
    "lit_vdistill.judge.cache.CachedJudge",
    "lit_vdistill.judge.shuffled.ShuffledJudge",
    "lit_vdistill.judge.wrong.WrongJudge",
]

_BY_CLASS = ("rewards", "judge")
"""Options of a stage that name classes, which are listed by themselves."""


def stages() -> list[str]:
    """Class paths of the stages."""
    return subclasses("lit_vdistill.stages", "VLMStage")


def help_page(command: str, purpose: str, stage: str | None = None) -> str:
    """Everything that can be set.

    Args:
        command: One of the training commands.
        purpose: What it does.
        stage: Class path; the options of all stages when None.
    """
    width = max(60, min(shutil.get_terminal_size((100, 24)).columns, 120))
    chosen = [stage] if stage else stages()
    parts = [
        f"usage: {PROG} {command} --config FILE [--config FILE …] [--OPTION VALUE …]",
        "",
        *_wrap(f"{command}: {purpose}. Start from a recipe, as configs/rmsd.yaml.", "", width),
        *_wrap(
            "Options of a class stand in YAML under `init_args`: --model.loss.kl_coef 0 is "
            "model: {init_args: {loss: {kl_coef: 0}}}. Given with a --config that names a stage, "
            "--help shows that stage alone. A value in brackets holds where none is given.",
            "", width,
        ),
        *_heading("the run"),
        *(line for name, text in RUN_OPTIONS.items() for line in _entry(f"--{name}", text, width)),
        *_heading("stages: --model CLASS"),
        *(line for path in chosen for line in _entry(_name(path), summary(path), width)),
        *_model(chosen, width),
        *_heading(f"data: --data.*, of {_name(DATA)}"),
        *(line for group in option_groups(DATA) for line in _group("data", group, width)),
        *_heading("trainer: --trainer.*, of Lightning"),
        *(line for group in option_groups(TRAINER) for line in _group("trainer", group, width)),
        *(
            line
            for title, paths in _named_in_yaml()
            for line in (*_heading(title), *_classes(paths, width))
        ),
        "",
    ]  # fmt: skip
    return "\n".join(parts)


def _model(chosen: Sequence[str], width: int) -> Iterable[str]:
    """The options of the stages, each once, with the stages that have them."""
    owners: dict[tuple[str, tuple[str, ...]], list[tuple[str, OptionGroup]]] = {}
    for path in chosen:
        for group in option_groups(path):
            names = tuple(option.name for option in group.options)
            owners.setdefault((group.name, names), []).append((_name(path), group))
    for shared in owners.values():
        group = shared[0][1]
        who = "every stage" if len(shared) == len(chosen) > 1 else ", ".join(n for n, _ in shared)
        yield from _heading(f"--model.{group.name}, of {who}")
        if group.is_nested or group.name in _BY_CLASS:
            yield from _wrap(group.text, "  ", width)
        if group.name in _BY_CLASS:
            continue
        for index, option in enumerate(group.options):
            defaults = {owner: of.options[index].default for owner, of in shared}
            yield from _option("model", option, width, defaults)


def _group(prefix: str, group: OptionGroup, width: int) -> Iterable[str]:
    if group.is_nested:
        yield from ("", *_wrap(f"--{prefix}.{group.name}.*: {group.text}", "  ", width))
    for option in group.options:
        yield from _option(prefix, option, width)


def _option(
    prefix: str, option: Option, width: int, defaults: dict[str, str | None] | None = None
) -> Iterable[str]:
    if prefix == "trainer":
        text = _plain(option.text)
    else:
        text = option.text + (f" ({option.kind})" if _is_choice(option.kind) else "")
    usual, *others = Counter((defaults or {"": option.default}).values()).most_common()
    shown = [] if usual[0] is None else [usual[0]]
    for value, _ in others:
        owners = ", ".join(name for name, given in (defaults or {}).items() if given == value)
        shown.append(f"{value} in {owners}")
    text += f" [{'; '.join(shown)}]" if shown else " (must be given)"
    yield from _entry(f"--{prefix}.{option.name}", text, width)


def _is_choice(kind: str) -> bool:
    values = kind.split(" | ")
    return len(values) > 1 and not {"str", "int", "float", "None"} & set(values)


def _named_in_yaml() -> Iterable[tuple[str, list[str]]]:
    """What a config names by `class_path` besides stage and data, with the place where it does."""
    yield "rewards: the list --model.rewards", subclasses("lit_vdistill.rewards", "Reward")
    yield "judges: --model.judge", _JUDGES
    yield "callbacks: the list --trainer.callbacks", subclasses("callbacks", "Callback")


def _classes(paths: Sequence[str], width: int) -> Iterable[str]:
    """Classes with their own options below them."""
    for path in paths:
        yield from _wrap(f"{path}: {summary(path)}", "  ", width)
        for group in option_groups(path):
            for option in group.options:
                default = "must be given" if option.default is None else option.default
                yield from _entry(f"    {option.name}", f"{option.text} [{default}]", width)


def _plain(text: str) -> str:
    """The first sentence of Lightning's text about an option, without its markup."""
    text = re.sub(r":\w+:`~?([^`]*)`", lambda found: found[1].rpartition(".")[2], text)
    text = text.replace("``", "").partition(" Default:")[0]
    return re.split(r"(?<=\w\w[.)])\s+(?=[A-Z])", text)[0]


def _name(class_path: str) -> str:
    return class_path.rpartition(".")[2]


def _heading(title: str) -> list[str]:
    return ["", title]


def _entry(flag: str, text: str, width: int) -> list[str]:
    """A flag in the left column, or above its text where it is too long."""
    lines = _wrap(text, " " * 38, width)
    if len(flag) < 35 and lines:
        return [f"  {flag:<36}" + lines[0][38:], *lines[1:]]
    return [f"  {flag}", *lines]


def _wrap(text: str, indent: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
    )
