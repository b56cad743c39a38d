"""V-STaR: what, when and where of a video, by two chains of reasoning (VISD Table 1).

An item has five questions: what; when and where of chain 1; where and when of chain 2. The second
question of a chain is not told what was answered to the first, but the truth, as officially.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from lit_vdistill.evaluation.benchmark import (
    Answered,
    Benchmark,
    Needed,
    ScoredItem,
    Verdict,
    cluster_of,
    groups_of,
    rows_of_table,
)
from lit_vdistill.evaluation.benchmarks.answers import NO_SPAN, answer_text, plain, read_span
from lit_vdistill.evaluation.benchmarks.files import Videos, first_file, rows_of
from lit_vdistill.evaluation.benchmarks.vstar_record import KINDS, questions_of
from lit_vdistill.metrics.vstar_item import (
    CHAINS,
    SPACE_THRESHOLDS,
    TIME_THRESHOLDS,
    is_about_all,
    is_right,
    joint_scores,
    overall,
    when_scores,
    where_scores,
)
from lit_vdistill.readers.records import BadSample, guess_id
from lit_vdistill.responses.tracks import boxes_by_second
from lit_vdistill.types import VideoSample

_FILE = "V_STaR_test.json"
_PUBLISHER = "https://huggingface.co/datasets/V-STaR-Bench/V-STaR"
_BY_RULES = "by rules, without a judge: not comparable"
_RULE = (
    f"Acc, and all that it enters, is {_BY_RULES}. An answer is right that has the words of the "
    "true one in a row, and at most ten words or three times as many."
)
_WHOLE = ("acc", "tIoU_1", "tIoU_2", "vIoU_1", "vIoU_2", "mAM", "mLGM")
_PLACES = _WHOLE[1:5]
_VISD = {
    "Gemini-2-Flash": (53.0, 24.5, 23.8, 4.6, 2.2, 26.9, 35.6),
    "GPT-4o": (60.8, 16.7, 12.8, 6.5, 3.0, 26.8, 38.2),
    "TRACE": (17.6, 19.1, 17.1, 0.0, 0.0, 12.0, 13.3),
    "Oryx-1.5-7B": (20.5, 13.5, 14.8, 10.1, 3.5, 15.1, 13.8),
    "VideoChat2": (36.2, 13.7, 12.5, 2.5, 1.0, 17.0, 20.3),
    "Qwen2.5-VL-7B": (33.5, 15.4, 13.8, 17.0, 2.5, 19.3, 22.4),
    "InternVL-2.5-8B": (44.2, 8.7, 7.8, 0.7, 0.1, 17.6, 24.9),
    "Video-LLaMA3": (41.9, 23.0, 23.1, 0.9, 0.2, 21.7, 27.0),
    "LLaVA-Video": (49.5, 10.5, 12.2, 1.9, 1.3, 20.8, 27.3),
    "Open-o3-Video-7B": (60.1, 25.0, 23.6, 25.6, 5.6, 33.4, 45.8),
    "VisionCoach-7B": (61.2, 25.4, 25.4, 27.1, 5.3, 34.3, 47.5),
    "VISD-7B": (61.9, 26.8, 27.2, 26.7, 6.3, 35.1, 48.9),
}
_RMSD = {"Sa2VA-8B": (0.1, 0.0, 32.3, 37.5), "Open-o3-Video": (24.5, 24.0, 25.4, 6.0)}
_RMSD_64 = {
    "Qwen3-VL-4B": (21.3, 18.5, 22.3, 5.0),
    "R-MSD-4B": (25.2, 23.4, 24.8, 7.0),
}
_CHAIN_OF = {"temporal": 1, "spatial": 1, "spatial_2": 2, "temporal_2": 2}


@runtime_checkable
class Rater(Protocol):
    """Says how right answers are, from 0 to 3; `judge.served_judge.OpenAIRater` is one."""

    def rate(self, asked: Sequence[tuple[str, str, str]]) -> list[int | None]:
        """A rating each; None where there is none.

        Args:
            asked: Question, true answer and candidate of each.
        """
        ...


def _names(*per_chain: tuple[str, str]) -> Iterator[tuple[str, str]]:
    for name, what in per_chain:
        yield from ((f"{name}_{chain}", f"{what}, chain {chain}") for chain in CHAINS)


_JOINT = (
    ("joint/what_when", "share right in what and when"),
    ("joint/what_where", "share right in what and where"),
    ("joint/when_where", "share right in when and where"),
    ("joint/all", "share right in all three"),
)


class VStar(Benchmark):
    """What by a rater, when by temporal IoU, where by the IoU at each annotated second.

    Each item gives all scores, so that items can be compared; LGM is a function of means. An item
    whose answer to what is empty scores 0 throughout.
    """

    name = "vstar"
    headline = "mAM"
    right = "acc"
    scores: Mapping[str, str] = {
        "mAM": "mean of AM over both chains",
        "mLGM": "mean of LGM over both chains; may exceed 1",
        "acc": "share of answers rated 2 or 3 of 3",
        **dict(
            _names(
                ("tIoU", "mean temporal IoU"),
                ("vIoU", "mean IoU of boxes at annotated seconds"),
                ("AM", "mean of acc, tIoU and vIoU"),
                ("LGM", "mean of -ln(1 - x) of acc, tIoU and vIoU"),
                *(
                    (f"R@{m}", f"share of items with a temporal IoU of {m}")
                    for m in TIME_THRESHOLDS
                ),
                *((f"AP@{m}", f"mean share of boxes with an IoU of {m}") for m in SPACE_THRESHOLDS),
                *_JOINT,
            )
        ),
    }
    needed = (
        Needed(_FILE, "about 2 094 items", _PUBLISHER),
        Needed("videos", "a video an item by its vid, 29.6 GB", _PUBLISHER),
    )
    published = (
        *rows_of_table("VISD Table 1", _WHOLE, _VISD),
        *rows_of_table("R-MSD Table 2", _PLACES, _RMSD),
        *rows_of_table("R-MSD Table 2, 64 frames", _PLACES, _RMSD_64),
    )
    remarks: tuple[str, ...] = (
        "Boxes are compared in units of the frames that the model sees; the official script "
        "compares pixels of resized frames with pixels of the video.",
        "A segment is read in our grammar, as 'a to b', or as the only two numbers of the answer, "
        "which is the official rule; that loses '12s to 15s'.",
        "LGM of a perfect score is infinite; 1 - 1e-6 is taken.",
        "In VISD Table 1 the mAM and mLGM of Oryx-1.5 stand in each other's place, and mLGM of "
        "InternVL-2.5 does not follow from its parts.",
    )

    def __init__(self, rater: Rater | None = None, is_official: bool = False) -> None:
        """Choose who rates, and what means are over.

        Args:
            rater: Rates answers to what; None takes rules, which no paper's rows compare with.
            is_official: Leave items without an answer out of all means but Acc and the joint rates
                with what, as the official script does; else they score 0 throughout. Then AM and
                mAM are no scores of items: they follow from means over different items.
        """
        self.rater, self.is_official = rater, is_official
        if rater is None:
            names = ("acc", "mAM", "mLGM")
            named = {name: f"{VStar.scores[name]}; {_BY_RULES}" for name in names}
            self.scores = {**VStar.scores, **named}
            self.remarks = (_RULE, *VStar.remarks)
        if is_official:
            self.remarks += ("Items without an answer are left out of means, as officially.",)

    def read(self, root: Path) -> tuple[list[VideoSample], list[BadSample]]:
        """See `Benchmark`; a row is an item, called by its number, as a video may have several."""
        path = first_file(root, (_FILE,), "items of V-STaR")
        videos = Videos(root)
        samples: list[VideoSample] = []
        bad: list[BadSample] = []
        for number, (place, row) in enumerate(rows_of(path)):
            try:
                asked = questions_of(row, f"vstar-{number}")
            except ValueError as error:
                bad.append(BadSample(f"vstar-{number} ({guess_id(row)})", place, str(error)))
                continue
            samples += [replace(one, media=videos.path(str(one.media))) for one in asked]
        return samples, bad

    def verdicts(self, answered: Sequence[Answered]) -> list[Verdict]:
        """See `Benchmark`; all answers to what are rated in one go, the empty ones are wrong."""
        asked = {
            place: (str(one.sample.meta["fills"]["question"]), one.sample.answer, said)
            for place, one in enumerate(answered)
            if _kind(one) == "vqa" and (said := answer_text(one.text))
        }
        rate = self.rater.rate if self.rater is not None else _rated_by_rules
        ratings = dict(zip(asked, rate(list(asked.values())), strict=True))
        return [
            _rated(ratings, place) if _kind(one) == "vqa" else _placed(one)
            for place, one in enumerate(answered)
        ]

    def by_rules(self) -> "VStar":
        """See `Benchmark`."""
        return self if self.rater is None else VStar(None, self.is_official)

    def items(self, answered: Sequence[Answered], verdicts: Sequence[Verdict]) -> list[ScoredItem]:
        """See `Benchmark`."""
        found: dict[str, dict[str, tuple[Answered, Verdict]]] = {}
        for one, verdict in zip(answered, verdicts, strict=True):
            found.setdefault(str(one.sample.meta["item"]), {})[_kind(one)] = one, verdict
        return [self._item(item, parts) for item, parts in found.items()]

    def derived(self, means: Mapping[str, float]) -> dict[str, float]:
        """LGM and mLGM; with official denominators AM and mAM too."""
        parts = ("acc", *(f"{name}_{chain}" for name in ("tIoU", "vIoU") for chain in CHAINS))
        if not set(parts) <= set(means):
            return {}
        return {k: v for k, v in overall(means).items() if self.is_official or "LGM" in k}

    def _item(self, item: str, parts: Mapping[str, tuple[Answered, Verdict]]) -> ScoredItem:
        if missing := [kind for kind in KINDS if kind not in parts]:
            raise ValueError(
                f"V-STaR item {item} needs answers to all of {', '.join(KINDS)}; missing: "
                f"{', '.join(missing)}"
            )
        values = {k: v for _, verdict in parts.values() for k, v in verdict.values.items()}
        values |= joint_scores(values)
        what = parts["vqa"][0]
        groups = groups_of(what.sample)
        if not self.is_official:
            values |= {k: v for k, v in overall(values).items() if "AM" in k}
        if not answer_text(what.text):
            values = dict.fromkeys(values, 0.0)
            if self.is_official:
                values = {name: value for name, value in values.items() if is_about_all(name)}
                groups = ()
        ids = tuple(parts[kind][0].sample.id for kind in KINDS)
        return ScoredItem(item, cluster_of(what.sample), values, groups, ids)


def _kind(one: Answered) -> str:
    return str(one.sample.meta["kind"])


def _rated(ratings: Mapping[int, int | None], place: int) -> Verdict:
    rating = ratings.get(place)
    problem = "no answer" if place not in ratings else "no rating" if rating is None else None
    return Verdict({"acc": float(is_right(rating))}, problem)


def _placed(one: Answered) -> Verdict:
    kind, evidence = _kind(one), one.sample.evidence
    if kind.startswith("temporal"):
        span = read_span(one.text)
        values = when_scores(span, evidence.spans[0], _CHAIN_OF[kind])
        return Verdict(values, NO_SPAN if span is None else None)
    said = boxes_by_second(answer_text(one.text))
    truth = [(int(box.time_s), box.box) for box in evidence.boxes if box.time_s is not None]
    return Verdict(
        where_scores(said, truth, _CHAIN_OF[kind]), None if said else "no box with its second"
    )


def _rated_by_rules(asked: Sequence[tuple[str, str, str]]) -> list[int | None]:
    return [3 if _stated(truth, candidate) else 0 for _, truth, candidate in asked]


def _stated(truth: str, candidate: str) -> bool:
    """Whether an answer has the true one's words in a row, and not many others."""
    true, said = _words(truth), _words(candidate)
    fits = len(said) <= max(10, 3 * len(true))
    return fits and f" {' '.join(true)} " in f" {' '.join(said)} "


def _words(text: str) -> list[str]:
    return "".join(c if c.isalnum() else " " for c in plain(text)).split()
