"""How a question becomes a chat, in our own words to the papers' stated requirements."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from lit_vdistill.responses.writing import tagged_box, tagged_span
from lit_vdistill.types import Task, VideoSample

Conditioning = Literal["none", "answer", "evidence", "feedback"]
"""What a privileged teacher knows; each has what stands before it too."""

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
    """
    lines = [sample.question]
    lines += [f"{chr(ord('A') + i)}. {text}" for i, text in enumerate(sample.options)]
    if template.keeps_question and sample.as_written:
        lines = [sample.as_written]
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


def _frame_lines(frames: FrameLines) -> Iterator[Message]:
    for number, label in enumerate(frames.labels, 1):
        yield {"type": "text", "text": f"Frame {number}, {label}: "}
        yield {"type": "image"}
        yield {"type": "text", "text": "\n"}
    yield {"type": "text", "text": f"The video lasts {int(frames.length_s)}s.\n"}


def privileged_text(sample: VideoSample, conditioning: Conditioning, feedback: str | None) -> str:
    """What is added to the question for the teacher that replays (VISD §3.2); may be empty.

    The paper does not print these words. Feedback is put as being on an earlier answer, though it
    is on the rollout that is replayed: told that what follows is wrong, a faithful network finds
    the wrong tokens more probable, and not less.

    Args:
        sample: The question with its true answer and evidence, boxes in the model's units.
        conditioning: How much of it the teacher is told.
        feedback: What the judge says about the rollout; None where there is none.
    """
    if conditioning == "none":
        return ""
    lines = ["", f"The right answer is <answer>{sample.task.true_answer(sample)}</answer>"]
    if conditioning in ("evidence", "feedback"):
        lines += [f"Seen from {tagged_span(span)}." for span in sample.evidence.spans]
        for found in sample.evidence.boxes:
            when = "" if found.time_s is None else f"at<t>{round(found.time_s, 2)}</t>s"
            lines.append(tagged_box(found) + when)
    if conditioning == "feedback" and feedback is not None:
        lines.append(f"Feedback on an earlier answer: {feedback}")
    return "\n".join(lines)
