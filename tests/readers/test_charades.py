import json

from lit_vdistill.readers.records import read_records
from lit_vdistill.tasks import Task

VIDEOS = {
    "3MSZA": {
        "duration": 30.96,
        "timestamps": [[24.3, 30.4], [5, 9.0], [3.0, 3.0]],
        "sentences": ["person turns a light on.", "person sits.", "person waves."],
    },
    "LEOL6": {"duration": 21.0, "timestamps": [[9.0, 4.0]], "sentences": ["person runs."]},
}


def test_every_sentence_is_a_query(tmp_path):
    path = tmp_path / "charades_train.json"
    path.write_text(json.dumps(VIDEOS))
    samples, bad = read_records(path)
    assert [sample.id for sample in samples] == ["3MSZA_0", "3MSZA_1", "3MSZA_2"]
    first = samples[0]
    assert (first.task, first.media) == (Task.TEMPORAL_GROUNDING, "3MSZA.mp4")
    assert (first.question, first.answer) == ("person turns a light on.", "[24.3, 30.4]")
    assert (first.evidence.spans, first.meta["duration_s"]) == (((24.3, 30.4),), 30.96)
    # A truth of no length stays, as the benchmark counts it; one that ends before it begins cannot.
    assert samples[2].evidence.spans == ((3.0, 3.0),)
    assert [str(b).partition(", got")[0] for b in bad] == [
        f"LEOL6_0 ({path}, LEOL6_0): 'evidence.spans' must have 0 <= start <= end, both finite"
    ]


def test_broken_entries_are_named(tmp_path):
    path = tmp_path / "c.json"
    whole = {"duration": 9, "timestamps": [[1, 2]], "sentences": ["a"]}
    broken = {
        "good": whole,
        "text": "x",
        "short": whole | {"timestamps": []},
        "long": whole | {"timestamps": [[1, 2], [3, 4]]},
        "nan": whole | {"duration": float("nan")},
        "words": whole | {"sentences": [3]},
        "up/../..": whole | {"sentences": [""]},
    }
    path.write_text(json.dumps(broken))
    samples, bad = read_records(path)
    assert [sample.id for sample in samples] == ["good_0", "long_0"]
    assert [b.id for b in bad] == ["text", "short_0", "long_1", "nan_0", "words_0", "up/../.._0"]


def test_the_original_text(tmp_path):
    path = tmp_path / "charades_sta_test.txt"
    lines = ["3MSZA 24.3 30.4##person turns a light on.", "", "3MSZA 1 2##person \u2028 sits.",
             "no line", "AB 1 two##x", "AB 1 2##"]  # fmt: skip
    path.write_text("\n".join(lines))
    samples, bad = read_records(path)
    assert [(s.id, s.evidence.spans) for s in samples] == [
        ("3MSZA_0", ((24.3, 30.4),)),
        ("3MSZA_1", ((1.0, 2.0),)),
    ]
    assert samples[1].question == "person \u2028 sits."
    assert [b.place.rpartition(" ")[2] for b in bad] == ["4", "5", "6"]
