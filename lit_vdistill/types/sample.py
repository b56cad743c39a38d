"""A question about a medium, its task, and what is true of it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from lit_vdistill.types.media import Source

Span = tuple[float, float]
Box = tuple[float, float, float, float]
MediaType = Literal["video", "image", "text"]
Verdict = Literal["right", "wrong", "unclear"]
Envelope = Literal["strict", "lenient"]


class _Tasks(type):
    """Makes `Task` the list of all tasks: they can be counted, gone through and named."""

    def __iter__(cls) -> Iterator["Task"]:
        return iter(tuple(Task.known.values()))

    def __len__(cls) -> int:
        return len(Task.known)

    def __bool__(cls) -> bool:
        return True

    def __getattr__(cls, name: str) -> "Task":
        """`Task.MCQ` is the task that is named mcq."""
        if not name.isupper() or name.lower() not in Task.known:
            raise AttributeError(
                f"'{cls.__name__}' has no '{name}'; ours are in lit_vdistill.tasks"
            )
        return Task.known[name.lower()]


class Task(str, metaclass=_Tasks):
    """What a question asks for: its name, and all that follows from it.

    A class below this one with a `name` is a task once its module is imported; `Task("mcq")` and
    `Task.MCQ` give its one instance. Ours are in `lit_vdistill/tasks`. Whatever depends on the task
    of a sample asks it here, and keeps no list of tasks.
    """

    __slots__ = ()
    known: ClassVar[dict[str, "Task"]] = {}
    """All tasks by name."""

    name: ClassVar[str]
    """As in records and metric keys, `val/score/<name>`: lower case, no spaces."""
    is_closed_ended: ClassVar[bool] = True
    """Whether an answer can be verified against an annotation (R-MSD §3.3, task taxonomy)."""
    instruction: ClassVar[str] = ""
    """What follows the question in the template `grounded`: how to answer."""
    answers_span: ClassVar[bool] = False
    """Whether it is answered with a segment; the truth is the first of `evidence.spans`."""
    answers_box: ClassVar[bool] = False
    """Whether it is answered with a box; the truth is the first of `evidence.boxes`. In pixels it
    can be compared only where the size of the medium is known."""
    answers_track: ClassVar[bool] = False
    """Whether it is answered with boxes at given seconds; the truth is all of `evidence.boxes`."""
    answers_words: ClassVar[bool] = True
    """Whether it is answered with something else than a segment or a box, or with both."""
    reasons_at_moments: ClassVar[bool] = False
    """Whether the reasoning is to name objects with boxes at the key frames, `evidence.moments`."""
    judged_by: ClassVar[str] = "whether the answer means the same as the reference answer"
    """What a judge that reads text is told to look at first (VISD's release guides it by task)."""
    is_read_by_word: ClassVar[bool] = False
    """Whether `answer_marks` judges each word of an answer; then no facts are looked for in it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Make the one instance of a class that has a name.

        Raises:
            TypeError: For a name that another task has, or that is none; for a missing method.
        """
        super().__init_subclass__(**kwargs)
        if "name" not in vars(cls):
            return
        where = f"{cls.__module__}.{cls.__qualname__}"
        if not (cls.name.isidentifier() and cls.name == cls.name.lower()):
            raise TypeError(f"{where}: 'name' must be a lower-case word, got '{cls.name}'")
        if cls.name in Task.known:
            other = type(Task.known[cls.name])
            raise TypeError(f"{where}: {other.__module__} has a task '{cls.name}', choose another")
        if cls.is_closed_ended and cls.quality is Task.quality:
            raise TypeError(f"{where}: a closed-ended task needs the method 'quality'")
        has_both = cls.answers_words and (cls.answers_span or cls.answers_box)
        if has_both and cls.words_quality is Task.words_quality:
            raise TypeError(f"{where}: words beside a segment or box need 'words_quality'")
        Task.known[cls.name] = str.__new__(cls, cls.name)

    def __new__(cls, name: str) -> "Task":
        """The task of a name.

        Raises:
            ValueError: When there is none.
        """
        if name not in Task.known:
            raise ValueError(
                f"'task' must be one of {[str(task) for task in Task]}, got '{name}' (one of your "
                "own is known once its module is imported, as where YAML names a class of it)"
            )
        return Task.known[name]

    @property
    def answers_place(self) -> bool:
        """Whether it is answered with a segment or a box."""
        return self.answers_span or self.answers_box

    @property
    def needs_medium(self) -> bool:
        """Whether its answers or its reasoning are times and places in a medium."""
        return self.answers_place or self.answers_track or self.reasons_at_moments

    def check(self, sample: "VideoSample") -> None:
        """Whether a sample carries the truth that the task needs.

        Raises:
            ValueError: Names the key, what was expected and what came.
        """
        if self.answers_span and not sample.evidence.spans:
            raise ValueError(f"task '{self}' needs 'evidence.spans'")
        if (self.answers_box or self.answers_track) and not sample.evidence.boxes:
            raise ValueError(f"task '{self}' needs 'evidence.boxes'")
        if not sample.answer:
            raise ValueError("'answer' must not be empty")

    def true_answer(self, sample: "VideoSample") -> str:
        """The true answer as the task has it written, so that a replay can compare word by word."""
        return sample.answer

    def has_syntax(self, answer: str) -> bool:
        """Whether an answer is written as the task demands; free text must not be empty."""
        return bool(answer)

    def quality(self, answer: str, sample: "VideoSample", epsilon: float) -> float:
        """The metric of a closed-ended task, in [0, 1] (R-MSD §3.3.1).

        Args:
            answer: The inside of the answer block, whose syntax is valid.
            sample: The truth, its boxes in the units that the model writes.
            epsilon: Relative tolerance of numbers.
        """
        raise NotImplementedError(f"task '{self}' is open-ended, it has no metric")

    def words_quality(self, answer: str, sample: "VideoSample") -> float:
        """What the words beside a segment or a box are worth, in [0, 1]; of any answer."""
        raise NotImplementedError(f"task '{self}' has no words beside a segment or a box")

    def answer_marks(
        self, text: str, place: tuple[int, int], sample: "VideoSample", epsilon: float
    ) -> Iterable["Mark"]:
        """Which words of an answer are right and which wrong, but times, boxes and facts.

        Args:
            text: The whole response.
            place: The inside of its answer block, first character and the one behind the last.
            sample: The truth.
            epsilon: Relative tolerance of numbers.
        """
        return ()


@dataclass(frozen=True, slots=True)
class BoxAt:
    """An annotated object, e.g. `BoxAt(3.0, "red square", (8, 4, 20, 16))`."""

    time_s: float | None
    """Seconds from the start of the video; None for an image."""
    name: str
    """What the box encloses."""
    box: Box
    """In a record on disk a share of width and height; in a loaded item the model's units."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an annotator points at: `Evidence(spans=((2.0, 5.0),), boxes=(...))`."""

    spans: tuple[Span, ...] = ()
    """Annotated segments in seconds; the first is the answer of a temporal question."""
    boxes: tuple[BoxAt, ...] = ()
    """Annotated boxes; for spatial grounding the first is the answer."""
    key_times: tuple[float, ...] = ()
    """Seconds of annotated key frames; those of `boxes` need not stand here again."""

    @property
    def moments(self) -> tuple[float, ...]:
        """Seconds of all key frames, with boxes and without, in order, each once."""
        boxed = {found.time_s for found in self.boxes if found.time_s is not None}
        return tuple(sorted(boxed.union(self.key_times)))


@dataclass(frozen=True, slots=True)
class Facts:
    """What is true of a video in words: `Facts(({"colour": "red"},), {"colour": ("red", "blue")})`.

    What a right answer to an open question must state, and what its reasoning may rest on.
    """

    things: tuple[Mapping[str, str], ...] = ()
    """The facts of each thing that a question is about, by kind."""
    words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By kind, all words for it, right and wrong ones: two words of a kind exclude each other."""
    asked: tuple[str, ...] = ()
    """Kinds that a right answer must state of every thing; none for a closed question."""


@dataclass(frozen=True, slots=True)
class VideoSample:
    """One question about one medium: `VideoSample("v1", Task.MCQ, "What falls?", "A", …)`."""

    id: str
    """Unique in its file; joins the teacher pool."""
    task: Task
    question: str
    """The bare question, without options and without format instructions."""
    answer: str
    """The true answer: a letter, a number, a word or a sentence."""
    media: Source | None = None
    """None for a text-only sample."""
    media_type: MediaType = "video"
    options: tuple[str, ...] = ()
    """Texts of the options without letters, in the order A, B, C …"""
    as_written: str = ""
    """The question with its options as the record's authors put it; empty where it has no such."""
    demonstration: str = ""
    """A whole response that the record brings along, its boxes as shares of width and height."""
    evidence: Evidence = field(default_factory=Evidence)
    facts: Facts = field(default_factory=Facts)
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Whatever a record says beside; nothing is trained on it."""
    envelope: Envelope = "strict"
    """How responses to it are taken apart, `grammar.parse_response`; in a loaded item as
    `data.prompt.envelope` says, in a record on disk not there."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A part of a response, with what is known about it."""

    start: int
    """Its first character."""
    end: int
    """The one behind its last."""
    kind: str
    """`time`, `coordinate`, `letter`, `count`, `text`, `yes_no`, or one of the sample's facts."""
    verdict: Verdict
