"""The variance analysis of a pool (R-MSD §4.4, Figures 1 and 3) as a page, a table and pictures."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import pstdev
from typing import Any

from lit_vdistill.pool.variance import (
    COLUMNS,
    REPORTED,
    SUCCESS,
    Figures,
    Question,
    by_task,
    pass_curve,
    price_of_more,
    retention,
    spread,
)
from lit_vdistill.responses.grammar import parse_response, time_span
from lit_vdistill.types import Span, TeacherResponse

_EXAMPLE = 4
"""Responses that Figure 1 shows of one question."""
_INK, _QUIET, _SECOND = "#1f4e79", "#9aa5b1", "#c0504d"


def write_report(
    folder: Path, name: str, questions: Sequence[Question],
    example: tuple[Question, Sequence[TeacherResponse]] | None,
) -> None:  # fmt: skip
    """Write `report.md`, `variance.csv`, `variance.png` and `passes.png`.

    Args:
        folder: Where they go; made if need be.
        name: Of the pool, for the heading.
        questions: Those that have responses, at least one.
        example: A question about a segment with its responses, for Figure 1; None = no such one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tasks = by_task(questions)
    figures = {task: spread(members) for task, members in tasks.items()}
    (folder / "report.md").write_text(page(name, questions, figures), encoding="utf-8")
    with (folder / "variance.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["task", "questions", "responses", *COLUMNS])
        table.writeheader()
        table.writerows({"task": task, **row} for task, row in figures.items())
    _picture_of_variance(folder / "variance.png", tasks, example)
    _picture_of_passes(folder / "passes.png", questions)


def telling_example(
    asked: Sequence[tuple[Question, Sequence[TeacherResponse]]],
) -> tuple[Question, Sequence[TeacherResponse]] | None:
    """The question whose first responses have segments that differ most in their tIoU.

    Args:
        asked: Questions about a segment, with their responses.
    """

    def differs(found: tuple[Question, Sequence[TeacherResponse]]) -> float:
        question, responses = found
        first = [parse_response(r.text, question.sample.envelope) for r in responses[:_EXAMPLE]]
        if len(first) < 2 or any(time_span(parsed.answer) is None for parsed in first):
            return -1.0
        return pstdev(question.qualities[: len(first)])

    return max(asked, key=differs, default=None)


def spread_table(figures: Mapping[str, Figures]) -> list[str]:
    """Lines of Markdown, with R-MSD's own figures in brackets."""
    lines = ["| task | " + " | ".join(COLUMNS) + " |", "|---|" + "---|" * len(COLUMNS)]
    for task, row in figures.items():
        known = REPORTED.get(task, {})
        cells = [
            f"{row[column]:.2f}" + (f" ({known[column]:.2f})" if column in known else "")
            for column in COLUMNS
        ]
        lines.append(f"| {task} | " + " | ".join(cells) + " |")
    return lines


def page(name: str, questions: Sequence[Question], figures: Mapping[str, Figures]) -> str:
    """The report in Markdown."""
    every = figures["all"]
    kept, passes, more = retention(questions), pass_curve(questions), price_of_more(questions)
    lines = [
        f"# Teacher pool `{name}`",
        "",
        f"{every['responses']:.0f} responses to {every['questions']:.0f} questions.",
        "",
        "## Quality",
        "",
        "q of closed-ended answers; of open-ended ones the share of known facts that they state, "
        "else ROUGE F1. `across`: standard deviation over questions of their mean; `within`: mean "
        "over questions of the standard deviation of their responses; `lowest`, `highest`: means "
        "of each question's worst and best. In brackets R-MSD §4.4: Qwen3-VL-235B on other data.",
        "",
        *spread_table(figures),
        "",
        "![Quality by task](variance.png)",
    ]
    if kept:
        lines += [
            "", "## What a threshold leaves", "",
            "Share of responses to closed-ended questions with q of at least τ (R-MSD Table 4: "
            "0.72 at 0.3).", "",
            "| τ | " + " | ".join(f"{t:g}" for t in kept) + " |",
            "|---|" + "---|" * len(kept),
            "| kept | " + " | ".join(f"{share:.2f}" for share in kept.values()) + " |",
        ]  # fmt: skip
    if passes:
        lines += [
            "", "## pass@k", "",
            f"Closed-ended questions of which one of k responses has a quality of {SUCCESS:g} or "
            "more (unbiased estimator), beside guessing among options.", "",
            "| k | pass@k | guessing |", "|---|---|---|",
            *(f"| {k} | {p:.3f} | {g:.3f} |" for k, (p, g) in passes.items()), "",
            "![pass@k](passes.png)",
        ]  # fmt: skip
    lines += ["", "## What a larger pool costs", "", *_price_table(more)]
    return "\n".join(lines) + "\n"


def _price_table(more: Mapping[int, Figures]) -> list[str]:
    """K against the best response's worth, tokens and cost."""
    names = [n for n in ("output_tokens", "cost") if all(n in row for row in more.values())]
    lines = ["| K | best of K | " + "".join(f"{name} a question | " for name in names)]
    lines += ["|---|---|" + "---|" * len(names)]
    for k, row in more.items():
        cells = [f"{row['best']:.3f}", *(f"{row[name]:.4g}" for name in names)]
        lines.append(f"| {k} | " + " | ".join(cells) + " |")
    if not names:
        lines += ["", "No server has said how many tokens its responses had."]
    return lines


def _picture_of_variance(
    path: Path, tasks: Mapping[str, Sequence[Question]],
    example: tuple[Question, Sequence[TeacherResponse]] | None,
) -> None:  # fmt: skip
    """Figure 1 left, one question's segments, where there is one; Figure 3 left, boxes by task."""
    figure, axes = _axes(2 if example else 1, (11.0 if example else 7.0, 4.2))
    if example:
        _draw_example(axes[0], *example)
    names = [name for name in tasks if name not in ("all", "temporal")]
    means = [[sum(q.qualities) / len(q.qualities) for q in tasks[name]] for name in names]
    boxes = axes[-1]
    boxes.boxplot(
        means, orientation="horizontal", widths=0.6, flierprops={"markersize": 2},
        medianprops={"color": _SECOND}, boxprops={"color": _INK}, whiskerprops={"color": _INK},
    )  # fmt: skip
    boxes.set_yticks(range(1, len(names) + 1), [name.replace("_", " ") for name in names])
    boxes.set(xlabel="mean quality of a question's responses", xlim=(-0.02, 1.02))
    boxes.invert_yaxis()
    _save(figure, path)


def _draw_example(axes: Any, question: Question, responses: Sequence[TeacherResponse]) -> None:
    """The true segment and those of a question's first responses, each with its tIoU."""
    truth = question.sample.evidence.spans[0]
    rows: list[tuple[str, Span | None, float | None]] = [("truth", truth, None)]
    for response, worth in list(zip(responses, question.pool, strict=True))[:_EXAMPLE]:
        parsed = parse_response(response.text, question.sample.envelope)
        rows.append((f"response {response.index}", time_span(parsed.answer), worth.quality))
    for place, (_, span, quality) in enumerate(rows):
        if span is not None:
            axes.barh(place, span[1] - span[0], left=span[0], height=0.55,
                      color=_QUIET if quality is None else _INK)  # fmt: skip
        said = "" if quality is None else f" tIoU {quality:.2f}" if span else " no segment"
        axes.text(1.0, place, said, va="center", fontsize=8,
                  transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_yticks(range(len(rows)), [label for label, _, _ in rows])
    axes.set(xlabel="seconds", title=_short(question.sample.question))
    axes.title.set_fontsize(9)
    axes.invert_yaxis()


def _picture_of_passes(path: Path, questions: Sequence[Question]) -> None:
    """Figure 3 right: pass@k over k, and the best of K."""
    passes, more = pass_curve(questions), price_of_more(questions)
    figure, axes = _axes(2, (9.0, 3.4))
    axes[0].plot([*passes], [p for p, _ in passes.values()], "o-", color=_INK, label="teacher")
    axes[0].plot([*passes], [g for _, g in passes.values()], "s--", color=_QUIET, label="guessing")
    axes[0].set(xlabel="k", ylabel="pass@k, closed-ended", ylim=(0, 1.02))
    axes[0].legend(frameon=False, loc="lower right")
    axes[1].plot([*more], [row["best"] for row in more.values()], "o-", color=_INK)
    axes[1].set(xlabel="K", ylabel="quality of the best of K", ylim=(0, 1.02))
    _save(figure, path)


def _axes(count: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, count, figsize=size, squeeze=False)
    for part in axes[0]:
        part.spines[["top", "right"]].set_visible(False)
    return figure, list(axes[0])


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _short(text: str, most: int = 60) -> str:
    # Matplotlib takes `$` for mathematics.
    return (text if len(text) <= most else f"{text[:most]} …").replace("$", r"\$")
