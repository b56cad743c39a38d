"""Prompt templates by name or from a file."""

from pathlib import Path
from typing import Any

import yaml

from lit_vdistill.responses.prompts import TEMPLATES, PromptTemplate
from lit_vdistill.tasks import Task

_KEYS = ("name", "system", "instructions", "keeps_question", "questions")


def load_template(name: str) -> PromptTemplate:
    """A built-in prompt template by name, or one from a YAML file.

    Raises:
        ValueError: When it is neither, or when the file has unknown keys or tasks, or no texts.
    """
    if name in TEMPLATES:
        return TEMPLATES[name]
    path = Path(name)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise ValueError(
            f"data.prompt.template '{name}': expected one of {sorted(TEMPLATES)} or an existing "
            "YAML file"
        )
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(raw, dict) or not set(raw) <= set(_KEYS):
        raise ValueError(f"{path}: expected the keys {', '.join(_KEYS)}")
    system = raw.get("system") or ""
    if not isinstance(system, str):
        system = _by_task(system, path, "system")
    keeps = raw.get("keeps_question", False)
    if not isinstance(keeps, bool):
        raise ValueError(f"{path}: keeps_question must be true or false, got {keeps!r:.80}")
    instructions = _by_task(raw.get("instructions") or {}, path, "instructions")
    # Kinds are a benchmark's own, so that any name may stand for a question.
    questions = _texts(raw.get("questions") or {}, path, "questions", "kind or task")
    name = str(raw.get("name", path.stem))
    return PromptTemplate(name, system, instructions, keeps, questions, str(path))


def _texts(raw: Any, path: Path, key: str, of: str) -> dict[str, str]:
    is_named = isinstance(raw, dict) and all(isinstance(name, str) for name in raw)
    if not is_named or not all(isinstance(text, str) for text in raw.values()):
        raise ValueError(f"{path}: {key} must be a text by {of}, got {raw!r:.80}")
    return raw


def _by_task(raw: Any, path: Path, key: str) -> dict[Task, str]:
    raw = _texts(raw, path, key, "task")
    if unknown := sorted(set(raw) - set(Task)):
        raise ValueError(f"{path}: unknown task '{unknown[0]}', expected {[str(t) for t in Task]}")
    return {Task(task): text for task, text in raw.items()}
