import pytest

from lit_vdistill.tracking.page.tables import names_of, side_by_side


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["runs/a"], ["a"]),
        (["runs/a", "runs/b"], ["a", "b"]),
        (["runs/a/eval", "runs/b/eval"], ["a/eval", "b/eval"]),
        (["runs/a", "runs/a/later"], ["a", "a/later"]),
    ],
)
def test_names_are_short_and_tell_runs_apart(folders, names):
    assert names_of(folders) == names


def test_what_differs_between_runs_is_marked_and_first():
    table = side_by_side(
        "key", {"a": {"x": 1, "y": {"z": None}}, "b": {"x": 1, "y": {"z": 0, "w": {}}}}
    )
    rows = [[(cell.text, cell.is_marked) for cell in row] for row in table.rows]
    assert rows == [
        [("y.z", False), ("null", True), ("0", True)],
        [("y.w", False), ("", True), ("none", True)],
        [("x", False), ("1", False), ("1", False)],
    ]
    assert [column.name for column in table.columns] == ["key", "a", "b"]
