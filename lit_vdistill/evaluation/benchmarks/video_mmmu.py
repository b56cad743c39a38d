"""Video-MMMU: what is learnt from lectures, in three tracks, and how much of it is gained."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lit_vdistill.evaluation.benchmark import (
    Answered,
    Needed,
    ScoredItem,
    Verdict,
    cluster_of,
    groups_of,
    rows_of_table,
)
from lit_vdistill.evaluation.benchmarks.choices import ChoiceBenchmark, choice_verdict
from lit_vdistill.evaluation.benchmarks.files import Row, Videos, first_file, rows_of, samples_of
from lit_vdistill.evaluation.benchmarks.open_answers import is_stated
from lit_vdistill.readers.options import bare_options
from lit_vdistill.readers.records import BadSample
from lit_vdistill.readers.schema import checked, expect, text_of
from lit_vdistill.tasks import Task
from lit_vdistill.types import VideoSample

TRACKS = ("perception", "comprehension", "adaptation")
BEFORE = "question_only"
"""The questions of adaptation about a clip that shows their picture alone: before the lecture."""
_PUBLISHER = "https://huggingface.co/datasets/lmms-lab/VideoMMMU"
_DISCIPLINES = {
    "Art": ("Art", "Art_Theory", "Design", "Music"),
    "Business": ("Accounting", "Economics", "Finance", "Manage", "Marketing"),
    "Engineering": (
        "Agriculture", "Architecture_and_Engineering", "Computer_Science", "Electronics",
        "Energy_and_Power", "Materials", "Mechanical_Engineering",
    ),
    "Humanities": ("History", "Literature", "Psychology", "Sociology"),
    "Medicine": (
        "Basic_Medical_Science", "Clinical_Medicine", "Diagnostics_and_Laboratory_Medicine",
        "Pharmacy", "Public_Health",
    ),
    "Science": ("Biology", "Chemistry", "Geography", "Math", "Physics"),
}  # fmt: skip
_OF_SUBJECT = {subject: name for name, subjects in _DISCIPLINES.items() for subject in subjects}
_TOLD = {
    "perception": "Leave a quiz question in the last frame of the video aside.",
    "comprehension": "Leave a quiz question in the last frame of the video aside.",
    "adaptation": "The video teaches what the question needs; its picture is at the video's end.",
    BEFORE: "Its picture is what the video shows.",
}
_RMSD = {"GPT-4o": (61.2,), "Gemini-2.5-Pro": (83.6,), "Seed1.5-VL": (81.4,)}
_RMSD_64 = {
    "Qwen3-VL-2B": (39.5,),
    "Qwen3-VL-4B": (55.4,),
    "SFT+RL-4B": (55.9,),
    "Qwen3-VL-8B": (63.3,),
    "R-MSD-2B": (40.8,),
    "R-MSD-4B": (58.6,),
}
_COLUMNS = (
    "accuracy", "track/comprehension/accuracy", "track/adaptation/accuracy",
    "track/perception/accuracy",
)  # fmt: skip
_VISD = {
    "GPT-4o": (61.2, None, None, 66.0),
    "LongVT-RL-7B": (52.1, 49.3, 43.0, 64.0),
    "Qwen2.5-VL-7B": (51.2, None, None, 64.7),
    "VideoRFT-7B": (51.1, None, None, 66.0),
    "Video-R1-7B": (52.4, None, None, 65.3),
    "Open-o3-Video-7B": (52.6, 49.1, 41.3, 67.4),
    "VisionCoach-7B": (53.8, 49.0, 42.2, 70.3),
    "VISD-7B": (53.8, 49.7, 42.3, 69.3),
}


class VideoMMMU(ChoiceBenchmark):
    """Accuracy over all questions, by track and discipline; the knowledge that lectures give."""

    name = "video_mmmu"
    scores = {
        "accuracy": "share of right answers of the three tracks",
        "delta_knowledge": "of what was wrong before the lecture, how much more is right after it",
        "wrong2right": "of what was wrong before the lecture, the share that is right after it",
        "right2wrong": "of what was right before the lecture, the share that is wrong after it",
        "before": "accuracy of adaptation before the lecture",
        "after": "accuracy of adaptation after the lecture",
        "gained": "share of adaptation that is right after the lecture alone",
        "lost": "share of adaptation that is right before the lecture alone",
    }
    published = (
        *rows_of_table("R-MSD Table 1", ("accuracy",), _RMSD),
        *rows_of_table("R-MSD Table 1, 64 frames", ("accuracy",), _RMSD_64),
        *rows_of_table("VISD Table 2", _COLUMNS, _VISD),
    )
    remarks = (
        "R-MSD calls its column the knowledge gained; its row of GPT-4o is that model's accuracy, "
        "as VISD Table 2 has it, so the column is shown beside ours.",
        "Open questions are scored by rules: a number to two decimals, or the true text in whole "
        "words, in what is said behind the last 'is', '=' or 'answer'. The official script takes "
        "parts of words too.",
    )

    def __init__(self, asks_before: bool = True) -> None:
        """Choose whether knowledge gained is measured.

        Args:
            asks_before: Ask the questions of adaptation about clips of their picture, too.
        """
        self.asks_before = asks_before
        self.needed = (
            *(
                Needed(f"{track.title()}.jsonl", "300 questions", _PUBLISHER)
                for track in TRACKS
            ),
            Needed("Art, Business, …", "300 lectures by discipline", _PUBLISHER),
            *((Needed(BEFORE, "300 clips of 2 s", _PUBLISHER),) if asks_before else ()),
        )  # fmt: skip

    def read(self, root: Path) -> tuple[list[VideoSample], list[BadSample]]:
        """See `Benchmark`; a file a track, `.jsonl`, `.json` or the published `.parquet`."""
        videos = Videos(root)
        samples: list[VideoSample] = []
        bad: list[BadSample] = []
        for track in TRACKS:
            stem = track.title()
            names = (f"{stem}.jsonl", f"{stem}.json", f"{stem}/test-00000-of-00001.parquet")
            rows = rows_of(first_file(root, names, f"track '{track}' of Video-MMMU"))
            good, refused = _read(rows, track, videos)
            samples += good
            bad += refused
            if track == "adaptation" and self.asks_before:
                # What is broken is so in both, and counts once.
                samples += _read(rows, BEFORE, videos)[0]
        return samples, bad

    def verdicts(self, answered: Sequence[Answered]) -> list[Verdict]:
        """See `Benchmark`."""
        return [choice_verdict(one) if one.sample.options else _open(one) for one in answered]

    def items(self, answered: Sequence[Answered], verdicts: Sequence[Verdict]) -> list[ScoredItem]:
        """See `Benchmark`; a question of adaptation has its answer before the lecture beside it."""
        pairs = list(zip(answered, verdicts, strict=True))
        before = {_item(one): found for found in pairs if _is_before(one := found[0])}
        items = []
        for one, verdict in pairs:
            if _is_before(one):
                continue
            sample, values, ids = one.sample, dict(verdict.values), ()
            if _item(one) in before:
                earlier, worth = before.pop(_item(one))
                after, then = verdict.values["accuracy"], worth.values["accuracy"]
                values |= {"after": after, "before": then}
                values |= {"gained": after * (1 - then), "lost": then * (1 - after)}
                ids = (sample.id, earlier.sample.id)
            items.append(ScoredItem(sample.id, cluster_of(sample), values, groups_of(sample), ids))
        if before:
            raise ValueError(
                f"Video-MMMU needs an answer to {next(iter(before))}, whose question was answered "
                "before the lecture"
            )
        return items

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        """Δ_knowledge and its companions, where questions were asked before the lecture."""
        if "before" not in means:
            return {}
        before, found = means["before"], {}
        if before < 1:
            found["delta_knowledge"] = (means["after"] - before) / (1 - before)
            found["wrong2right"] = means["gained"] / (1 - before)
        if before > 0:
            found["right2wrong"] = means["lost"] / before
        return found


def _read(
    rows: Sequence[Row], track: str, videos: Videos
) -> tuple[list[VideoSample], list[BadSample]]:
    samples, bad = samples_of(rows, lambda row: _sample(row, track, videos))
    if track in ("adaptation", BEFORE):
        samples = [_with_item(sample, sample.id.removeprefix(f"{track}-")) for sample in samples]
    return samples, bad


def _with_item(sample: VideoSample, name: str) -> VideoSample:
    """A question that is asked before and after the lecture."""
    return replace(sample, meta={**sample.meta, "item": f"adaptation-{name}"})


def _sample(raw: Any, track: str, videos: Videos) -> VideoSample:
    raw = expect(raw, dict, "row")
    name, question = text_of(raw, "id"), text_of(raw, "question")
    options = bare_options(
        [expect(o, str, "options") for o in expect(_options(raw), list, "options")]
    )
    is_open = raw.get("question_type") == "open" or not options
    subject = "_".join(name.split("_")[1:-1])
    discipline = _OF_SUBJECT.get(subject)
    lecture = videos.path(f"{discipline or subject}/{name}.mp4")
    clip = videos.path(f"{BEFORE}/{name}_image.mp4")
    # The same question before and after: the clip is no other video.
    groups = [f"track/{track}", *([f"discipline/{discipline}"] if discipline else [])]
    truth = _truths(raw.get("answer"))
    return checked(
        VideoSample(
            id=f"{track}-{name}",
            task=Task.OPEN_ENDED if is_open else Task.MCQ,
            question=f"{question}\n{_TOLD[track]}",
            answer=" | ".join(truth) if is_open else truth[0].strip(),
            media=clip if track == BEFORE else lecture,
            options=() if is_open else options,
            meta={
                "video": name,
                "kind": f"{track}_open" if is_open else track,
                "track": track,
                "truths": truth,
                "groups": groups,
                "fills": {"question": question},
            },
        )
    )


def _options(raw: Mapping[str, Any]) -> Any:
    found = raw.get("options")
    return [] if found is None else found


def _truths(answer: Any) -> list[str]:
    """The true answer, or several that are all right."""
    found = answer if isinstance(answer, list) else [answer]
    if not found or not all(type(one) in (str, int, float) and str(one).strip() for one in found):
        raise ValueError(f"'answer' must be a text or a list of texts, got {answer!r:.80}")
    return [str(one) for one in found]


def _open(one: Answered) -> Verdict:
    said = is_stated(one.text, one.sample.meta["truths"])
    return Verdict({"accuracy": float(bool(said))}, "no answer" if said is None else None)


def _is_before(one: Answered) -> bool:
    return one.sample.meta["track"] == BEFORE


def _item(one: Answered) -> str:
    return str(one.sample.meta.get("item"))
