"""Recorded rollouts as pages: frames, tokens coloured by credit, what the judge said (VISD E.4).

`TokenCreditView` writes the records, one JSON file each; this renders them without torch. A page
is one file, needs no network, and escapes all text that a model wrote.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_vdistill.tracking.page.film import TRUE, DrawnBox, Frame, Picture, series
from lit_vdistill.tracking.page.render import render

_TEMPLATE = Path(__file__).with_name("credit_page.html.j2")
_FULL = 1.0
"""|Δ| from which on a colour is full, and a change of credit that nothing bounds."""
_TOLD = {
    "none": "told nothing",
    "answer": "told the answer",
    "evidence": "told answer and evidence",
    "feedback": "told answer, evidence and feedback",
}
"""By `credit.conditioning`."""


def credit(run: str, sample: str | None = None, out: str | None = None) -> None:
    """Write a page about each recorded rollout and the credit of its tokens; name the last one.

    Args:
        run: Folder of a run with `callbacks.TokenCreditView`.
        sample: Id of the sample to name; the last one recorded when left out.
        out: HTML file for that page alone; `<run>/credit/<record>.html` for all when left out.
    """
    paths = sorted(Path(run, "credit").glob("*.json"))
    if not paths:
        sys.stderr.write(
            f"{run}/credit holds no records; train with callbacks.TokenCreditView in the config\n"
        )
        raise SystemExit(1)
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    matching = [i for i, record in enumerate(records) if sample in (None, record["sample"])]
    if not matching:
        known = ", ".join(sorted({record["sample"] for record in records}))
        sys.stderr.write(f"{run}/credit has no record of sample '{sample}'; it has {known}\n")
        raise SystemExit(1)
    chosen = matching[-1]
    if out is not None:
        Path(out).write_text(credit_page(records[chosen]), encoding="utf-8")
        sys.stdout.write(f"{out}\n")
        return
    targets = [path.with_suffix(".html") for path in paths]
    around = [None, *(target.name for target in targets), None]
    for i, (target, record) in enumerate(zip(targets, records, strict=True)):
        page = credit_page(record, before=around[i], after=around[i + 2])
        target.write_text(page, encoding="utf-8")
    sys.stdout.write(f"{targets[chosen]}\n")


def credit_page(record: dict[str, Any], before: str | None = None, after: str | None = None) -> str:
    """The whole page.

    Args:
        record: See `TokenCreditView`.
        before: File of the page about the rollout recorded before; None for the first.
        after: The same for the next.
    """
    values = {
        "title": title_of(record),
        "lead": "",
        "before": before,
        "after": after,
        "record": record_values(record),
    }
    return render(_TEMPLATE, values)


def title_of(record: dict[str, Any]) -> str:
    """Sample and rollout that a record is about."""
    return f"Token credit: {record['sample']}, rollout {int(record['rollout'])}"


def record_values(record: dict[str, Any]) -> dict[str, Any]:
    """What `credit_parts.html.j2` draws of a record."""
    bound = _bound(record)
    return {
        "facts": _facts(record),
        "frames": [_frame(frame) for frame in record["frames"]],
        "has_predicted": any(frame.get("predicted") for frame in record["frames"]),
        "ratio_scale": _scale(_FULL, 2),
        "credit_scale": _scale(bound, 3),
        "credit_end": "and beyond" if record["clip"] is None else "its bound",
        "views": list(_views(record)),
        "siblings": _siblings(record),
    }


@dataclass(frozen=True, slots=True)
class ColouredToken:
    """A token over its number, the ground coloured by who is for it."""

    token: str
    value: float
    full: float
    """Size of the value from which on the colour is full."""
    digits: int

    @property
    def shown(self) -> str:
        """The token; blanks alone are seen."""
        token = self.token if self.token.strip(" ") else self.token.replace(" ", "␣")
        return token.replace("\n", "⏎")

    @property
    def ends_line(self) -> bool:
        """Whether a line ends behind it."""
        return self.token.endswith("\n")

    @property
    def number(self) -> str:
        """The value, with one sign where it rounds to zero."""
        return f"{self.value:+z.{self.digits}f}"

    @property
    def kind(self) -> str:
        """Of `page.css`."""
        return "for" if self.value > 0 else "against"

    @property
    def share(self) -> str:
        """How much of the full colour it has, in per cent; beyond 100 it stays full."""
        share = min(abs(self.value / self.full), 1.0) if self.full else 0.0
        return f"{100 * share:.4g}"


def _views(record: dict[str, Any]) -> Iterator[tuple[str, list[ColouredToken]]]:
    """What the step used, and beside it what it would be without the judge's words."""
    tokens, told, unjudged = (
        record[name] for name in ("tokens", "log_ratio", "unjudged_log_ratio")
    )
    name, equation = _told(record), "Eq. 22"
    if unjudged is not None:
        equation = "Eq. 30"
        yield f"Δ, {_TOLD['evidence']} (Eq. 29)", _coloured(tokens, unjudged)
    yield f"Δ, {name} ({equation})", _coloured(tokens, told)
    if unjudged is not None:
        added = [late - early for late, early in zip(told, unjudged, strict=True)]
        yield "δ, what the judge's feedback adds (Eq. 31)", _coloured(tokens, added)
    # Less blame is for a token as more praise is: with A < 0 a weight above 1 is against it.
    factor = record["mix"] if record["advantage"] > 0 else -record["mix"]
    moved = [factor * (weight - 1) for weight in record["weights"]]
    title = "Credit, λ (m - 1) × sign of A (Eq. 26)"
    yield title, _coloured(tokens, moved, full=_bound(record), digits=3)


