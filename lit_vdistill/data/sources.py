"""Where records come from, and which of them are used."""

from collections.abc import Sequence
from dataclasses import dataclass

from lit_vdistill.pool.matching import uniform
from lit_vdistill.readers.records import MAX_TEXT_CHARS, BadSample, read_records
from lit_vdistill.readers.schema import MAX_OVERSHOOT_S
from lit_vdistill.types import VideoSample


@dataclass(frozen=True)
class TrainingFile:
    """Records of one file, or a part of them (R-MSD §4.1.1: 10 % of Video-R1, all of OpenO3)."""

    path: str
    """As `train_path`."""
    share: float = 1.0
    """Part of its records that is used, always the same ones, above 0 and up to 1."""

    def __post_init__(self) -> None:
        """Refuse a share that is none.

        Raises:
            ValueError: Names the file.
        """
        if not 0.0 < self.share <= 1.0:
            raise ValueError(
                f"data.sources.train_path: share of {self.path} must be above 0 and up to 1, got "
                f"{self.share}"
            )

    def of(self, samples: Sequence[VideoSample]) -> list[VideoSample]:
        """The samples that are used, in their order."""
        count = max(1, round(self.share * len(samples)))
        ranked = sorted(samples, key=lambda sample: uniform(0, "share", sample.id))
        kept = {sample.id for sample in ranked[:count]}
        return [sample for sample in samples if sample.id in kept]


@dataclass(frozen=True)
class SourceConfig:
    """Where records, media and teacher responses are."""

    train_path: str | list[TrainingFile]
    """Training records: .jsonl (own format), .json or .txt (`lit_vdistill/readers`); or several
    such files, each with the share of it that is used."""
    val_path: str
    """Held-out records, in any of these formats."""
    media_root: str
    """Media paths of records are below it."""
    pool_path: str | None = None
    """Teacher pool of the training records (JSONL)."""
    cache_dir: str | None = None
    """Where decoded frames are kept, named by content; None decodes every time."""
    max_bad_fraction: float = 0.01
    """Share of a split that may be unusable, over all processes; beyond it the run stops with the
    list. Within it another sample takes the place."""
    max_text_chars: int = MAX_TEXT_CHARS
    """Characters of a question with its options; a longer one is an unusable sample."""
    max_overshoot_s: float = MAX_OVERSHOOT_S
    """Seconds by which evidence of a training sample may lie behind its video's last frame."""
    instant_length_s: float = 0.0
    """Seconds that a true segment without length lasts in training; 0 leaves its sample out."""
    test_path: str | None = None
    """Records that are only reported, by the command `test`; nothing is chosen on them."""

    @property
    def training_files(self) -> list[TrainingFile]:
        """The files of `train_path`."""
        if isinstance(self.train_path, str):
            return [TrainingFile(self.train_path)]
        return self.train_path

    def read(
        self, path: str | Sequence[TrainingFile], key: str
    ) -> tuple[list[VideoSample], list[BadSample]]:
        """The samples of a split, and the records that are none; see `read_records`.

        Args:
            path: Its file, or its files.
            key: The option that names it, for errors.

        Raises:
            ValueError: When there is no file, and as `read_records`.
        """
        files = [TrainingFile(path)] if isinstance(path, str) else path
        if not files:
            raise ValueError(f"{key}: names no file, expected one at least")
        places: dict[str, str] = {}
        samples: list[VideoSample] = []
        bad: list[BadSample] = []
        for file in files:
            found, broken = read_records(file.path, self.max_text_chars, key)
            bad += broken
            for sample in file.of(found):
                if places.setdefault(sample.id, file.path) == file.path:
                    samples.append(sample)
                    continue
                reason = f"this id stands in {places[sample.id]} already; ids join the teacher pool"
                bad.append(BadSample(sample.id, file.path, reason))
        return samples, bad
