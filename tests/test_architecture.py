"""Size limits that keep the code readable; layers are import-linter's."""

import ast
from pathlib import Path

import pytest

FILES = sorted([*Path("lit_vdistill").rglob("*.py"), *Path("callbacks").rglob("*.py")])
VAGUE = {"utils", "common", "helpers", "core", "misc", "base"}


@pytest.mark.parametrize("path", FILES, ids=str)
def test_files_and_functions_stay_short(path):
    source = path.read_text()
    assert len(source.splitlines()) <= 350
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < 60, node.name


def test_no_file_has_a_name_that_says_nothing():
    assert [path for path in FILES if path.stem in VAGUE] == []


def test_jaxtyping_is_not_defeated():
    """Postponed annotations would switch the shape checks off."""
    assert [
        path for path in FILES if "from __future__ import annotations" in path.read_text()
    ] == []
