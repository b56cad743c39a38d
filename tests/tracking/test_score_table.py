import io

from rich.console import Console

from lit_vdistill.tracking import score_table

BEFORE = {"step": 0, "score": 0.25, "score/mcq": 0.5, "reward": 0.1, "reward/mcq": 0.2, "tIoU": 0.3}
AFTER = {**BEFORE, "step": 9, "score": 0.75, "score/ocr": 1.0, "reward/ocr": 1.0}
COUNTS = {"score": 8, "score/mcq": 4, "score/ocr": 4, "reward": 8, "tIoU": 2}


def printed(table):
    """Its lines, without rules and with single spaces."""
    text = io.StringIO()
    Console(file=text, width=100).print(table)
    lines = text.getvalue().replace("│", " ").replace("┃", " ").splitlines()
    return [" ".join(line.split()) for line in lines]


def test_two_reports_stand_beside_each_other_by_task():
    lines = [
        " ".join(line.split())
        for line in printed(score_table.by_task("t", [BEFORE, AFTER], COUNTS))
    ]
    assert "task samples score reward" in lines
    assert "overall 8 0.250 -> 0.750 0.100 -> 0.100" in lines
    assert "mcq 4 0.500 -> 0.500 0.200 -> 0.200" in lines
    assert not any(line.startswith("ocr") for line in lines)  # only one of them has it
    assert "tIoU 0.300 (2)" in lines


def test_levels_have_rows_where_samples_name_one():
    def row(score, **meta):
        return {"meta": meta, "scores": {"score": score, "mean_at_2": 0.5, "facts": 0.0}}

    assert score_table.level_scores([row(1.0)]) == {}
    rows = [row(1.0, level="easy"), row(0.0), row(0.0, level=2), row(0.5, level="easy")]
    levels = score_table.level_scores(rows)
    assert levels == {
        "easy": {"score": 0.75, "mean_at_2": 0.5, "samples": 2},
        "2": {"score": 0.0, "mean_at_2": 0.5, "samples": 1},
    }
    lines = printed(score_table.by_level(levels))
    assert "level samples score mean_at_2" in lines
    assert "easy 2 0.750 0.500" in lines
