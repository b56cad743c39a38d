"""The one data module, shared by every stage: media, questions and the teacher pool."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Sampler

from lit_vdistill import processes
from lit_vdistill.data.batch import Item, PromptBatch
from lit_vdistill.data.dataset import PromptDataset
from lit_vdistill.data.ledger import BadSampleLedger
from lit_vdistill.data.mixture import Mixture, difficulties, mixture_order
from lit_vdistill.data.prompt_config import PromptConfig
from lit_vdistill.data.sampler import ShardedEvalSampler, StreamSampler, medium_order
from lit_vdistill.data.sources import SourceConfig, TrainingFile
from lit_vdistill.data.stand_ins import StandInDataset, collate_places
from lit_vdistill.data.window import StreamState, WindowLoader, WindowTurn
from lit_vdistill.media.video import FrameConfig, MediaReader
from lit_vdistill.models.families import family_of_processor
from lit_vdistill.models.vlm import load_processor
from lit_vdistill.pool.box_scale import check_box_scale
from lit_vdistill.pool.store import PoolStore, report_unmatched
from lit_vdistill.pool.text_units import demonstrations
from lit_vdistill.readers.records import BadSample, with_length
from lit_vdistill.readers.templates import load_template
from lit_vdistill.types import TeacherResponse
from lit_vdistill.world.build import build_world
from lit_vdistill.world.config import WorldConfig


@dataclass(frozen=True)
class LoaderConfig:
    """How items become windows and batches."""

    batch_size: int = 8
    """Prompts a process and optimizer step, its window; they go through the networks in
    `trainer.accumulate_grad_batches` pieces."""
    val_batch_size: int = 8
    """Prompts a process and validation step."""
    num_workers: int = 0
    """Processes that load ahead; 0 loads in the training process."""
    seed: int = 0
    """Seed of the order of samples."""
    by_medium: bool = False
    """Whether questions about one medium come in one window: SFT runs its tokens once for all."""
    memory_gib: float = 0.0
    """Memory in which each loading process keeps encoded samples; 0 encodes them every epoch."""


class VideoDistillDataModule(LightningDataModule):
    """Prompts with their media and, for training, their teacher pool.

    A sample that cannot be read is counted, named and left out within a budget; another stands in
    for it. The position in the data is saved in checkpoints: a resumed run sees what an
    uninterrupted one sees.
    """

    def __init__(
        self,
        processor: str,
        sources: SourceConfig,
        frames: FrameConfig = FrameConfig(),
        prompt: PromptConfig = PromptConfig(),
        loader: LoaderConfig = LoaderConfig(),
        world: WorldConfig | None = None,
    ) -> None:
        """Set up; files are read in `setup`.

        Args:
            processor: Model path whose processor encodes the prompts.
            sources: Where records, media and teacher responses are.
            frames: Which frames are read and how large they are.
            prompt: How a question is put and how boxes are written.
            loader: How items become batches.
            world: Render the embedded world into `sources.media_root` first; None for real data.
        """
        super().__init__()
        self.processor_path = processor
        self.sources, self.frames, self.prompt = sources, frames, prompt
        self.loader, self.world = loader, world
        self.mixture: Mixture | None = None
        """What is drawn when, if not everything once an epoch; `Curriculum` sets it."""
        self._windows: WindowLoader | None = None
        self._resume = StreamState()
        self.ledgers: dict[str, BadSampleLedger] = {}
        """By split, what was left out, over all processes."""

    def prepare_data(self) -> None:
        """Render the embedded world where it is asked for and missing."""
        if self.world is not None:
            build_world(self.sources.media_root, self.world)

    def setup(self, stage: str) -> None:
        """Read records and pool, count what cannot be used.

        Raises:
            ValueError: When the test split is asked for and none is named; for a pool of other
                records, or whose boxes are in other units than the student's.
        """
        self.processor = load_processor(self.processor_path)
        self.template = load_template(self.prompt.template)
        self.reader = MediaReader(
            self.sources.media_root,
            self.frames,
            factor=family_of_processor(self.processor).frame_factor(self.processor),
            cache_dir=self.sources.cache_dir,
        )
        self.ledgers = {}
        if stage == "test":
            if self.sources.test_path is None:
                raise ValueError(
                    "data.sources.test_path names no records: name those that `test` reports on"
                )
            self.test_set = self._dataset("test", self.sources.test_path, {})
            return
        self.val_set = self._dataset("validation", self.sources.val_path, {})
        if stage == "fit":
            asked = PoolStore(self.sources.pool_path).load() if self.sources.pool_path else None
            self.train_set = self._dataset("training", self.sources.train_path, asked)
            ids = {sample.id for sample in self.train_set.samples}
            report_unmatched(ids, asked or {}, self.sources.pool_path)
            if self.train_set.box_units == "thousandths":
                check_box_scale(self.train_set.samples, asked or {}, self.sources.pool_path)

    def train_dataloader(self) -> WindowLoader:
        """Windows in an order by (seed, epoch), turn by turn, resumable."""
        assert self.trainer is not None
        stage: Any = self.trainer.lightning_module
        self.train_set.show_teacher(stage.teacher_view)
        sampler = StreamSampler(
            len(self.train_set),
            seed=self.loader.seed,
            rank=self.trainer.global_rank,
            world_size=self.trainer.world_size,
            window_size=self.loader.batch_size,
            order=self._order(stage),
        )

        places = self._stand_ins("training", self.train_set, sampler.candidates)

        def stream(start: int) -> Iterator[tuple[Item | BadSample, ...]]:
            sampler.start = start
            # No batches: windows of items may be filled up from the stream.
            return iter(self._loader(places, sampler, None))

        self._windows = WindowLoader(
            stream,
            self.train_set,
            window_size=self.loader.batch_size,
            windows_per_epoch=sampler.per_epoch // self.loader.batch_size,
            num_pieces=self.trainer.accumulate_grad_batches,
            num_updates=stage.updates_per_window,
            state=self._resume,
            looks_ahead=stage.looks_ahead,
        )
        return self._windows

    def _order(self, stage: Any) -> Callable[[int], list[int]] | None:
        """Indices by epoch; None shuffles."""
        assert self.trainer is not None
        if self.loader.by_medium and self.mixture is not None:
            raise ValueError(
                "data.loader.by_medium: expected false beside callbacks.Curriculum, which draws "
                "every question by its own weight; leave one of them out"
            )
        if self.loader.by_medium:
            return partial(
                medium_order,
                [sample.media for sample in self.train_set.samples],
                seed=self.loader.seed,
                world_size=self.trainer.world_size,
                window_size=self.loader.batch_size,
            )
        return None if self.mixture is None else self._mixed_order(self.mixture, stage)

    def _mixed_order(self, mixture: Mixture, stage: Any) -> Callable[[int], list[int]]:
        assert self.trainer is not None
        hardness = difficulties(self.train_set.mean_qualities())
        tasks = [str(sample.task) for sample in self.train_set.samples]
        return partial(
            mixture_order,
            list(zip(tasks, hardness, strict=True)),
            mixture,
            seed=self.loader.seed,
            window_size=self.loader.batch_size * self.trainer.world_size,
            updates_per_window=stage.updates_per_window,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Every held-out sample once, in order."""
        return self._held_out(self.val_set)

    predict_dataloader = val_dataloader

    def test_dataloader(self) -> DataLoader[Any]:
        """Every sample of the test split once, in order."""
        return self._held_out(self.test_set)

    def _held_out(self, dataset: PromptDataset) -> DataLoader[Any]:
        assert self.trainer is not None
        sampler = ShardedEvalSampler(
            len(dataset), rank=self.trainer.global_rank, world_size=self.trainer.world_size
        )
        places = self._stand_ins(self._held_out_split, dataset, sampler.candidates)
        return self._loader(places, sampler, self.loader.val_batch_size)

    def _stand_ins(
        self, split: str, dataset: PromptDataset, candidates: Callable[[int], Iterator[int]]
    ) -> StandInDataset:
        return StandInDataset(dataset, candidates, self.ledgers[split].allowed)

    @property
    def _held_out_split(self) -> str:
        assert self.trainer is not None
        return "test" if self.trainer.testing else "validation"

    def on_before_batch_transfer(
        self, batch: PromptBatch | WindowTurn, dataloader_idx: int
    ) -> PromptBatch | WindowTurn:
        """Count the bad samples of a batch or window; all processes come here together.

        Raises:
            ValueError: When the budget is exceeded or a process has less to do than the others.
        """
        if isinstance(batch, WindowTurn):
            ledger = self.ledgers["training"]
            batch.on_draw = ledger.add_batch
            if batch.is_first:
                ledger.add_batch(batch.window)
            batch.left_out = len(ledger.bad)
        else:
            self.ledgers[self._held_out_split].add_batch(batch)
        return batch

    def state_dict(self) -> dict[str, Any]:
        """The place in the stream, over all processes, the open window, and what was left out."""
        state = self._resume if self._windows is None else self._windows.state
        return {
            "samples": state.samples * processes.world_size(),
            "samples_per_step": self.loader.batch_size * processes.world_size(),
            "update": state.update,
            "windows": [list(window) for window in processes.gather(state.window)],
            "left_out": [list(astuple(bad)) for bad in self.ledgers["training"].bad.values()],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume where a checkpoint was written; to validate it, any number of processes will do.

        Raises:
            ValueError: When a step now has another number of samples, or a window's updates are to
                go on with another number of processes.
        """
        if self.trainer is not None and self.trainer.state.fn != "fit":
            return
        count = processes.world_size()
        now, then = self.loader.batch_size * count, state_dict["samples_per_step"]
        if now != then:
            raise ValueError(
                f"the checkpoint's steps have {then} samples, this run's have {now}: {count} "
                f"processes x data.loader.batch_size {self.loader.batch_size}; set the batch size "
                f"so that the product is {then}"
            )
        windows = state_dict["windows"]
        if state_dict["update"] and len(windows) != count:
            raise ValueError(
                "the checkpoint was written between two updates of one window "
                f"(loss.updates_per_rollout) on {len(windows)} processes and resumes on as many, "
                f"got {count}; resume from a checkpoint at the end of a window"
            )
        window = tuple(windows[processes.rank()]) if state_dict["update"] else ()
        self._resume = StreamState(state_dict["samples"] // count, state_dict["update"], window)
        self.ledgers["training"].add([BadSample(*bad) for bad in state_dict.get("left_out", ())])

    def _dataset(
        self,
        split: str,
        path: str | list[TrainingFile],
        asked: Mapping[str, tuple[TeacherResponse, ...]] | None,
    ) -> PromptDataset:
        """One split; where no teacher was asked, with the demonstrations of its records."""
        key = f"data.sources.{'val' if split == 'validation' else split.removesuffix('ing')}_path"
        samples, bad = self.sources.read(path, key)
        samples = [replace(sample, envelope=self.prompt.envelope) for sample in samples]
        total, is_trained_on = len(samples) + len(bad), split == "training"
        if is_trained_on:
            samples, instants = with_length(samples, self.sources.instant_length_s)
            bad += instants
        self.ledgers[split] = BadSampleLedger(split, total, self.sources.max_bad_fraction)
        self.ledgers[split].add(bad)
        return PromptDataset(
            samples,
            demonstrations(samples) if asked is None else asked,
            self.reader,
            self.processor,
            self.template,
            self.prompt if is_trained_on else replace(self.prompt, key_frames=False),
            self.loader.memory_gib,
            self.sources.max_overshoot_s if is_trained_on else math.inf,
        )

    def _loader(
        self, dataset: StandInDataset, sampler: Sampler[int], batch_size: int | None
    ) -> DataLoader[Any]:
        """Batches, or single items where there is no batch size; two batches are loaded ahead."""
        workers = self.loader.num_workers
        ahead = 2 if batch_size else max(2, 2 * self.loader.batch_size // max(workers, 1))
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=workers,
            prefetch_factor=ahead if workers else None,
            collate_fn=collate_places if batch_size else _as_it_is,
            persistent_workers=workers > 0,
            # A generator of its own: creating an iterator draws from the global one otherwise,
            # which a resumed run does once more than an uninterrupted one.
            generator=torch.Generator().manual_seed(self.loader.seed),
        )


def _as_it_is(item: Any) -> Any:
    return item