def _coloured(
    tokens: Sequence[str], values: Sequence[float], full: float = _FULL, digits: int = 2
) -> list[ColouredToken]:
    pairs = zip(tokens, values, strict=True)
    return [ColouredToken(token, value, full, digits) for token, value in pairs]


def _scale(full: float, digits: int) -> list[ColouredToken]:
    """What a colour means; the same in every view, whichever sign the advantage has."""
    return [ColouredToken("", share * full, full, digits) for share in (-1.0, -0.5, 0.0, 0.5, 1.0)]


def _told(record: dict[str, Any]) -> str:
    """What the teacher was told: a judge that failed adds nothing."""
    has_words = record["feedback"] is not None
    how = record["conditioning"]
    return _TOLD["evidence" if how == "feedback" and not has_words else how]


def _bound(record: dict[str, Any]) -> float:
    """How far credit may be from 1, λ ε (Eq. 28)."""
    return _FULL if record["clip"] is None else record["mix"] * record["clip"]


def _facts(record: dict[str, Any]) -> dict[str, Any]:
    facts = {
        "question": record["question"],
        "true answer": record["answer"],
        "step": record["step"],
        "advantage A": f"{record['advantage']:+.3f}",
        "reward": _parts(record["rewards"]),
        "teacher": f"{_told(record)}; compared on {_support(record)}",
        "credit": f"λ {record['mix']:.3f}, m {_clip(record['clip'])}",
    }
    if record["conditioning"] == "feedback":
        facts["judge"] = record["feedback"] or "no feedback: the judge failed"
    return facts


def _clip(clip: float | None) -> str:
    return "without bound" if clip is None else f"within 1 ± {clip:g}"


def _support(record: dict[str, Any]) -> str:
    if record["support"] == "top_k":
        return f"its top {record['top_k']} and the token itself"
    return "the token itself, under the whole vocabulary"


def _parts(rewards: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in rewards.items())


def _siblings(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Every rollout of the prompt with what it was paid, this one marked."""
    return [
        {
            "title": f"rollout {int(sibling['rollout'])}: reward {sibling['reward']:.3f}, "
            f"A {sibling['advantage']:+.3f}",
            "parts": _parts(sibling["rewards"]),
            "text": sibling["text"],
            "judged": _judged(record, sibling),
            "is_shown": sibling["rollout"] == record["rollout"],
        }
        for sibling in record.get("siblings", [])
    ]


def _judged(record: dict[str, Any], sibling: dict[str, Any]) -> str:
    """The judge's words to a rollout (VISD Figure 7); empty where nobody was to be asked."""
    if record["conditioning"] != "feedback" or "feedback" not in sibling:
        return ""
    if sibling["feedback"] is not None:
        return f"The judge: {sibling['feedback']}"
    return "The judge failed." if sibling["advantage"] else "Not judged, as A is 0."


def _frame(frame: dict[str, Any]) -> Frame:
    """A frame with its time and the boxes at that time, named below it."""
    picture = Picture(
        f"data:image/png;base64,{frame['png']}", int(frame["width"]), int(frame["height"])
    )
    kinds = {TRUE: frame["boxes"], series(0): frame.get("predicted", [])}
    boxes = [
        DrawnBox(kind, box["name"], tuple(box["box"])) for kind in kinds for box in kinds[kind]
    ]
    return Frame(picture, frame["time_s"], tuple(boxes))
