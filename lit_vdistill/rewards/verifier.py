"""The verifier of VISD (Eq. 10-13, Appendix C.1), one class a term.

A term that a task has no truth for scores 0 and does not count in the maximum (`applies_to`):

    task                  answer  answer  answer  think    think  think  format
                                  _time   _box    _segment _point _space
    mcq, binary,             x                                              x
      numerical, ocr
    temporal_grounding               x                x                     x
    temporal_mcq             x       x                x                     x
    spatial_grounding                        x                     box      x
    spatio_temporal_          x                                              x
      grounding
    spatio_temporal_qa     ROUGE                               x    x       x
    open_ended             ROUGE                                            x

Paper and code bases disagree about `think_space`; `ThinkSpace` names the choices.
"""

import math
from dataclasses import dataclass
from typing import Literal

from rouge_score.rouge_scorer import RougeScorer

from lit_vdistill.responses import grammar
from lit_vdistill.responses.geometry import box_iou, temporal_iou
from lit_vdistill.responses.grammar import GroundedMention, ParsedResponse
from lit_vdistill.rewards.content import answer_metric
from lit_vdistill.rewards.reward import Reward
from lit_vdistill.types import Box, BoxAt, VideoSample

_ROUGE = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)


class Answer(Reward):
    """Exactness of a closed answer, mean ROUGE-1/2/L F1 of a free one.

    The answer block counts alone, whatever stands around it: the envelope is `GroundedFormat`'s.
    Temporal multiple choice is judged by its letter; its span is `AnswerTime`.
    """

    name = "answer"

    def applies_to(self, sample: VideoSample) -> bool:
        """Every task but pure grounding."""
        return sample.task.answers_words

    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """Score the answer block."""
        if not self.applies_to(sample):
            return 0.0
        if not sample.task.is_closed_ended:
            return rouge_f1(response.answer, sample.answer)
        if sample.task.answers_place:
            return sample.task.words_quality(response.answer, sample)
        return answer_metric(response.answer, sample)


class AnswerTime(Reward):
    """Temporal IoU of the answered span."""

    name = "answer_time"

    def applies_to(self, sample: VideoSample) -> bool:
        """Tasks whose answer is a span."""
        return sample.task.answers_span and bool(sample.evidence.spans)

    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """Score the first span of the answer block."""
        span = grammar.time_span(response.answer)
        if span is None or not self.applies_to(sample):
            return 0.0
        return temporal_iou(span, sample.evidence.spans[0])


class AnswerBox(Reward):
    """IoU of the answered box; the object's name does not matter."""

    name = "answer_box"

    def applies_to(self, sample: VideoSample) -> bool:
        """Tasks whose answer is a box."""
        return sample.task.answers_box and bool(sample.evidence.boxes)

    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """Score the first box of the answer block."""
        box = grammar.first_box(response.answer)
        if box is None or not self.applies_to(sample):
            return 0.0
        return box_iou(box, sample.evidence.boxes[0].box)


class ThinkSegment(Reward):
    """The share of the reasoning's `<t>` that lie in the annotated segment, ends included (Eq. 11).

    What a mentioned time is, the paper leaves open: `grammar.mentioned_times` reads them as VISD's
    release does.
    """

    name = "think_segment"

    def applies_to(self, sample: VideoSample) -> bool:
        """Tasks with an annotated segment."""
        return sample.task.answers_span and bool(sample.evidence.spans)

    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """Score every time that the think block mentions; 0 when there is none."""
        times = grammar.mentioned_times(response.think)
        if not times or not self.applies_to(sample):
            return 0.0
        start, end = sample.evidence.spans[0]
        return sum(start <= time <= end for time in times) / len(times)


class ThinkPoint(Reward):
    """How near the reasoning's `<t>` are to key frames: mean of exp(-d² / 2σ²) (Eq. 12).

    d is the distance to the nearest key frame, with boxes or without; `ProximityAnnealing` narrows
    σ over the run. Times are read as by `ThinkSegment`.
    """

    name = "think_point"

    def __init__(self, weight: float = 1.0, sigma_s: float = 4.0, name: str | None = None) -> None:
        """Remember weight and width.

        Args:
            weight: α of Eq. 10.
            sigma_s: σ of Eq. 12 in seconds.
            name: A name of its own.
        """
        super().__init__(weight, name)
        self.sigma_s = sigma_s

    def applies_to(self, sample: VideoSample) -> bool:
        """Tasks with key frames."""
        return sample.task.reasons_at_moments and bool(sample.evidence.moments)

    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """Score every time that the think block mentions; 0 when there is none."""
        times = grammar.mentioned_times(response.think)
        if not times or not self.applies_to(sample):
            return 0.0
        moments = sample.evidence.moments
        gaps = [min(abs(time - key) for key in moments) for time in times]
        return sum(math.exp(-(gap**2) / (2 * self.sigma_s**2)) for gap in gaps) / len(times)


Preset = Literal["visd", "open_o3", "vision_coach"]


@dataclass(frozen=True, slots=True)
class _SpaceRule:
    """What paper and code bases disagree about."""

    is_symmetric: bool
    """Gate |t - t*| <= τ; otherwise t* - t < τ, which lets late mentions pass at any distance."""
    join: Literal["best_box", "best_object", "mean_object"]
    """How the true boxes of the matched frame are joined: the best of all, or of each object the
    mean over its boxes, and of these the best or the mean."""
    needs_name: bool
    """Whether a mention is compared only with objects of a similar name."""
    counts_unmatched: bool
    """Whether mentions that match no frame count in Z; if not, they cost nothing."""
    needs_answer: bool
    """Whether reasoning that leads to no answer scores nothing."""


