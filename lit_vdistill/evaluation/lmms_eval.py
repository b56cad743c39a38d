"""Benchmarks that lmms-eval scores rightly, run by it in an environment of its own."""

import fnmatch
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lit_vdistill import jsonl
from lit_vdistill.evaluation import settings
from lit_vdistill.evaluation.benchmark import ScoredItem
from lit_vdistill.evaluation.lmms_eval_command import LmmsEvalConfig, command_of, python_of
from lit_vdistill.evaluation.lmms_eval_rows import is_judged, read_results, remarks, rows_of
from lit_vdistill.evaluation.scoring import ITEMS, PREDICTIONS, estimates, write_scores
from lit_vdistill.served.endpoint import key_of

_ASKED = """\
import importlib.metadata as m, json, sys
from lmms_eval.tasks import TaskManager
names = ("lmms_eval", "transformers", "torch", "qwen-vl-utils", "decord2", "decord")
found = {n: m.version(n) for n in names if list(m.distributions(name=n))}
tasks = TaskManager("ERROR", include_path=sys.argv[1] or None).all_tasks
print(json.dumps({"versions": found, "tasks": sorted(tasks)}))
"""


def run(config: LmmsEvalConfig, student: str, folder: str) -> None:
    """Evaluate a student; writes `predictions.jsonl` and `lmms_eval.json`.

    What lmms-eval wrote itself stays in `lmms_eval/` beside them, what it said in `lmms_eval.log`.

    Args:
        config: What is run.
        student: Folder of an exported student.
        folder: Folder to write to.

    Raises:
        ValueError: Names what is missing, or what lmms-eval ended with.
    """
    home = Path(folder)
    command = command_of(config, student, home / "lmms_eval")
    variables = _variables(config)
    found = _found(config, variables)
    _known_tasks(config.names, found["tasks"])
    before = set(_results_in(home))
    said = _shown(command, variables, home / "lmms_eval.log")
    written = [path for path in _results_in(home) if path not in before]
    if said or len(written) != 1:
        raise ValueError(
            f"lmms-eval ended with code {said} and wrote {len(written)} files of results, expected "
            f"one; the reason stands near the end of {home / 'lmms_eval.log'}"
        )
    results = read_results(written[0])
    rows = rows_of(written[0], results)
    told = {
        "results": results["results"],
        "num_samples": results.get("n-samples"),
        "remarks": remarks(results, rows, found["versions"]),
        "versions": found["versions"],
        "command": command,
        "settings": asdict(config),
        "of_lmms_eval": str(written[0].relative_to(home)),
    }
    jsonl.write(home / PREDICTIONS, rows)
    (home / "lmms_eval.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    settings.write_settings(
        home,
        {
            "benchmark": {"class_path": "lmms-eval", "init_args": {"tasks": config.tasks}},
            "student": student,
            "weights": settings.weights_of(student),
            "settings": asdict(config),
            "blind": False,
            "versions": found["versions"],
        },
    )
    _score(home, rows, told["remarks"], student)


def _score(
    home: Path, rows: Sequence[Mapping[str, Any]], told: Sequence[str], student: str
) -> None:
    """Its scores by question, with our intervals, in the files that every evaluation has."""
    items = [
        ScoredItem(
            row["id"],
            str(row["meta"].get("video", row["id"])),
            {f"{row['task']}/{name}": value for name, value in row["scores"].items()},
        )
        for row in rows
    ]
    jsonl.write(home / ITEMS, map(asdict, items))
    scores = estimates(items)
    cut = sum(row["is_truncated"] is True for row in rows)
    found = {
        "benchmark": "lmms-eval",
        "headline": next(iter(scores), ""),
        "student": student,
        "questions": len(rows),
        "videos": len({item.cluster for item in items}),
        "problems": {"cut off": cut} if cut else {},
        "scores": scores,
        "groups": {},
        "descriptions": {},
        "remarks": list(told),
        "published": [],
        "pass_at_k": None,
        "blind": None,
    }
    write_scores(home, found)


def _variables(config: LmmsEvalConfig) -> dict[str, str]:
    """Environment variables of its process; the judge's are the ones that lmms-eval 0.7 reads.

    Raises:
        ValueError: When a task needs a judge and none is set, or its URL is misread.
    """
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    # MathVista's rules are not even imported without one.
    variables.setdefault("OPENAI_API_KEY", "none")
    judged = [name for name in config.names if is_judged(name)]
    if judged and config.judge is None:
        raise ValueError(
            f"tasks {', '.join(judged)}: a language model extracts or judges their answers; set "
            "judge.base_url and judge.model, or take mathvista_testmini_cot_reasoning, which has "
            "rules"
        )
    if config.judge is None:
        return variables
    url = config.judge.base_url.rstrip("/")
    # lmms-eval's MathVerse takes these letters, not this word, off the end.
    if url != url.rstrip("chat/completions"):  # noqa: B005
        raise ValueError(
            f"judge.base_url: {url}: lmms-eval cuts its end off; name one that ends in a digit, "
            "e.g. http://localhost:8000/v1"
        )
    return variables | {
        "API_TYPE": "openai",
        "OPENAI_API_URL": url,
        "OPENAI_API_KEY": key_of(config.judge) or "none",
        "MODEL_VERSION": config.judge.model,
    }


def _found(config: LmmsEvalConfig, variables: Mapping[str, str]) -> dict[str, Any]:
    """Versions and tasks of the environment."""
    path = config.include_path
    if path is not None and not Path(path).is_dir():
        raise ValueError(f"include_path {path}: expected a folder with task files, there is none")
    included = "" if path is None else str(Path(path).resolve())
    asked = [str(python_of(config)), "-c", _ASKED, included]
    told = subprocess.run(asked, capture_output=True, text=True, check=False, env=dict(variables))
    if told.returncode:
        reason = told.stderr.strip().splitlines()[-1:]
        raise ValueError(
            f"environment {config.environment}: lmms-eval cannot be imported there; remove the "
            f"folder, `make test-eval` makes it anew: {' '.join(reason)}"
        )
    return json.loads(told.stdout.strip().splitlines()[-1])


def _known_tasks(names: Sequence[str], known: Sequence[str]) -> None:
    """Refuse tasks that lmms-eval does not have.

    Raises:
        ValueError: Names the nearest.
    """
    for name in names:
        if not fnmatch.filter(known, name):
            near = get_close_matches(name, known, n=5, cutoff=0.4)
            raise ValueError(
                f"tasks: lmms-eval has no {name!r}; near it are: {', '.join(near) or 'none'}. "
                "Task files of your own are found in include_path"
            )


def _results_in(home: Path) -> list[Path]:
    return sorted((home / "lmms_eval").rglob("*_results.json"))


def _shown(command: Sequence[str], variables: Mapping[str, str], log: Path) -> int:
    """Run a command, show what it says, keep it in a file; returns its exit code."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("w", encoding="utf-8") as kept,
        subprocess.Popen(
            command, env=dict(variables), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            encoding="utf-8", errors="replace",
        ) as process,
    ):  # fmt: skip
        assert process.stdout is not None
        try:
            for line in process.stdout:
                sys.stdout.write(line)
                sys.stdout.flush()
                kept.write(line)
        except BaseException:
            process.terminate()
            raise
    return process.returncode
