"""How a question becomes a chat, in our own words to the papers' stated requirements."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lit_vdistill.responses.writing import tagged_box, tagged_span, tagged_time
from lit_vdistill.types import Span, Task, VideoSample

Conditioning = Literal["none", "answer", "evidence", "feedback"]
"""What a privileged teacher knows; each has what stands before it too."""

EvidenceTold = Literal["times", "boxes"]
FeedbackAs = Literal["correction", "earlier_answer"]

Message = dict[str, object]
"""One chat turn as a Hugging Face chat template takes it."""


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """The words around a question."""

    name: str
    system: str | Mapping[Task, str] = ""
    """System turn, one for all tasks or by task; left out when empty."""
    instructions: Mapping[Task, str] = field(default_factory=dict)
    """What follows the question, by task; a task that is not named gets nothing."""
    keeps_question: bool = False
    """Whether a question stands with its options as its authors put them, where that is known."""
    questions: Mapping[str, str] = field(default_factory=dict)
    """What stands in place of question and options, by `meta["kind"]` or else by task; in it the
    names of `_filled` are replaced. So a benchmark's official prompt can be given."""
    file: str = ""
    """Where it was read from, for errors."""

    def system_of(self, task: Task) -> str:
        """The system turn of a task."""
        return self.system if isinstance(self.system, str) else self.system.get(task, "")


@dataclass(frozen=True, slots=True)
class FrameLines:
    """What is said of a video whose frames stand in the prompt as images of their own."""

    labels: tuple[str, ...]
    """When each shows, in the order in which they stand."""
    length_s: float


@dataclass(frozen=True)
class _OfTasks(Mapping[Task, str]):
    """A text for each task that says how to answer, also for those that are added later."""

    write: Callable[[str], str] = str
    """From the task's own instruction."""

    def __getitem__(self, task: Task) -> str:
        if not task.instruction:
            raise KeyError(task)
        return self.write(task.instruction)

    def __iter__(self) -> Iterator[Task]:
        return (task for task in Task if task.instruction)

    def __len__(self) -> int:
        return len(list(iter(self)))


_NAME = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_SYSTEM = (
    "You answer questions about videos and images. "
    "Reason inside <think></think> first, then answer inside <answer></answer>."
)
GROUNDED = PromptTemplate(name="grounded", system=_SYSTEM, instructions=_OfTasks())
"""For pretrained models: states the grammar that rewards check."""

INSTRUCTED = PromptTemplate(
    name="instructed", system=_OfTasks(f"{_SYSTEM} {{}}".format), keeps_question=True
)
"""The same in a system turn for each task, and nothing behind the question, as VISD's release and
its kin put it."""

SHORT = PromptTemplate(name="short")
"""For the tiny student, which learns the grammar from its targets: the bare question."""

TEMPLATES = {template.name: template for template in (GROUNDED, INSTRUCTED, SHORT)}


def render_messages(
    sample: VideoSample, template: PromptTemplate, frames: FrameLines | None = None
) -> list[Message]:
    """The chat of one question: an optional system turn, then media, question and options.

    Args:
        sample: The question.
        template: The words around it.
        frames: Of a video that is shown as images, each with a line of its own; None otherwise.

    Raises:
        ValueError: When the template's text for the question names what the question does not have.
    """
    lines = [sample.question, *_lettered(sample)]
    if template.keeps_question and sample.as_written:
        lines = [sample.as_written]
    kinds = (str(sample.meta.get("kind", "")), str(sample.task))
    if kind := next((kind for kind in kinds if kind in template.questions), None):
        lines = [_filled(template.questions[kind], sample, f"{template.file}: questions.{kind}")]
    lines += [template.instructions[sample.task]] if sample.task in template.instructions else []
    content: list[Message] = [{"type": "text", "text": "\n".join(lines)}]
    if frames is not None:
        content = [*_frame_lines(frames), *content]
    elif sample.media_type != "text":
        content.insert(0, {"type": sample.media_type})
    turns: list[Message] = [{"role": "user", "content": content}]
    if system := template.system_of(sample.task):
        turns.insert(0, {"role": "system", "content": system})
    return turns


def _lettered(sample: VideoSample) -> list[str]:
    return [f"{chr(ord('A') + i)}. {text}" for i, text in enumerate(sample.options)]


