import pytest

from lit_vdistill.evaluation.comparison import compared, markdown
from lit_vdistill.evaluation.scoring import score_run
from tests.evaluation.toy import Toy, write_run


@pytest.fixture
def scored(tmp_path, make_sample):
    def build(name, letters, *, benchmark=None, **more):
        run = write_run(tmp_path / name, make_sample, letters, student=name, **more)
        score_run(run, benchmark or Toy())
        return run

    return build


def test_the_difference_is_paired_and_lists_wins_and_losses(scored):
    one, other = scored("a", "BBCCCC"), scored("b", "CBBBBC", frames={"max_frames": 4})
    found = compared(one, other)
    assert found["values"] == pytest.approx([2 / 6, 4 / 6])
    assert found["difference"]["value"] == pytest.approx(2 / 6)
    assert (found["difference"]["items"], found["difference"]["videos"]) == (6, 3)
    assert [row["id"] for row in found["wins"]] == ["q4", "q3", "q2"]
    assert [(row["id"], row["change"]) for row in found["losses"]] == [("q0", -1.0)]
    assert found["ties"] == 2
    assert found["losses"][0]["questions"][0]["truth"] == "B"
    assert found["settings_that_differ"] == [
        "frames.max_frames: None before, 4 now",
        "student: 'a' before, 'b' now",
    ]
    page = markdown(found)
    assert "b less a, by accuracy" in page
    assert "Better on 3 items, worse on 1, equal on 2" in page
    assert "could have shown a difference of" in page


def test_the_same_answers_do_not_differ(scored):
    found = compared(scored("a", "BBCC"), scored("b", "BBCC"))
    assert found["difference"]["value"] == 0
    assert found["wins"] == found["losses"] == []


def test_items_of_several_questions_are_listed_with_all_of_them(scored):
    one, other = (
        scored(name, letters, benchmark=Toy(is_paired=True))
        for name, letters in (("a", "BCCC"), ("b", "BBCC"))
    )
    (win,) = compared(one, other)["wins"]
    assert win["id"] == "i0"
    assert len(win["questions"]) == 2


def test_what_cannot_be_compared_is_refused(scored, tmp_path):
    one = scored("a", "BBCC")
    with pytest.raises(ValueError, match="2 items stand in one of them alone, e.g. q4"):
        compared(one, scored("b", "BBCCBB"))
    with pytest.raises(ValueError, match="score 'mIoU': no item has it; items have accuracy"):
        compared(one, one, "mIoU")
    with pytest.raises(FileNotFoundError, match="not scored"):
        compared(one, tmp_path)


def test_hostile_texts_stay_in_their_cells(scored):
    one, other = scored("a|b\n# c", "BC"), scored("<script>", "BB")
    lines = markdown(compared(one, other)).splitlines()
    assert not any("<script>" in line or line == "# c" for line in lines)
    widths = {line.count(" | ") for line in lines if line.startswith("| q")}
    assert widths == {5}
