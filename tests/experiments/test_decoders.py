from experiments.clips import CLIPS, write_clip
from experiments.decoders import READERS, read, rows


def test_each_reader_is_judged_by_the_pictures(tmp_path):
    """In processes of their own, as the table is made."""
    (row,) = rows(tmp_path, {"mpeg2.ts": CLIPS["mpeg2.ts"]})
    name, alone, decord, pyav = row.strip("| \n").split(" | ")
    assert (name, decord) == ("mpeg2.ts", "refused")
    assert "16 of 16 wrong" in alone
    assert pyav.startswith("right, ")


def test_a_reading_is_right_where_numbers_and_times_agree(tmp_path):
    write_clip(tmp_path / "h264.mp4", CLIPS["h264.mp4"])
    for reader in READERS:
        assert read("h264.mp4", str(tmp_path / "h264.mp4"), reader)["verdict"] == "right"
