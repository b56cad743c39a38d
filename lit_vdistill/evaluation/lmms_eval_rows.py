"""What lmms-eval leaves on disk, as rows of `predictions.jsonl`; which of its scores to doubt."""

import fnmatch
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lit_vdistill import jsonl
from lit_vdistill.types import Evidence, Facts

_LOGGED = ("doc_id", "target", "resps", "filtered_resps", "token_counts", "doc_hash", "input")
_OWN = frozenset((*_LOGGED, "input_media"))
"""Keys of a line that are no metric."""
_CHOSEN = ("pred_answer", "parsed_pred")
"""Where a metric's record says what was read from a response."""
_VIDEO = ("videoID", "video_id", "video_name", "video")
"""Where it says which video was asked about."""

DOUBTFUL = (
    ("mlvu_test*", "questions have six options, but only A to D are read: E and F count as wrong"),
    ("worldsense*", "a response in which no option is found counts as an answer A"),
    ("longvideobench_val*", "a response in which no option is found is answered at random"),
    (
        "longvideobench_val*",
        "its Overall counts every question twice, by duration and by category: the accuracy is "
        "right, the number of questions doubled",
    ),
    (
        "temporal_grounding_charades",
        "questions with the same video, sentence and segment collapse into one",
    ),
    ("math*_reasoning", "judged by rules: not comparable with published numbers"),
)
"""Scores of lmms-eval 0.7 that differ from the benchmark's own, by task, with the reason."""


def is_judged(task: str) -> bool:
    """Whether a language model extracts or judges the answers of a task."""
    return task.startswith(("mathvista", "mathverse")) and not task.endswith("_reasoning")


def read_results(path: Path) -> dict[str, Any]:
    """The file `<date>_results.json`; numbers that are none become null.

    Raises:
        ValueError: When it holds no results.
    """
    results = _parsed(path.read_bytes(), str(path))
    for key in ("results", "configs"):
        if not isinstance(results.get(key), dict) or not results[key]:
            raise ValueError(
                f"{path}: expected an object under {key!r}, got {results.get(key)!r:.80}; this is "
                "no file of results of lmms-eval 0.7, or its run was cut off"
            )
    return results


