"""Asking a student a benchmark's questions: Lightning's test loop, stopped and gone on at will."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning.pytorch import Trainer

from lit_vdistill.data.dataset import PromptDataset
from lit_vdistill.data.prompt_config import PromptConfig
from lit_vdistill.evaluation import settings
from lit_vdistill.evaluation.benchmark import Benchmark
from lit_vdistill.evaluation.files import missing_media
from lit_vdistill.evaluation.module import EvaluationModule
from lit_vdistill.evaluation.questions import LoaderSize, QuestionData
from lit_vdistill.media.video import FrameConfig, MediaReader
from lit_vdistill.models.families import family_of_processor
from lit_vdistill.models.vlm import VLMConfig, load_processor
from lit_vdistill.readers.templates import load_template
from lit_vdistill.responses.prompts import PromptTemplate
from lit_vdistill.rollouts.engine import SamplingConfig
from lit_vdistill.types import VideoSample

logger = logging.getLogger(__name__)
_SHOWN = 5


@dataclass(frozen=True)
class Evaluation:
    """What is asked, of whom, and how."""

    benchmark: Benchmark
    named: dict[str, Any]
    """The benchmark as a config names it: `class_path` and `init_args`."""
    student: VLMConfig
    data_root: str
    """Folder of the benchmark's files."""
    frames: FrameConfig
    prompt: PromptConfig
    sampling: SamplingConfig
    """How long answers may be, and how those beside the greedy one are drawn."""
    engine: dict[str, Any] | None
    """`sampling.engine` as a config names it."""
    num_samples: int
    """n, of pass@k and mean@n."""
    is_blind: bool
    """Whether questions come without their medium."""
    limit: int | None
    """The first so many questions, whole items; None for all."""

    def described(self, samples: Sequence[VideoSample], processor: Any) -> dict[str, Any]:
        """All that answers depend on, as plain values."""
        family = family_of_processor(processor)
        units = self.prompt.box_units or family.box_units
        return {
            "benchmark": self.named,
            "student": self.student.path,
            "weights": settings.weights_of(self.student.path),
            "network": {k: v for k, v in asdict(self.student).items() if k in _OF_NETWORK},
            "data_root": self.data_root,
            "questions": settings.questions_of(samples),
            "frames": {**asdict(self.frames), "factor": family.frame_factor(processor)},
            "prompt": {
                **asdict(replace(self.prompt, box_units=units)),
                "words": _words_of(load_template(self.prompt.template)),
            },
            "sampling": {
                **asdict(replace(self.sampling, engine=None)),
                "engine": None if self.engine is None else self.engine["class_path"],
            },
            "engine": self.engine,
            "num_samples": self.num_samples,
            "blind": self.is_blind,
            "limit": self.limit,
            "versions": settings.versions(),
        }


def _words_of(template: PromptTemplate) -> dict[str, Any]:
    """All that a template says, by task where it differs."""
    system = template.system
    return {
        "name": template.name,
        "system": system if isinstance(system, str) else _plain(system),
        "instructions": _plain(template.instructions),
        "questions": _plain(template.questions),
        "keeps_question": template.keeps_question,
    }


def _plain(texts: Mapping[Any, str]) -> dict[str, str]:
    return {str(key): texts[key] for key in texts}


_OF_NETWORK = ("attn_implementation", "dtype")


