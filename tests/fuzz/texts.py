"""Hostile responses: what a policy at temperature 1, a teacher or an attacker may write."""

import random

from lit_vdistill.types import VideoSample

_TAGS = ("think", "answer", "obj", "box", "t")
_NUMBERS = (
    "0", "1", "-1", "3.5", "007", ".5", "5.", "1e9", "1e999", "-1e-400", "NaN", "nan", "Infinity",
    "inf", "true", "null", "9" * 155, "9" * 309, "9" * 5000, "1_000", "0x10", "\u0663", "\uff13",
    "\u00b2", "1,000", "--1", "1.2.3",
)  # fmt: skip
_WORDS = (
    "", " ", "\n", "\0", "\u2028", "\ufeff", "\U0001f600", "e\u0301", "\u202e", "From ", "s to ",
    "at", "s", "Correct Option: ", "Correct Option: [", "yes", "NO", "A", "B.", "(C)", "red",
    "<|im_end|>", "<|im_start|>assistant\n", "<|video_pad|>", "<|vision_start|>", "</s>", "<",
    "</", ">", "[", "]", "[[", "{", "}", "\\", "'", '"', "&lt;t&gt;", "Done.", "and ", "then ",
)  # fmt: skip
_ENDLESS = ("<think>", "<box>[1,2,3,4]</box>", "<t>1", "[", "<obj>c</obj>", "9", " ", "</t>s to ")


def response(rng: random.Random, sample: VideoSample) -> str:
    """A text that is nearly right, made of parts of right ones, or made of anything."""
    kind = rng.random()
    if kind < 0.4:
        return _broken(rng, _right(rng, sample))
    if kind < 0.9:
        count = rng.choice((0, 1, 3, 10, 40, 150))
        return "".join(_part(rng, sample) for _ in range(count))
    if kind < 0.97:
        unit = rng.choice(_ENDLESS)
        return _part(rng, sample) + unit * (rng.choice((100, 1000, 4000)) // len(unit))
    return "".join(chr(_code(rng)) for _ in range(rng.choice((1, 20, 300))))


def _right(rng: random.Random, sample: VideoSample) -> str:
    said = [sample.answer, *sample.options, *(box.name for box in sample.evidence.boxes)]
    think = " ".join(_mention(rng, sample) for _ in range(rng.randrange(4)))
    answer = rng.choice([*said, _mention(rng, sample), _span(rng)])
    return f"<think>{think}</think>\n<answer>{answer}</answer>"


def _mention(rng: random.Random, sample: VideoSample) -> str:
    names = [box.name for box in sample.evidence.boxes] or ["cup"]
    boxes = "".join(_box(rng) for _ in range(rng.randrange(1, 3)))
    return f"<obj>{rng.choice(names)}</obj>{boxes}at<t>{_number(rng)}</t>s"


def _part(rng: random.Random, sample: VideoSample) -> str:
    kind = rng.randrange(8)
    if kind == 0:
        return f"<{rng.choice(_TAGS)}>"
    if kind == 1:
        return f"</{rng.choice(_TAGS)}>"
    if kind == 2:
        return _number(rng)
    if kind == 3:
        return _box(rng)
    if kind == 4:
        return _span(rng)
    if kind == 5:
        return rng.choice([sample.question, sample.answer, *sample.options])
    if kind == 6:
        return _mention(rng, sample)
    return rng.choice(_WORDS)


def _number(rng: random.Random) -> str:
    return rng.choice(_NUMBERS) if rng.random() < 0.3 else f"{rng.uniform(0, 500):.3g}"


def _box(rng: random.Random) -> str:
    corners = ",".join(_number(rng) for _ in range(4 if rng.random() < 0.8 else rng.randrange(7)))
    return f"<box>[{corners}]</box>"


def _span(rng: random.Random) -> str:
    return f"From <t>{_number(rng)}</t>s to <t>{_number(rng)}</t>s"


def _broken(rng: random.Random, text: str) -> str:
    """Characters cut, doubled, swapped or put in."""
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(text) + 1)
        end = min(len(text), at + rng.choice((1, 5, 20)))
        middle = rng.choice(("", text[at:end] * 2, text[at:end][::-1], rng.choice(_WORDS)))
        text = text[:at] + middle + text[end:]
    return text


def _code(rng: random.Random) -> int:
    code = rng.choice((rng.randrange(128), rng.randrange(0x3000), rng.randrange(0x110000)))
    return 0x20 if 0xD800 <= code < 0xE000 else code