def rows_of(path: Path, results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of all tasks, as `tracking.predictions` has them.

    Null is what lmms-eval keeps to itself: medium, frame times, question and options apart from
    the prompt, tokens, log-probabilities. `is_truncated` is so by count: as many tokens as allowed.

    Args:
        path: The file of results; those of samples lie beside it.
        results: What it holds.

    Raises:
        ValueError: For a line that is no sample, or a task with fewer than were scored.
    """
    rows = []
    date = path.name.removesuffix("_results.json")
    for task, config in results["configs"].items():
        samples = path.with_name(f"{date}_samples_{task}.jsonl")
        if not samples.is_file():
            raise ValueError(f"{samples} is missing, though {path.name} has results of {task}")
        limit = _number(_inside(config, "generation_kwargs", "max_new_tokens"))
        found = [
            _row(_parsed(line, place), place, task, limit)
            for number, line in jsonl.lines(samples)
            for place in [f"{samples}, line {number}"]
        ]
        scored = _inside(results, "n-samples", task, "effective")
        if scored is not None and scored != len(found):
            raise ValueError(
                f"{samples}: lmms-eval scored {scored} samples, the file holds {len(found)}; its "
                "run was cut off: run it again"
            )
        rows += found
    return rows


def remarks(
    results: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], versions: Mapping[str, str]
) -> list[str]:
    """What a reader of these scores should know.

    Args:
        results: What lmms-eval wrote.
        rows: The predictions of all tasks.
        versions: Of the packages in its environment.
    """
    told = []
    for task in results["configs"]:
        told += [f"{task}: {why}" for name, why in DOUBTFUL if fnmatch.fnmatch(task, name)]
        if is_judged(task):
            told.append(f"{task}: an answer that the judge did not reply to counts as wrong")
        own = [row for row in rows if row["task"] == task]
        cut = sum(row["is_truncated"] is True for row in own)
        if cut:
            told.append(
                f"{task}: {cut} of {len(own)} responses reached max_new_tokens; of reasoning that "
                "is not closed lmms-eval reads the answer too"
            )
        if any(row["is_truncated"] is None for row in own):
            told.append(f"{task}: lmms-eval counted no tokens; who was cut off is not known")
    version = tuple(int(part) for part in versions.get("transformers", "0").split(".")[:2])
    if _inside(results, "config", "model") == "qwen2_5_vl" and version >= (5, 3):
        told.append(
            f"transformers {versions['transformers']} puts text behind a video of Qwen2.5-VL at "
            "other positions than Qwen and this project do; scores suffer"
        )
    return told


def _row(sample: Mapping[str, Any], place: str, task: str, limit: float | None) -> dict[str, Any]:
    """One sample as a row; the score of a record is what lmms-eval says it is worth."""
    if "doc_id" not in sample or "filtered_resps" not in sample:
        raise ValueError(
            f"{place}: expected a sample with 'doc_id' and 'filtered_resps' as lmms-eval 0.7 logs "
            f"it, got the keys {sorted(sample)}"
        )
    filtered = _text(sample["filtered_resps"], place)
    # Left out where nothing was taken off.
    response = _text(sample.get("resps", filtered), place)
    scores: dict[str, float] = {}
    meta: dict[str, Any] = {"doc_id": sample["doc_id"], "scored_text": filtered}
    for metric in sample.keys() - _OWN:
        value = sample[metric]
        score = _worth(value) if isinstance(value, dict) else _number(value)
        if score is not None:
            scores[metric] = score
        if isinstance(value, dict):
            meta |= {key: inner for key, inner in value.items() if key not in _OWN}
    video = next((meta[key] for key in _VIDEO if key in meta), None)
    if video is not None:
        meta["video"] = video
    counted = _number(_inside(sample, "token_counts", 0, "output_tokens"))
    return {
        "id": f"{task}/{sample['doc_id']}",
        "task": task,
        "meta": meta,
        "media": None,
        "media_type": None,
        "frame_times_s": None,
        "question": None,
        "options": None,
        "truth": {"answer": meta.get("answer", sample.get("target")), **asdict(Evidence())},
        "facts": asdict(Facts()),
        "envelope": None,
        "problem": None,
        "response": response,
        "is_truncated": None if counted is None or limit is None else counted >= limit,
        "scores": dict(sorted(scores.items())),
        "sampled": [],
        "completion_ids": None,
        "logprobs": None,
        "prompt": sample.get("input"),
    }


def _worth(record: Mapping[str, Any]) -> float | None:
    """What a metric's record says that an answer is worth; None where only all together say it."""
    for key in ("score", "true_false"):
        if (score := _number(record.get(key))) is not None:
            return score
    for key in _CHOSEN:
        if key in record and "answer" in record:
            return float(record[key] == record["answer"])
    return None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and abs(value) < 1e300 else None


def _text(value: object, place: str) -> str:
    """A response, out of the lists that lmms-eval puts around it."""
    while isinstance(value, list) and len(value) == 1:
        (value,) = value
    if not isinstance(value, str):
        raise ValueError(
            f"{place}: expected one response, got {value!r:.80}; tasks that are no generation, and "
            "repeats, are not read"
        )
    return value


def _inside(value: Any, *keys: str | int) -> Any:
    """What stands below some keys; None where nothing does."""
    for key in keys:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _parsed(text: bytes, place: str) -> dict[str, Any]:
    """A JSON object; lmms-eval writes NaN, which becomes null: one is not to cost hours of work."""
    try:
        value = json.loads(
            text.decode("utf-8", errors="replace"), parse_constant=lambda _: None, parse_float=_real
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: not JSON ({error}); lmms-eval's run was cut off?") from error
    if not isinstance(value, dict):
        raise ValueError(f"{place}: expected an object, got {value!r:.80}")
    return value


def _real(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None