def ask(
    evaluation: Evaluation,
    trainer: Trainer,
    folder: Path,
    size: LoaderSize,
    cache_dir: str | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Leave every answer in `predictions.jsonl`, and what they depend on in `run.json`.

    Answers that an earlier call of the same settings has left are not asked for again, wherever it
    was stopped. A question whose medium cannot be read stands there without an answer.

    Args:
        evaluation: What is asked, of whom, and how.
        trainer: Whose test loop it is.
        folder: Of the run.
        size: How questions become batches.
        cache_dir: Where decoded frames are kept; None decodes every time.
        overwrite: Whether what an evaluation of other settings has left there may be deleted.

    Raises:
        ValueError: For records that are none, for a root below which no medium is, and for a
            folder of other settings.
    """
    root, processor = Path(evaluation.data_root), load_processor(evaluation.student.path)
    samples = _samples(evaluation, root)
    lock = FileLock(folder / ".lock")
    if trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise ValueError(f"run_dir {folder}: another evaluation is writing into it") from error
        _settle(evaluation.described(samples, processor), folder, overwrite=overwrite)
    try:
        factor = family_of_processor(processor).frame_factor(processor)
        reader = MediaReader(str(root), evaluation.frames, factor=factor, cache_dir=cache_dir)
        template = load_template(evaluation.prompt.template)
        dataset = PromptDataset(samples, {}, reader, processor, template, evaluation.prompt)
        module = EvaluationModule(
            evaluation.student,
            evaluation.sampling,
            evaluation.num_samples,
            evaluation.benchmark,
            samples,
            folder,
        )
        trainer.test(module, datamodule=QuestionData(dataset, size), verbose=False)
    finally:
        lock.release()


def _samples(evaluation: Evaluation, root: Path) -> list[VideoSample]:
    """The questions, as they are put.

    Raises:
        ValueError: For records that are none: without them the denominator would be another.
    """
    samples, bad = evaluation.benchmark.read(root)
    if bad:
        listed = "\n  ".join(map(str, bad[:_SHOWN]))
        raise ValueError(
            f"{evaluation.benchmark.name}: {len(bad)} records below {root} cannot be used, and "
            f"none may be left out of a benchmark:\n  {listed}"
        )
    samples = [
        replace(sample, envelope=evaluation.prompt.envelope)
        for sample in _first(samples, evaluation.limit)
    ]
    if evaluation.is_blind:
        return [_blind(sample) for sample in samples]
    _check_media(samples, root)
    return samples


def _first(samples: list[VideoSample], limit: int | None) -> list[VideoSample]:
    """The first so many questions, and those that are scored together with one of them."""
    if limit is None:
        return samples
    ids = {sample.id for sample in samples[:limit]}
    items = {sample.meta["item"] for sample in samples[:limit] if "item" in sample.meta}
    return [one for one in samples if one.id in ids or one.meta.get("item") in items]


def _blind(sample: VideoSample) -> VideoSample:
    """The question without its medium, which goes on to name what it was about."""
    meta = {"video": str(sample.media or sample.id)} | dict(sample.meta)
    return replace(sample, media=None, media_type="text", meta=meta)


def _check_media(samples: Sequence[VideoSample], root: Path) -> None:
    """Say which media are not there; questions about them count as wrong.

    Raises:
        ValueError: When none is there: then the root is wrong.
    """
    found = {sample.media for sample in samples if sample.media is not None}
    missing = missing_media(samples, root)
    if found and len(missing) == len(found):
        raise ValueError(
            f"data_root {root}: not one of {len(found)} media is there, e.g. {missing[0]}; name "
            "the folder that records' paths begin in (evaluate check says what is missing)"
        )
    if missing:
        logger.warning(
            "%d of %d media are missing, and questions about them count as wrong: %s%s",
            len(missing), len(found), ", ".join(map(str, missing[:_SHOWN])),
            " …" if len(missing) > _SHOWN else "",
        )  # fmt: skip


def _settle(described: dict[str, Any], folder: Path, *, overwrite: bool) -> None:
    """Take a folder: a new one, or one whose answers depend on the same.

    Raises:
        ValueError: When they depend on something else.
    """
    if (folder / settings.FILE).is_file() and not overwrite:
        before = settings.read_settings(folder)
        if found := settings.differences(before, described):
            listed = "\n  ".join(found)
            raise ValueError(
                f"run_dir {folder} holds an evaluation of other settings; name another folder "
                f"(--run_dir), or let this one replace it (--overwrite):\n  {listed}"
            )
    elif overwrite:
        for file in folder.glob("*.json*"):
            file.unlink()
    settings.write_settings(folder, described)
