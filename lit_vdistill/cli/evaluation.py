"""`evaluate run`: a benchmark's config, a student, and Lightning's trainer with all its options."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile  # pyright: ignore[reportPrivateImportUsage]
from lightning.pytorch import Trainer

from lit_vdistill import processes
from lit_vdistill.cli.config_files import merged, named_files, with_bases
from lit_vdistill.cli.errors import mistakes_told
from lit_vdistill.cli.quiet import hush
from lit_vdistill.cli.refusal import PROG
from lit_vdistill.cli.training import VDistillParser, let_users_modules_be_named
from lit_vdistill.data.prompt_config import PromptConfig
from lit_vdistill.evaluation.benchmark import Benchmark
from lit_vdistill.evaluation.lmms_eval import run as run_lmms_eval
from lit_vdistill.evaluation.lmms_eval_command import LmmsEvalConfig
from lit_vdistill.evaluation.questions import LoaderSize
from lit_vdistill.evaluation.run import Evaluation, ask
from lit_vdistill.evaluation.scoring import read_scores, score_run
from lit_vdistill.evaluation.tools import print_scores
from lit_vdistill.media.video import FrameConfig
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.rollouts.engine import SamplingConfig

OPTIONS = {
    "student": "Who is asked: an exported student, a folder or a hub id.",
    "data_root": "Folder of the benchmark's files.",
    "run_dir": "Folder of the answers; runs/evaluations/BENCHMARK/STUDENT where it is not named.",
    "overwrite": "Let it replace an evaluation of other settings in its folder.",
    "num_samples": "Sampled answers beside the greedy one, n of pass@k and mean@n.",
    "blind": "Ask without the media: what text alone answers.",
    "blind_run": "Folder of a blind run, whose scores stand beside.",
    "limit": "Ask the first so many questions alone, whole items; it is told beside the scores.",
    "cache_dir": "Where decoded frames are kept.",
}
_NETWORK_SKIPS: set[str | int] = {
    "path",
    "freeze_vision",
    "gradient_checkpointing",
    "router_loss_coef",
    "shared_prefix",
    "verify_shared_prefix",
}
"""What only training has use for."""
_TRAINER_SKIPS: set[str | int] = {"logger", "use_distributed_sampler"}
"""Scores go to files; questions are dealt to processes by us."""


def _folder(benchmark: str, student: str, mode: str = "") -> Path:
    path = Path(student)
    name = path.parent.name if path.name == "student" else path.name
    return Path("runs/evaluations") / benchmark / f"{name}{mode}"


def _named(engine: Any) -> dict[str, Any] | None:
    return None if engine is None else engine.as_dict()


def run(args: Sequence[str]) -> None:
    """Answer a benchmark's questions, score the answers, print the scores."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    hush()
    args = with_bases(args)
    let_users_modules_be_named()
    VDistillParser.started_in = Path.cwd()
    said = merged(named_files(args))
    if "tasks" in said and "benchmark" not in said:
        _by_lmms_eval(args)
        return
    parser = _parser()
    config = parser.parse_args(args)
    made = parser.instantiate(config)
    student = VLMConfig(path=config.student, **vars(made.network))
    with mistakes_told(of=("lit_vdistill",)):
        evaluation = Evaluation(
            benchmark=made.benchmark,
            named=config.benchmark.as_dict(),
            student=student,
            data_root=config.data_root,
            frames=made.frames,
            prompt=made.prompt,
            sampling=made.sampling,
            engine=_named(config.sampling.engine),
            num_samples=config.num_samples,
            is_blind=config.blind,
            limit=config.limit,
        )
        mode = "_blind" if config.blind else ""
        name = evaluation.benchmark.name
        folder = Path(config.run_dir or _folder(name, config.student, mode))
        trainer = Trainer(**vars(made.trainer), logger=False, use_distributed_sampler=False)
        ask(evaluation, trainer, folder, made.loader, config.cache_dir, overwrite=config.overwrite)
        if trainer.is_global_zero:
            blind = None if config.blind_run is None else Path(config.blind_run)
            print_scores(score_run(folder, made.benchmark, blind), folder)
        processes.leave()


def _by_lmms_eval(args: Sequence[str]) -> None:
    """What lmms-eval scores rightly, in its own environment."""
    parser = VDistillParser(prog=f"{PROG} evaluate run", parser_mode="omegaconf+")
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="YAML files; they merge.")
    parser.add_argument("--student", type=str, required=True, help=OPTIONS["student"])
    parser.add_argument("--run_dir", type=str | None, help=OPTIONS["run_dir"])
    names = parser.add_class_arguments(LmmsEvalConfig, None)
    made = parser.instantiate(parser.parse_args(args))
    config = LmmsEvalConfig(**{name: made[name] for name in names})
    folder = Path(made.run_dir or _folder("lmms_eval", made.student))
    with mistakes_told(of=("lit_vdistill",)):
        run_lmms_eval(config, made.student, str(folder))
    print_scores(read_scores(folder), folder)


def _parser() -> VDistillParser:
    parser = VDistillParser(prog=f"{PROG} evaluate run", parser_mode="omegaconf+")
    parser.add_argument("-c", "--config", action=ActionConfigFile, help="YAML files; they merge.")
    parser.add_argument("--base", type=str | list[str] | None, help="Files below a config.")
    parser.add_subclass_arguments(Benchmark, "benchmark", required=True)
    kinds: dict[str, dict[str, Any]] = {
        "student": {"type": str, "required": True},
        "data_root": {"type": str, "required": True},
        "run_dir": {"type": str | None, "default": None},
        "overwrite": {"action": "store_true"},
        "num_samples": {"type": int, "default": 0},
        "blind": {"action": "store_true"},
        "blind_run": {"type": str | None, "default": None},
        "limit": {"type": int | None, "default": None},
        "cache_dir": {"type": str | None, "default": None},
    }
    for name, kind in kinds.items():
        parser.add_argument(f"--{name}", help=OPTIONS[name], **kind)
    parser.add_class_arguments(FrameConfig, "frames")
    parser.add_class_arguments(PromptConfig, "prompt")
    parser.add_class_arguments(SamplingConfig, "sampling", skip={"overlap"})
    parser.add_class_arguments(LoaderSize, "loader")
    parser.add_class_arguments(VLMConfig, "network", skip=_NETWORK_SKIPS, instantiate=False)
    parser.add_class_arguments(
        Trainer, "trainer", skip=_TRAINER_SKIPS, fail_untyped=False, instantiate=False
    )
    return parser
