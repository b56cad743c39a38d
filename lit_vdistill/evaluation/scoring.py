"""From answers on disk to scores with intervals; nothing is generated, and no torch imported."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lit_vdistill import jsonl
from lit_vdistill.evaluation.benchmark import Answered, Benchmark, ScoredItem, Verdict, cluster_of
from lit_vdistill.evaluation.settings import read_settings
from lit_vdistill.metrics.intervals import Estimate, clustered_function, clustered_mean
from lit_vdistill.metrics.pass_at_k import SampledQuestion, mean_at_n, pass_at_k, pass_curve
from lit_vdistill.tracking.predictions import StoredPrediction, read_predictions

PREDICTIONS, ITEMS, SCORES = "predictions.jsonl", "items.jsonl", "scores.json"


def score_run(folder: Path, benchmark: Benchmark, blind: Path | None = None) -> dict[str, Any]:
    """Score the answers of a run, and write `items.jsonl` and `scores.json` beside them.

    Args:
        folder: Of the run.
        benchmark: Whose questions were answered.
        blind: Run folder of the same questions without their media, already scored.

    Returns:
        What `scores.json` holds.

    Raises:
        FileNotFoundError: When the folder holds no answers.
        ValueError: For answers that are none, and where some are missing.
    """
    settings = read_settings(folder)
    stored = read_predictions(folder / PREDICTIONS)
    if not stored:
        raise ValueError(f"{folder / PREDICTIONS} holds no answers")
    if left := sorted(folder.glob("predictions.part*.jsonl")):
        raise ValueError(
            f"{folder}: the evaluation was not finished ({left[0].name} is there); call "
            "`evaluate run` again, it goes on"
        )
    answered = [Answered(one.sample, one.text, one.problem) for one in stored]
    verdicts = benchmark.verdicts(answered)
    drawn = _drawn(benchmark, stored, verdicts)
    verdicts = [_with_mean(verdict, drawn.get(i)) for i, verdict in enumerate(verdicts)]
    items = benchmark.items(answered, verdicts)
    jsonl.write(folder / ITEMS, map(asdict, items))
    found = {
        "benchmark": benchmark.name,
        "headline": benchmark.headline,
        "student": settings["student"],
        "questions": len(stored),
        "videos": len({item.cluster for item in items}),
        "problems": problems_of(answered, verdicts),
        "scores": estimates(items, benchmark),
        "groups": {
            group: estimates([item for item in items if group in item.groups], benchmark)
            for group in sorted({group for item in items for group in item.groups})
        },
        "descriptions": {**benchmark.scores, **_descriptions(benchmark, drawn)},
        "remarks": [*_of_run(settings), *benchmark.remarks],
        "published": [asdict(row) for row in benchmark.published],
        "pass_at_k": _pass_at_k(list(drawn.values())),
        "blind": None if blind is None else _blind(blind, benchmark),
    }
    write_scores(folder, found)
    return found


def write_scores(folder: Path, found: Mapping[str, Any]) -> None:
    """Write `scores.json`."""
    text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / SCORES).write_text(text + "\n", encoding="utf-8")


def estimates(
    items: Sequence[ScoredItem], benchmark: Benchmark | None = None
) -> dict[str, dict[str, Any]]:
    """Scores of items, in the order in which a benchmark names them, with those it derives."""
    means = {
        name: clustered_mean([value for value, _ in having], [cluster for _, cluster in having])
        for name in dict.fromkeys(name for item in items for name in item.values)
        if (having := [(i.values[name], i.cluster) for i in items if name in i.values])
    }
    if benchmark is None:
        return {name: _plain(mean) for name, mean in means.items()}
    for name in benchmark.derived({name: mean.value for name, mean in means.items()}):
        means[name] = derived_estimate(benchmark, items, name)
    order = [*benchmark.scores, *means]
    return {name: _plain(means[name]) for name in dict.fromkeys(order) if name in means}


def derived_estimate(benchmark: Benchmark, items: Sequence[ScoredItem], name: str) -> Estimate:
    """A score that is a function of means."""
    names = dict.fromkeys(name for item in items for name in item.values)
    columns = {each: [item.values.get(each) for item in items] for each in names}
    clusters = [item.cluster for item in items]
    return clustered_function(
        columns, clusters, lambda means: benchmark.derived(means).get(name, math.nan)
    )


def read_items(folder: Path) -> list[ScoredItem]:
    """What `score_run` has averaged.

    Raises:
        FileNotFoundError: When the run was not scored.
        ValueError: For a line that is no item.
    """
    path = folder / ITEMS
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: not scored (it has no {ITEMS}): evaluate score")
    items = []
    for place, row in jsonl.read(path):
        try:
            items.append(
                ScoredItem(
                    row["id"],
                    row["cluster"],
                    row["values"],
                    tuple(row["groups"]),
                    tuple(row["questions"]),
                )
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"{place}: no scored item: {row!r:.80}") from error
    return items


def read_scores(folder: Path) -> dict[str, Any]:
    """What `score_run` has found.

    Raises:
        FileNotFoundError: When the run was not scored.
        ValueError: When the file is no scores.
    """
    path = folder / SCORES
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: not scored (it has no {SCORES}): evaluate score")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(found, dict) or not isinstance(found.get("scores"), dict):
        raise ValueError(f"{path}: expected the scores of a run")
    return found


def problems_of(answered: Sequence[Answered], verdicts: Sequence[Verdict]) -> dict[str, int]:
    """How many answers are missing, cut off or unreadable, by reason; none leaves a denominator."""
    reasons = Counter[str]()
    for one, verdict in zip(answered, verdicts, strict=True):
        if one.problem is not None:
            reasons[one.problem.partition(":")[0]] += 1
        elif verdict.problem is not None:
            reasons[verdict.problem] += 1
    return dict(reasons.most_common())


def _of_run(settings: Mapping[str, Any]) -> list[str]:
    """What a run's own settings say of its scores."""
    limit = settings.get("limit")
    told = [] if limit is None else [f"Of the first {limit} questions alone."]
    return told + (["Asked without the media."] if settings["blind"] else [])


