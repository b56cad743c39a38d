"""LongVideo-Reason-eval: four options on long videos, in four kinds (the LRR of VISD Table 2)."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_vdistill.evaluation.benchmark import Answered, Needed, Verdict, rows_of_table
from lit_vdistill.evaluation.benchmarks.answers import answer_text
from lit_vdistill.evaluation.benchmarks.choices import ChoiceBenchmark, choice_verdict
from lit_vdistill.evaluation.benchmarks.files import Videos, first_file, rows_of, samples_of
from lit_vdistill.readers.options import LETTERS, split_options
from lit_vdistill.readers.records import BadSample
from lit_vdistill.readers.schema import checked, expect, text_of
from lit_vdistill.responses.grammar import option_letter
from lit_vdistill.tasks import Task
from lit_vdistill.types import VideoSample

_FILES = ("test.parquet", "test.jsonl", "test.json", "data/test-00000-of-00001.parquet")
_PUBLISHER = "https://huggingface.co/datasets/LongVideo-Reason"
_BETWEEN = re.compile(r"</think>\s{0,100}<answer>")
_KINDS = ("temporal", "goal", "spatial", "plot")
_VISD = {
    "LongVT-RL-7B": (75.1,),
    "Qwen2.5-VL-7B": (59.3,),
    "VideoRFT-7B": (69.4,),
    "Video-R1-7B": (68.9,),
    "Open-o3-Video-7B": (69.1,),
    "VisionCoach-7B": (70.7,),
    "VISD-7B": (73.5,),
}


class LongVideoReason(ChoiceBenchmark):
    """Accuracy over all questions and by kind; how many answers have the official form."""

    name = "longvideo_reason"
    scores = {
        "accuracy": "share of right answers",
        "strict": "share of answer blocks that are the true letter and nothing else, as officially",
        "format_rate": "share of responses that begin with a think block and answer behind it",
    }
    needed = (
        Needed(_FILES[0], "the test split, 1 000 questions", f"{_PUBLISHER}/longvideo-reason"),
        Needed("longvila_videos", "991 videos, 195 GB", f"{_PUBLISHER}/longvideo_eval_videos"),
    )
    published = rows_of_table("VISD Table 2", ("accuracy",), _VISD)
    remarks = (
        "True letters are not spread evenly: lmms-eval counts 441 B, 299 C, 153 A and 107 D, so "
        "that B throughout has 44 %.",
        "Questions whose options cannot be told apart, of which the official file has a few, count "
        "as right where the answer is the true one, letter for letter.",
        "The official script keeps one answer a video, so that two questions about one video meet; "
        "here each is its own.",
    )

    def read(self, root: Path) -> tuple[list[VideoSample], list[BadSample]]:
        """See `Benchmark`."""
        path = first_file(root, _FILES, "questions of LongVideo-Reason-eval")
        videos = Videos(root)
        rows = [
            (place, {"id": f"longvideo-reason-{_number(row, number)}", "row": row})
            for number, (place, row) in enumerate(rows_of(path))
        ]
        return samples_of(rows, lambda named: _sample(named["row"], named["id"], videos))

    def verdicts(self, answered: Sequence[Answered]) -> list[Verdict]:
        """See `Benchmark`."""
        return [_verdict(one) for one in answered]


def _verdict(one: Answered) -> Verdict:
    answer, truth = answer_text(one.text), one.sample.answer
    if one.sample.options:
        found = choice_verdict(one)
    else:
        right = truth in (answer, option_letter(answer))
        found = Verdict({"accuracy": float(right)}, None if answer else "no answer")
    values = {"strict": float(answer == truth), "format_rate": float(_is_formed(one.text))}
    return Verdict({**found.values, **values}, found.problem)


def _is_formed(text: str) -> bool:
    between = _BETWEEN.search(text)
    is_closed = between is not None and "</answer>" in text[between.end() :]
    return is_closed and text.startswith("<think>")


def _sample(raw: Any, name: str, videos: Videos) -> VideoSample:
    raw = expect(raw, dict, "row")
    written = text_of(raw, "problem")
    truth = (
        text_of(raw, "answer").strip().removeprefix("<answer>").removesuffix("</answer>").strip()
    )
    try:
        question, options = split_options(written)
    except ValueError:
        question, options = written, ()
    if truth not in tuple(LETTERS[: len(options)]):
        question, options = written, ()  # its options cannot be told apart
    path = text_of(raw, "videos")
    kind = text_of(raw, "problem_type")
    if kind not in _KINDS:
        raise ValueError(f"'problem_type' must be one of {list(_KINDS)}, got '{kind:.80}'")
    return checked(
        VideoSample(
            id=name,
            task=Task.MCQ if options else Task.OPEN_ENDED,
            question=question,
            answer=truth,
            media=videos.path(path.removeprefix("./")),
            options=options,
            as_written=written,
            meta={
                "video": path,
                "kind": "choice",
                "groups": [f"kind/{kind}"],
                "fills": {"question": written},
            },
        )
    )


def _number(row: Any, place: int) -> int:
    number = row.get("problem_id") if isinstance(row, dict) else None
    return number if type(number) is int else place