_SPACE_RULES: dict[Preset, _SpaceRule] = {
    "visd": _SpaceRule(True, "best_box", False, True, False),
    "open_o3": _SpaceRule(False, "best_object", False, True, True),
    "vision_coach": _SpaceRule(True, "mean_object", True, False, True),
}


class ThinkSpace(Reward):
    """How well the boxes of the reasoning lie on what they name (Eq. 13).

    A mention `<obj>…</obj><box>…</box>at<t>…</t>s` counts where a key frame with boxes is near in
    time; its score is the IoU with the nearest one's boxes, the mean over mentions the reward. For
    spatial grounding the best box of the reasoning is compared with the answer's.

    Presets: `visd` is Eq. 13: |t - t*| <= τ and the best true box, whatever its name; Z, which it
    leaves open, is the number of mentions, so that one too many costs. `open_o3` is that code's
    one-sided gate, and the best object. `vision_coach` is its released run, and VISD's: objects of
    a similar name, their mean, unmatched mentions free. Both pay only for what leads to an answer.
    """

    name = "think_space"

    def __init__(
        self,
        weight: float = 1.0,
        preset: Preset = "visd",
        tolerance_s: float = 1.0,
        name: str | None = None,
    ) -> None:
        """Remember weight and reading.

        Args:
            weight: α of Eq. 10.
            preset: Which reading of Eq. 13.
            tolerance_s: τ in seconds; both code bases have 1, the Open-o3-Video paper 3.
            name: A name of its own.
        """
        super().__init__(weight, name)
        self.rule, self.tolerance_s = _SPACE_RULES[preset], tolerance_s

    def applies_to(self, sample: VideoSample) -> bool:
        """Tasks with annotated boxes."""
        is_about_boxes = sample.task.answers_box or sample.task.reasons_at_moments
        return is_about_boxes and bool(sample.evidence.boxes)

    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """Score the think block; 0 without a mention."""
        is_empty = self.rule.needs_answer and not response.answer
        if is_empty or not self.applies_to(sample):
            return 0.0
        if sample.task.answers_box:
            truth = sample.evidence.boxes[0].box
            return max((box_iou(b, truth) for b in grammar.all_boxes(response.think)), default=0.0)
        mentions = grammar.grounded_mentions(response.think)
        scores = [self._score(mention, sample) for mention in mentions]
        matched = [score for score in scores if score is not None]
        counted = len(scores) if self.rule.counts_unmatched else max(1, len(matched))
        return sum(matched) / counted if counted else 0.0

    def _score(self, mention: GroundedMention, sample: VideoSample) -> float | None:
        """IoU of one mention; None where no key frame, or no object of its name, is near."""
        near = [box for box in sample.evidence.boxes if self._is_near(mention.time_s, box)]
        if not near:
            return None
        gaps = {box.time_s: abs(mention.time_s - _given(box.time_s)) for box in near}
        frame = min(gaps, key=lambda time: gaps[time])
        by_object: dict[str, list[Box]] = {}
        for box in near:
            if box.time_s == frame and self._is_named(mention.name, box.name):
                by_object.setdefault(box.name, []).append(box.box)
        if not by_object:
            return None
        if self.rule.join == "best_box":
            truths = [truth for found in by_object.values() for truth in found]
            return max(_best(mention, truth) for truth in truths)
        scores = [
            sum(_best(mention, truth) for truth in found) / len(found)
            for found in by_object.values()
        ]
        return max(scores) if self.rule.join == "best_object" else sum(scores) / len(scores)

    def _is_near(self, time_s: float, box: BoxAt) -> bool:
        if box.time_s is None:
            return False
        ahead = box.time_s - time_s
        return (
            abs(ahead) <= self.tolerance_s if self.rule.is_symmetric else ahead < self.tolerance_s
        )

    def _is_named(self, claimed: str, true: str) -> bool:
        """Equal, one inside the other, or a word in common, whatever the case."""
        if not self.rule.needs_name:
            return True
        claimed, true = claimed.lower().strip(), true.lower().strip()
        shares_word = bool(set(claimed.split()) & set(true.split()))
        return bool(claimed) and (claimed in true or true in claimed or shares_word)


class GroundedFormat(Reward):
    """1 for a valid envelope with the grounding its task asks for, 0.5 without it, else 0.

    Valid as `parse_response` says of the sample's envelope, and `<obj>`, `<box>` and `<t>` in the
    reasoning opened as often as closed. Asked for: two times for temporal tasks; an object with a
    box for spatial grounding, where VISD's release wants a name of one word; object, box and time
    for spatio-temporal questions; nothing otherwise.
    """

    name = "format"

    def __call__(self, response: ParsedResponse, sample: VideoSample) -> float:
        """Score the form, right or wrong."""
        think = response.think
        is_balanced = all(
            think.count(f"<{tag}>") == think.count(f"</{tag}>") for tag in ("obj", "box", "t")
        )
        if response.problem is not None or not is_balanced:
            return 0.0
        if sample.task.answers_span:
            is_grounded = think.count("<t>") >= 2
        elif sample.task.answers_box:
            everything = think + response.answer
            is_grounded = "<obj>" in everything and "<box>" in everything
        elif sample.task.reasons_at_moments:
            is_grounded = all(tag in think for tag in ("<obj>", "<box>", "<t>"))
        else:
            is_grounded = True
        return 1.0 if is_grounded else 0.5


def rouge_f1(text: str, truth: str) -> float:
    """Mean of ROUGE-1, -2 and -L F1 with stemming, in [0, 1]."""
    scores = _ROUGE.score(truth, text)
    return sum(score.fmeasure for score in scores.values()) / len(scores)


def _best(mention: GroundedMention, truth: Box) -> float:
    return max(box_iou(claim, truth) for claim in mention.boxes)


def _given(value: float | None) -> float:
    assert value is not None, "only boxes with a time are near"
    return value
