"""Recorded rollouts as pages: frames, tokens coloured by credit, what the judge said (VISD E.4).

`TokenCreditView` writes the records, one JSON file each; this renders them without torch. A page
is one file, needs no network, and escapes all text that a model wrote.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from lit_vdistill.tracking.credit_style import STYLE, css, token_colour

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
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(record["sample"])}</title>
<style>{STYLE}</style></head><body>
{_navigation(before, after)}
<h1>Token credit: {escape(record["sample"])}, rollout {int(record["rollout"])}</h1>
{_facts(record)}
{_frames(record["frames"])}
{_legend(record)}
<div class="views">
{"".join(_sections(record))}
</div>
{_siblings(record)}
{_navigation(before, after)}
</body></html>
"""


def _sections(record: dict[str, Any]) -> Iterator[str]:
    """What the step used, and beside it what it would be without the judge's words."""
    tokens, told, unjudged = (
        record[name] for name in ("tokens", "log_ratio", "unjudged_log_ratio")
    )
    name, equation = _told(record), "Eq. 22"
    if unjudged is not None:
        equation = "Eq. 30"
        yield _section(f"Δ, {_TOLD['evidence']} (Eq. 29)", tokens, unjudged)
    yield _section(f"Δ, {name} ({equation})", tokens, told)
    if unjudged is not None:
        added = [late - early for late, early in zip(told, unjudged, strict=True)]
        yield _section("δ, what the judge's feedback adds (Eq. 31)", tokens, added)
    # Less blame is for a token as more praise is: with A < 0 a weight above 1 is against it.
    factor = record["mix"] if record["advantage"] > 0 else -record["mix"]
    moved = [factor * (weight - 1) for weight in record["weights"]]
    title = "Credit, λ (m - 1) × sign of A (Eq. 26)"
    yield _section(title, tokens, moved, full=_bound(record), digits=3)


def _told(record: dict[str, Any]) -> str:
    """What the teacher was told: a judge that failed adds nothing."""
    has_words = record["feedback"] is not None
    how = record["conditioning"]
    return _TOLD["evidence" if how == "feedback" and not has_words else how]


def _bound(record: dict[str, Any]) -> float:
    """How far credit may be from 1, λ ε (Eq. 28)."""
    return _FULL if record["clip"] is None else record["mix"] * record["clip"]


def _navigation(before: str | None, after: str | None) -> str:
    links = ((before, "← previous rollout"), (after, "next rollout →"))
    parts = (
        f'<a href="{escape(name)}">{text}</a>' if name else "<span></span>" for name, text in links
    )
    return f"<nav>{''.join(parts)}</nav>" if before or after else ""


def _facts(record: dict[str, Any]) -> str:
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
    rows = (f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in facts.items())
    return f"<dl>{''.join(rows)}</dl>"


def _clip(clip: float | None) -> str:
    return "without bound" if clip is None else f"within 1 ± {clip:g}"


def _support(record: dict[str, Any]) -> str:
    if record["support"] == "top_k":
        return f"its top {record['top_k']} and the token itself"
    return "the token itself, under the whole vocabulary"


def _parts(rewards: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in rewards.items())


def _legend(record: dict[str, Any]) -> str:
    """What a colour means; the same in every section, whichever sign the advantage has."""

    def scale(full: float, digits: int) -> str:
        shares = (-1.0, -0.5, 0.0, 0.5, 1.0)
        spans = "".join(_token("", share * full, full, digits) for share in shares)
        return f'<span class="tokens">{spans}</span>'

    end = "and beyond" if record["clip"] is None else "its bound"
    return (
        f'<p class="note">Blue: the teacher is for the token, which it finds more probable than '
        f"the student does; the step raises it more, or lowers it less. Orange: it is against it."
        f"<br>Δ and δ: {scale(_FULL, 2)} and beyond."
        f"<br>Credit: {scale(_bound(record), 3)} {end}.</p>"
    )


def _section(
    title: str,
    tokens: Sequence[str],
    values: Sequence[float],
    full: float = _FULL,
    digits: int = 2,
) -> str:
    pairs = zip(tokens, values, strict=True)
    spans = "".join(_token(token, value, full, digits) for token, value in pairs)
    return f'<section><h2>{escape(title)}</h2><div class="tokens">{spans}</div></section>'


def _token(token: str, value: float, full: float, digits: int) -> str:
    """A token over its number; a line ends behind one that ends a line, blanks alone are seen."""
    shown = escape((token if token.strip(" ") else token.replace(" ", "␣")).replace("\n", "⏎"))
    colour = css(token_colour(value / full if full else 0.0))
    return (
        f'<span class="token" style="background:{colour}">{shown}'
        f"<small>{value:+z.{digits}f}</small></span>{'<br>' * token.endswith(chr(10))}"
    )


def _siblings(record: dict[str, Any]) -> str:
    """Every rollout of the prompt with what it was paid, this one marked."""
    shown = {record["rollout"]: "shown"}
    rows = "".join(
        f"<li class='{shown.get(sibling['rollout'], '')}'>"
        f"<strong>rollout {int(sibling['rollout'])}: reward {sibling['reward']:.3f}, "
        f"A {sibling['advantage']:+.3f}</strong> ({escape(_parts(sibling['rewards']))})"
        f"<p>{escape(sibling['text'])}</p></li>"
        for sibling in record.get("siblings", [])
    )
    return f"<h2>The rollouts of this prompt</h2><ol>{rows}</ol>" if rows else ""


def _frames(frames: Sequence[dict[str, Any]]) -> str:
    if not frames:
        return ""
    predicted = "dashed" if any(frame.get("predicted") for frame in frames) else "none with a time"
    return (
        '<p class="note">Boxes: <strong class="annotated">annotated, solid</strong>; '
        f'<strong class="predicted">of this rollout, {predicted}</strong>; each on the frame '
        f'nearest in time.</p><div class="frames">{"".join(map(_figure, frames))}</div>'
    )


def _figure(frame: dict[str, Any]) -> str:
    """A frame with its time and the boxes at that time, named below it."""
    width, height = int(frame["width"]), int(frame["height"])
    kinds = {"annotated": frame["boxes"], "predicted": frame.get("predicted", [])}
    corners = [(kind, box["box"]) for kind, found in kinds.items() for box in found]
    # All halos first: of equal boxes both are seen.
    edges = [("halo", box) for _, box in corners] + corners
    boxes = "".join(_rectangle(kind, box) for kind, box in edges)
    names = "".join(
        f'<div class="{kind}">{escape(box["name"])}</div>'
        for kind, found in kinds.items()
        for box in found
    )
    return (
        f'<figure><svg viewBox="0 0 {width} {height}"><image width="{width}" height="{height}" '
        f'href="data:image/png;base64,{escape(frame["png"])}"/>{boxes}</svg>'
        f"{frame['time_s']:.1f} s{names}</figure>"
    )


def _rectangle(kind: str, box: Sequence[float]) -> str:
    x1, y1, x2, y2 = box
    width, height = max(x2 - x1, 0), max(y2 - y1, 0)
    return f'<rect class="{kind}" x="{x1:g}" y="{y1:g}" width="{width:g}" height="{height:g}"/>'
