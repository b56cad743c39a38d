"""Prompt templates by name or from a file."""

from pathlib import Path

import yaml

from lit_vdistill.responses.prompts import TEMPLATES, PromptTemplate
from lit_vdistill.tasks import Task


def load_template(name: str) -> PromptTemplate:
    """A built-in prompt template by name, or one from a YAML file.

    Raises:
        ValueError: When it is neither, or when the file has unknown keys or tasks.
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
    if not isinstance(raw, dict) or not set(raw) <= {"name", "system", "instructions"}:
        raise ValueError(f"{path}: expected the keys name, system and instructions")
    instructions = raw.get("instructions") or {}
    if unknown := sorted(set(instructions) - set(Task)):
        raise ValueError(f"{path}: unknown task '{unknown[0]}', expected {[str(t) for t in Task]}")
    by_task = {Task(task): text for task, text in instructions.items()}
    return PromptTemplate(raw.get("name", path.stem), raw.get("system", ""), by_task)
