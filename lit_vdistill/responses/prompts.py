"""How a question becomes a chat, in our own words to the papers' stated requirements."""

from collections.abc import Iterator, Mapping
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
    system: str = ""
    """System turn; left out when empty."""
    instructions: Mapping[Task, str] = field(default_factory=dict)
    """What follows the question, by task; a task that is not named gets nothing."""


class _OfTasks(Mapping[Task, str]):
    """The instructions that the tasks give themselves, also those that are added later."""

    def __getitem__(self, task: Task) -> str:
        if not task.instruction:
            raise KeyError(task)
        return task.instruction

    def __iter__(self) -> Iterator[Task]:
        return (task for task in Task if task.instruction)

    def __len__(self) -> int:
        return len(list(iter(self)))


_ENVELOPE = "Reason inside <think></think> first, then answer inside <answer></answer>."
GROUNDED = PromptTemplate(
    name="grounded",
    system="You answer questions about videos and images. " + _ENVELOPE,
    instructions=_OfTasks(),
)
"""For pretrained models: states the grammar that rewards check."""

SHORT = PromptTemplate(name="short")
"""For the tiny student, which learns the grammar from its targets: the bare question."""

TEMPLATES = {template.name: template for template in (GROUNDED, SHORT)}


def render_messages(sample: VideoSample, template: PromptTemplate) -> list[Message]:
    """The chat of one question: an optional system turn, then media, question and options."""
    lines = [sample.question]
    lines += [f"{chr(ord('A') + i)}. {text}" for i, text in enumerate(sample.options)]
    lines += [template.instructions[sample.task]] if sample.task in template.instructions else []
    content: list[Message] = [{"type": "text", "text": "\n".join(lines)}]
    if sample.media_type != "text":
        content.insert(0, {"type": sample.media_type})
    turns: list[Message] = [{"role": "user", "content": content}]
    if template.system:
        turns.insert(0, {"role": "system", "content": template.system})
    return turns


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