def _filled(text: str, sample: VideoSample, place: str) -> str:
    """A text whose `{names}` are replaced; braces around anything but a lower-case name stay.

    Every question has `{question}`, `{options}`, a line each, and `{letters}`, as in `A, B, C`;
    its `meta["fills"]` has more, or has a bare question in place of its own.
    """
    letters = ", ".join(chr(ord("A") + i) for i in range(len(sample.options)))
    known = {"question": sample.question, "options": "\n".join(_lettered(sample))}
    known |= {"letters": letters, **sample.meta.get("fills", {})}
    if unknown := sorted({name for name in _NAME.findall(text) if name not in known}):
        raise ValueError(
            f"{place} names {{{unknown[0]}}}, sample {sample.id} has {sorted(known)}; write other "
            "braces with a space behind the first"
        )
    return _NAME.sub(lambda found: str(known[found.group(1)]), text)


def _frame_lines(frames: FrameLines) -> Iterator[Message]:
    for number, label in enumerate(frames.labels, 1):
        yield {"type": "text", "text": f"Frame {number}, {label}: "}
        yield {"type": "image"}
        yield {"type": "text", "text": "\n"}
    yield {"type": "text", "text": f"The video lasts {int(frames.length_s)}s.\n"}


@dataclass(frozen=True)
class Telling:
    """What a privileged teacher is told, and how (VISD §3.2)."""

    conditioning: Conditioning = "feedback"
    """How much: `none`, the `answer`, with `evidence`, with `feedback` too."""
    evidence: EvidenceTold = "times"
    """`times`: as VISD's release, the segment where it is asked for and the key times where the
    reasoning is to name them, no box and no name; `boxes`: all that is annotated."""
    feedback_as: FeedbackAs = "correction"
    """`correction`: as VISD's release, what is to be corrected; `earlier_answer`: on an answer that
    was given before. Told that what follows is wrong, a network that believes it finds the wrong
    tokens more probable, and not less."""


_FEEDBACK: Mapping[FeedbackAs, str] = {
    "correction": "Feedback by which an answer to it is to be corrected",
    "earlier_answer": "Feedback on an earlier answer",
}


def privileged_text(sample: VideoSample, telling: Telling, feedback: str | None) -> str:
    """What is added to the question for the teacher that replays (VISD §3.2); may be empty.

    In the order of VISD's release: what it is, answer, segment, key times, feedback; the words are
    ours, the paper prints none. The answer is in the syntax of its task, where the release has the
    data's own: a box of a visual question is in other units there than those that are seen.

    Args:
        sample: The question with its true answer and evidence, boxes in the model's units.
        telling: How much of it the teacher is told, and how.
        feedback: What the judge says about a response; None where there is none.
    """
    if telling.conditioning == "none":
        return ""
    lines = ["", "Verified, and hidden from who answers:"]
    lines.append(f"The right answer is <answer>{sample.task.true_answer(sample)}</answer>")
    if telling.conditioning in ("evidence", "feedback"):
        lines += _EVIDENCE[telling.evidence](sample)
    if telling.conditioning == "feedback" and feedback is not None:
        lines.append(f"{_FEEDBACK[telling.feedback_as]}: {feedback}")
    return "\n".join(lines)


def _when(sample: VideoSample) -> list[str]:
    """The segment and the key times of a question that is about them."""
    spans = sample.evidence.spans[:1] if sample.task.answers_span else ()
    moments = sample.evidence.moments if sample.task.reasons_at_moments else ()
    return [*map(_seen, spans), *_at(moments)]


def _when_and_where(sample: VideoSample) -> list[str]:
    """Every segment, every box with its name and time, and the key times without a box."""
    boxes = sample.evidence.boxes
    told = {found.time_s for found in boxes}
    lines = list(map(_seen, sample.evidence.spans))
    for found in boxes:
        when = "" if found.time_s is None else f"at{tagged_time(found.time_s)}"
        lines.append(tagged_box(found) + when)
    return [*lines, *_at([time for time in sample.evidence.moments if time not in told])]


def _seen(span: Span) -> str:
    return f"Seen from {tagged_span(span)}."


def _at(moments: Sequence[float]) -> list[str]:
    return [f"Key moments: {', '.join(map(tagged_time, moments))}."] if moments else []


_EVIDENCE: Mapping[EvidenceTold, Callable[[VideoSample], list[str]]] = {
    "times": _when,
    "boxes": _when_and_where,
}