def _drawn(
    benchmark: Benchmark, stored: Sequence[StoredPrediction], verdicts: Sequence[Verdict]
) -> dict[int, SampledQuestion]:
    """How often the sampled answers to each question are right, by its place; none if none is."""
    name = benchmark.right
    asked = {i: one for i, one in enumerate(stored) if name in verdicts[i].values}
    counts = {len(one.sampled) for one in asked.values() if one.text or one.sampled}
    if counts <= {0}:
        return {}
    (n,) = counts
    texts = [Answered(one.sample, text) for one in asked.values() for text in one.sampled]
    values = iter(benchmark.verdicts(texts))
    drawn = {}
    for i, one in asked.items():
        rights = sum(next(values).values[name] >= 1 for _ in one.sampled)
        options = benchmark.num_options(one.sample)
        drawn[i] = SampledQuestion(n, rights, cluster_of(one.sample), options)
    return drawn


def _with_mean(verdict: Verdict, drawn: SampledQuestion | None) -> Verdict:
    """With mean@n and pass@n among the values, so that students are compared by them."""
    if drawn is None:
        return verdict
    n, c = drawn.drawn, drawn.correct
    more = {f"mean@{n}": mean_at_n(c, n), f"pass@{n}": pass_at_k(n, c, n)}
    return Verdict({**verdict.values, **more}, verdict.problem)


def _descriptions(benchmark: Benchmark, drawn: Mapping[int, SampledQuestion]) -> dict[str, str]:
    told = {}
    for one in drawn.values():
        told[f"mean@{one.drawn}"] = f"share of sampled answers whose '{benchmark.right}' is 1"
        told[f"pass@{one.drawn}"] = "share of questions with one such answer at least"
    return told


def _pass_at_k(questions: Sequence[SampledQuestion]) -> dict[str, Any] | None:
    """pass@k over the sampled answers, every k; None where none were drawn."""
    if not questions:
        return None
    curve = pass_curve(questions)
    return {
        "questions": len(questions),
        "k": [point.k for point in curve],
        "value": [point.passed.value for point in curve],
        "low": [point.passed.low for point in curve],
        "high": [point.passed.high for point in curve],
        "guess": None if curve[0].guess is None else [point.guess for point in curve],
    }


def _blind(folder: Path, benchmark: Benchmark) -> dict[str, Any]:
    """The share that text alone answers."""
    if not read_settings(folder)["blind"]:
        raise ValueError(f"{folder}: not blind; run it with --blind")
    found = read_scores(folder)
    if found["benchmark"] != benchmark.name:
        raise ValueError(f"{folder}: scores of {found['benchmark']}, expected {benchmark.name}")
    return {"run": str(folder), "scores": found["scores"]}


def _plain(estimate: Estimate) -> dict[str, Any]:
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "standard_error": estimate.standard_error,
        "items": estimate.count,
        "videos": estimate.clusters,
        "note": estimate.note,
    }
