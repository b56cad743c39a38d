"""What a model that judges is told, in our own words to the requirements of VISD Appendix G."""

import hashlib
import json
import re

from lit_vdistill import jsonl
from lit_vdistill.judge.judge import JudgeCase
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.responses.prompts import Message
from lit_vdistill.types import Evidence

_SYSTEM = """\
You grade how a student model answered a question about a video or an image. A teacher model will \
read your feedback to guide the student.

What you know: only what is written below. You do not see the frames; never claim to have checked \
one. Where hidden evidence is given, use it to tell whether the reasoning points to the right \
time, object and region. Different words with the same meaning are equally right.

What to say, in two to four short, factual sentences that help to correct:
1. The answer: fully correct, partly correct or wrong, and which part is off or missing.
2. Whether the reasoning supports that answer, or points to another event, object, text, time or \
place, or is too weak or too broad for it.
3. If the response is not fully correct, the one most likely cause: attention on the wrong event, \
time or object; too little evidence for so specific a claim; sound reasoning with an answer that \
drifts from it; or an incomplete response without an answer.
Name only what applies. Do not invent fine visual mistakes that the text does not show. If all is \
right, one positive sentence is enough.

Return strict JSON with the single key "feedback" and nothing around it."""
PROMPT_VERSION = hashlib.sha256(_SYSTEM.encode()).hexdigest()[:8]
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
_LONGEST = 1000
"""Characters of a feedback that is read leniently, as VISD's release has it."""
_SAYS_NOTHING = {"", "none", "null", "n/a", "na", "correct", "aligned", "ok", "good"}
_NO_ANSWER = (
    "\n\nThe response has no complete answer block. Analyse its reasoning all the same, say that "
    "no final answer was produced and that it was probably cut off because the reasoning was too "
    "long, and treat it as incomplete."
)


def judge_messages(case: JudgeCase) -> list[Message]:
    """The chat for one rollout: instructions, then question, truth, hidden evidence, response."""
    sample = case.sample
    answer = parse_response(case.text, sample.envelope).answer
    evidence = {
        "segments_s": [list(span) for span in sample.evidence.spans],
        "boxes": [
            {"time_s": box.time_s, "object": box.name, "box": list(box.box)}
            for box in sample.evidence.boxes
        ],
        "key_times_s": list(sample.evidence.moments),
    }
    has_evidence = sample.evidence != Evidence()
    lines = [
        f"Task: {sample.task}",
        f"What to look at: {sample.task.judged_by}",
        f"Question: {sample.question}",
        *(f"{chr(ord('A') + i)}. {text}" for i, text in enumerate(sample.options)),
        f"Reference answer: {sample.answer}",
        f"Hidden evidence: {json.dumps(evidence) if has_evidence else 'null'}",
        f"Student's final answer: {answer or 'null (no answer block)'}",
        "Student's full output:",
        case.text,
    ]
    system = _SYSTEM if answer else _SYSTEM + _NO_ANSWER
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": "\n".join(lines)},
    ]


def read_feedback(text: str) -> str:
    """The feedback in a judge's reply.

    Raises:
        ValueError: When it is not JSON with the one key `feedback` and a text that is not empty.
    """
    reply = jsonl.parse(text.strip(), "the judge's reply")
    if not isinstance(reply, dict) or set(reply) != {"feedback"}:
        raise ValueError("the judge's reply must be an object with the one key 'feedback'")
    feedback = reply["feedback"]
    if not isinstance(feedback, str) or not feedback.strip():
        raise ValueError("the judge's feedback must be a text that is not empty")
    return feedback.strip()


def read_feedback_leniently(text: str) -> str:
    """The feedback in a reply as VISD's release reads it; whatever is said is one.

    JSON may stand in a fence or among words. Where there is none, or where its feedback says
    nothing ("none", "correct"), the reply itself is the feedback. White space is squeezed, and
    what is behind 1 000 characters is cut off.

    Raises:
        ValueError: For an empty reply.
    """
    whole = " ".join(text.split())[:_LONGEST]
    if not whole:
        raise ValueError("the judge's reply is empty")
    fenced = _FENCE.search(text)
    inside = fenced.group(1) if fenced else text
    start, end = inside.find("{"), inside.rfind("}")
    try:
        reply = jsonl.parse(inside[start : end + 1], "the judge's reply")
    except jsonl.LineError:
        return whole
    feedback = reply.get("feedback") if isinstance(reply, dict) else None
    said = " ".join(feedback.split())[:_LONGEST] if isinstance(feedback, str) else ""
    return whole if said.lower().strip(".! ") in _SAYS_NOTHING else said
