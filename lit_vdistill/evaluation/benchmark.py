"""What a benchmark is: a reader of its official files, and a metric."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lit_vdistill.readers.records import BadSample
from lit_vdistill.types import VideoSample


@dataclass(frozen=True, slots=True)
class Answered:
    """A question and what was answered: `Answered(sample, "<think>…</answer>", problem=None)`."""

    sample: VideoSample
    """With boxes in the units of the text."""
    text: str
    """The response; "" where there is none, as for a medium that cannot be read."""
    problem: str | None = None
    """Why there is none, or why it is cut off; it stays in the denominator."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one answer is worth: `Verdict({"accuracy": 0.0}, "no option's letter")`."""

    values: Mapping[str, float]
    """By score, in [0, 1]."""
    problem: str | None = None
    """Why nothing could be read from it; then its values are those of a wrong answer."""


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """What is averaged: a question, or several that are scored together."""

    id: str
    """Of the question, or of the item."""
    cluster: str
    """Its video: items of one are not independent."""
    values: Mapping[str, float]
    """By score; one that does not apply to the item is left out, and not counted in its mean."""
    groups: tuple[str, ...] = ()
    """Parts of the benchmark that are reported by themselves, e.g. `duration/short`."""
    questions: tuple[str, ...] = ()
    """Ids of its questions; none where its own is the only one."""


@dataclass(frozen=True, slots=True)
class Published:
    """A row of a paper's table: another model, other data; shown beside ours, never compared."""

    model: str
    source: str
    """Paper and table, with the setting where it is told."""
    values: Mapping[str, float]
    """By score, as ours, fractions; of a part of the benchmark by `<group>/<score>`."""


@dataclass(frozen=True, slots=True)
class Needed:
    """A file or folder that a benchmark reads: `Needed("V_STaR_test.json", "2 094 items", …)`."""

    path: str
    """Below the data root."""
    what: str
    """What it is and of what size, as far as known."""
    described_at: str
    """Where the publisher describes how to get it."""


class Benchmark(ABC):
    """Reads official files, and scores answers to their questions.

    Samples tell the rest in `meta`, all plain values: `video` (its cluster), `groups` (a list, as
    in `ScoredItem`), `item` where several questions are scored together, `kind` (which of the
    benchmark's prompts a question takes from a template file), and `fills` (texts that such a
    prompt may name; `question` is the bare one where the sample's own has words of ours in it).
    """

    name: ClassVar[str]
    """As in file names: lower case, no spaces."""
    headline: ClassVar[str]
    """The score that stands first, and by which students are compared."""
    scores: Mapping[str, str]
    """What each score is, in a few words, in the order of the report; those of items, and derived
    ones. Of the class, or of an instance where its switches change what a score is."""
    right: ClassVar[str]
    """The value of a verdict that is 1 for a right answer and 0 for another: of pass@k and mean@n.
    A verdict without it is of a question that has no right answer."""
    needed: tuple[Needed, ...]
    published: ClassVar[tuple[Published, ...]] = ()
    remarks: tuple[str, ...] = ()
    """What who reads a report should know: deviations from the official script, and its quirks."""

    @abstractmethod
    def read(self, root: Path) -> tuple[list[VideoSample], list[BadSample]]:
        """The questions, and the records that are none.

        An evaluation stops at the latter: without them the denominator would be another. There is
        one for each item: where several questions are scored together and one is broken, one for
        all of them.

        Args:
            root: Folder of the official files.

        Raises:
            FileNotFoundError: Names what is missing.
            ValueError: When a file as a whole is not what it should be.
        """

    @abstractmethod
    def verdicts(self, answered: Sequence[Answered]) -> list[Verdict]:
        """What each answer is worth by itself."""

    def by_rules(self) -> "Benchmark":
        """The same without a model that rates answers, for what is shown as a run goes on."""
        return self

    def items(self, answered: Sequence[Answered], verdicts: Sequence[Verdict]) -> list[ScoredItem]:
        """What is averaged; by default each question by itself.

        Raises:
            ValueError: When questions of an item are missing.
        """
        return [
            ScoredItem(one.sample.id, cluster_of(one.sample), verdict.values, groups_of(one.sample))
            for one, verdict in zip(answered, verdicts, strict=True)
        ]

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        """Scores that are functions of means over the whole set or over one of its groups.

        Args:
            means: By score; those without an item are missing.
        """
        return {}

    def num_options(self, sample: VideoSample) -> int | None:
        """How many answers a guess chooses from; None where guessing has no such number."""
        return len(sample.options) or None


def cluster_of(sample: VideoSample) -> str:
    """The video that a question is about."""
    return str(sample.meta.get("video") or sample.media or sample.id)


def groups_of(sample: VideoSample) -> tuple[str, ...]:
    """Parts of the benchmark that a question belongs to."""
    return tuple(map(str, sample.meta.get("groups", ())))


def rows_of_table(
    source: str, scores: Sequence[str], rows: Mapping[str, Sequence[float | None]]
) -> tuple[Published, ...]:
    """The rows of a paper's table.

    Args:
        source: Paper and table.
        scores: What its columns are.
        rows: Per cent by model, as printed; None where nothing is.
    """
    return tuple(
        Published(
            model,
            source,
            {k: v / 100 for k, v in zip(scores, values, strict=True) if v is not None},
        )
        for model, values in rows.items()
    )
