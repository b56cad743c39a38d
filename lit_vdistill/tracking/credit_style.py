"""Colours and layout of the credit page: readable on a phone, in print and without blue or red."""

TEXT, NOTE, PAPER = (27, 27, 31), (80, 80, 80), (255, 255, 255)
MORE, LESS = (122, 184, 245), (245, 166, 92)
"""Behind a token that the teacher is for, and one that it is against; dark text stands on both."""
ANNOTATED, PREDICTED = (178, 34, 120), (0, 110, 140)
"""Frames of boxes, and the words about them."""


def css(colour: tuple[int, int, int]) -> str:
    """A colour as CSS writes it."""
    return "rgb({},{},{})".format(*colour)


def token_colour(share: float) -> tuple[int, int, int]:
    """From white to a full colour; the sign says which.

    Args:
        share: Of the value from which on a colour is full; beyond ±1 it stays full.
    """
    strength, full = min(abs(share), 1.0), MORE if share > 0 else LESS
    red, green, blue = (round(255 + (channel - 255) * strength) for channel in full)
    return red, green, blue


STYLE = f"""
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 1.5rem auto; padding: 0 1rem;
  max-width: 1100px; color: {css(TEXT)}; background: {css(PAPER)}; overflow-wrap: anywhere; }}
h1 {{ font-size: 1.3rem; }} h2 {{ font-size: 1.05rem; margin: 1.5rem 0 .5rem; }}
section h2 {{ margin-top: 0; }}
nav {{ display: flex; justify-content: space-between; }}
dl {{ display: grid; grid-template-columns: 8rem 1fr; gap: .2rem 1rem; }}
dt {{ font-weight: 600; }} dd {{ margin: 0; white-space: pre-wrap; }}
.frames {{ display: grid; gap: 10px; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(120px, 45%), 1fr)); }}
figure {{ margin: 0; font-size: 13px; }}
figure:only-child {{ grid-column: 1 / -1; max-width: 480px; }}
figure svg {{ display: block; width: 100%; height: auto; image-rendering: pixelated; }}
.annotated {{ color: {css(ANNOTATED)}; }} .predicted {{ color: {css(PREDICTED)}; }}
rect {{ fill: none; stroke: currentColor; stroke-width: 2px; vector-effect: non-scaling-stroke; }}
rect.halo {{ stroke: white; stroke-width: 4px; }} rect.predicted {{ stroke-dasharray: 7px 5px; }}
.views {{ display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }}
section, li {{ border: 1px solid #ccc; border-radius: 6px; padding: .8rem 1rem; min-width: 0; }}
ol {{ list-style: none; padding: 0; display: grid; gap: .5rem; }}
li.shown {{ border: 2px solid {css(TEXT)}; }} li p {{ margin: .3rem 0 0; white-space: pre-wrap; }}
.tokens {{ line-height: 1.3; }}
.token {{ display: inline-block; margin: 0 1px 4px 0; padding: 0 2px; border-radius: 3px;
  box-sizing: border-box; max-width: 100%; color: {css(TEXT)}; text-align: center;
  white-space: break-spaces; font: 14px ui-monospace, monospace; }}
.token small {{ display: block; font-size: 11px; }}
.note {{ color: {css(NOTE)}; font-size: 14px; }} .note .tokens {{ white-space: nowrap; }}
@media (max-width: 700px) {{
  .views, dl {{ grid-template-columns: minmax(0, 1fr); }}
  dl {{ gap: 0; }} dd {{ margin-bottom: .5rem; }}
  body {{ padding: 0 .6rem; }} section, li {{ padding: .6rem; }}
}}
"""
