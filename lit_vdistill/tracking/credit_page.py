"""One rollout as a page: frames, tokens coloured by credit, what the judge said (VISD E.4).

`TokenCreditView` writes the records, one JSON file each; this renders them without torch. The page
is one file, needs no network, and escapes all text that a model wrote.
"""

import json
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

_FULL = 1.0
"""|Δ| from which on a colour is full."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1100px; color: #1b1b1f; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin: 0 0 .4rem; }
.frames { display: flex; flex-wrap: wrap; gap: 10px; margin: 1rem 0; }
figure { margin: 0; font-size: 12px; text-align: center; }
figure svg { display: block; image-rendering: pixelated; border: 1px solid #ccc; }
.views { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
section { border: 1px solid #ddd; border-radius: 6px; padding: .8rem 1rem; background: #fff; }
.tokens { white-space: pre-wrap; font-family: ui-monospace, monospace; font-size: 13px; }
.tokens span { border-radius: 3px; } .wide { margin-top: 1rem; }
table { border-collapse: collapse; } td, th { padding: 2px 12px 2px 0; text-align: left; }
.legend { display: inline-block; width: 9rem; height: .8rem; vertical-align: middle;
  background: linear-gradient(90deg, rgb(214,69,65), #fff, rgb(38,120,178));
  border: 1px solid #ccc; }
.note { color: #555; font-size: 13px; }
"""


def credit(run: str, sample: str | None = None, out: str | None = None) -> None:
    """Write a page about one recorded rollout: its tokens under two teachers.

    Args:
        run: Folder of a run with `callbacks.TokenCreditView`.
        sample: Id of the sample; the last one recorded when left out.
        out: HTML file to write; `<run>/credit/<record>.html` when left out.
    """
    records = sorted(Path(run, "credit").glob("*.json"))
    if not records:
        sys.stderr.write(
            f"{run}/credit holds no records; train with callbacks.TokenCreditView in the config\n"
        )
        raise SystemExit(1)
    found = [(path, json.loads(path.read_text(encoding="utf-8"))) for path in records]
    matching = [(path, record) for path, record in found if sample in (None, record["sample"])]
    if not matching:
        known = ", ".join(sorted({record["sample"] for _, record in found}))
        sys.stderr.write(f"{run}/credit has no record of sample '{sample}'; it has {known}\n")
        raise SystemExit(1)
    path, record = matching[-1]
    target = Path(out) if out else path.with_suffix(".html")
    target.write_text(credit_page(record), encoding="utf-8")
    sys.stdout.write(f"{target}\n")


def credit_page(record: dict[str, Any]) -> str:
    """The whole page; see `TokenCreditView` for the record."""
    answer, told = record["answer_log_ratio"], record["feedback_log_ratio"]
    judge = [after - before for after, before in zip(told, answer, strict=True)]
    tokens = record["tokens"]
    facts = {
        "question": record["question"],
        "true answer": record["answer"],
        "step": record["step"],
        "advantage A": f"{record['advantage']:+.3f}",
        "reward": ", ".join(f"{name} {value:.2f}" for name, value in record["rewards"].items()),
        "judge": record["feedback"] or "no feedback: the judge failed",
    }
    cells = ((escape(name), escape(str(value))) for name, value in facts.items())
    rows = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in cells)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(record["sample"])}</title>
<style>{_STYLE}</style></head><body>
<h1>Token credit: {escape(record["sample"])}, rollout {int(record["rollout"])}</h1>
<table>{rows}</table>
<div class="frames">{"".join(map(_figure, record["frames"]))}</div>
<p class="note">Δ &lt; 0 <span class="legend"></span> Δ &gt; 0: the teacher finds the token less or
more probable than the student does. Point at a token for its numbers.</p>
<div class="views">
{_section("Δ, answer only (Eq. 29)", tokens, answer)}
{_section("Δ, with evidence and feedback (Eq. 30)", tokens, told)}
</div>
<div class="wide">{_section("δ, what evidence and feedback add (Eq. 31)", tokens, judge)}</div>
<div class="wide">{
        _section(
            "Weight m - 1, clipped (Eq. 25)",
            tokens,
            [w - 1 for w in record["weights"]],
            full=record["clip"],
        )
    }</div>
</body></html>
"""


def _section(
    title: str, tokens: Sequence[str], values: Sequence[float], full: float = _FULL
) -> str:
    spans = "".join(
        f'<span style="background:{_colour(value / full)}" title="{value:+.3f}">'
        f"{escape(token)}</span>"
        for token, value in zip(tokens, values, strict=True)
    )
    return f'<section><h2>{escape(title)}</h2><div class="tokens">{spans}</div></section>'


def _colour(share: float) -> str:
    """Blue for positive, red for negative, white for none."""
    strength = min(abs(share), 1.0)
    full = (38, 120, 178) if share > 0 else (214, 69, 65)
    channels = (round(255 + (channel - 255) * strength) for channel in full)
    return "rgb({},{},{})".format(*channels)


def _figure(frame: dict[str, Any]) -> str:
    """A frame with its time and the annotated boxes at that time."""
    width, height = int(frame["width"]), int(frame["height"])
    stroke = f'fill="none" stroke="#ffb000" stroke-width="{width / 64:g}"'
    boxes = "".join(
        f'<rect x="{x1:g}" y="{y1:g}" width="{x2 - x1:g}" height="{y2 - y1:g}" {stroke}>'
        f"<title>{escape(box['name'])}</title></rect>"
        for box in frame["boxes"]
        for x1, y1, x2, y2 in [box["box"]]
    )
    return (
        f'<figure><svg width="128" height="{128 * height / width:g}" '
        f'viewBox="0 0 {width} {height}"><image width="{width}" height="{height}" '
        f'href="data:image/png;base64,{escape(frame["png"])}"/>{boxes}</svg>'
        f"{frame['time_s']:.1f} s</figure>"
    )
