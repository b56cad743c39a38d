"""Hostile records and responses through reader, encoder, rewards, metrics and judge's prompt.

python -m tests.fuzz --cases 500000

Ten clips are rendered once; records about them are spoilt, those that the reader takes are encoded,
and hostile responses to them are graded by everything that reads a response. Nothing may raise but
what names its sample, and no number may be other than finite and in its range. Prints what was
found and how long a text takes; exit code 1 where anything was found.
"""

import argparse
import contextlib
import json
import math
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from transformers import ProcessorMixin
from transformers.utils import logging as transformers_logging

from lit_vdistill import jsonl
from lit_vdistill.data.batch import Item
from lit_vdistill.data.dataset import PromptDataset
from lit_vdistill.data.prompt_config import PromptConfig
from lit_vdistill.judge.judge import JudgeCase
from lit_vdistill.judge.prompt import judge_messages, read_feedback
from lit_vdistill.judge.rule_judge import RuleJudge
from lit_vdistill.media.video import FrameConfig, MediaReader
from lit_vdistill.metrics.token_truth import marks
from lit_vdistill.models.tokens import plain_ids
from lit_vdistill.models.vlm import load_processor
from lit_vdistill.pool.store import PoolStore
from lit_vdistill.readers.records import read_records
from lit_vdistill.responses.grammar import parse_response
from lit_vdistill.responses.prompts import TEMPLATES
from lit_vdistill.rewards import (
    Answer,
    AnswerBox,
    AnswerTime,
    Content,
    GroundedFormat,
    OuterFormat,
    StatedFacts,
    TaskFormat,
    ThinkPoint,
    ThinkSegment,
    ThinkSpace,
    answer_quality,
    graded_quality,
    reward_breakdown,
    rule_score,
)
from lit_vdistill.types import VideoSample
from lit_vdistill.world.build import build_world
from lit_vdistill.world.config import WorldConfig
from tests.fuzz.records import record
from tests.fuzz.texts import response

REWARDS = [
    kind()
    for kind in (
        *(Answer, AnswerBox, AnswerTime, Content, GroundedFormat, OuterFormat, StatedFacts),
        *(TaskFormat, ThinkPoint, ThinkSegment, ThinkSpace),
    )
]
RESPONSES = 9
"""For each record."""
_SHOWN = 10


@dataclass
class Report:
    """What was seen."""

    records: int = 0
    encoded: int = 0
    responses: int = 0
    seconds: list[float] = field(default_factory=list)
    """By response."""
    found: list[str] = field(default_factory=list)
    """What should not have happened, with its input."""
    refused: Counter[str] = field(default_factory=Counter)
    """Samples that were left out, by the beginning of the reason."""

    def percentile(self, share: float) -> float:
        """Seconds that this share of responses keeps to."""
        ranked = sorted(self.seconds)
        return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def fuzz(cases: int, seed: int, folder: Path) -> Report:
    """Make and try so many records and responses.

    Args:
        cases: Records and responses together.
        seed: Of what is made; the same seed makes the same.
        folder: Where clips and records are written.
    """
    rng, report = random.Random(seed), Report()
    world = folder / "world"
    build_world(world, WorldConfig(train_videos=10, val_videos=1, test_videos=1))
    whole = [row for _, row in jsonl.read(world / "train.jsonl")]
    processor = load_processor("tiny/qwen3-vl")
    reader = MediaReader(
        world, FrameConfig(8, max_pixels=9216), factor=32, cache_dir=folder / "frames"
    )
    path = folder / "hostile.jsonl"
    while report.records + report.responses < cases:
        rest = cases - report.records - report.responses
        lines = [record(rng, rng.choice(whole)) for _ in range(min(2000, -(-rest // 2)))]
        path.write_bytes(b"{}\n" + b"".join(lines))
        samples, bad = read_records(path)
        report.records += len(lines)
        report.refused.update(str(sample.reason)[:40] for sample in bad)
        # A last line that a crash has torn is passed over, which is said.
        if len(samples) + len(bad) not in (len(lines), len(lines) + 1):
            report.found.append(f"{len(lines)} lines gave {len(samples)} and {len(bad)} samples")
        units = rng.choice(("pixels", "thousandths"))
        dataset = PromptDataset(
            samples,
            {},
            reader,
            processor,
            TEMPLATES[rng.choice(tuple(TEMPLATES))],
            PromptConfig(box_units=units),
        )
        for index in range(len(samples)):
            if report.records + report.responses >= cases:
                break
            item = dataset[index]
            if not isinstance(item, Item):
                report.refused[item.reason[:40]] += 1
                continue
            report.encoded += 1
            _check_item(item, report)
            for _ in range(RESPONSES):
                _try(item.sample, response(rng, item.sample), report, processor)
        _try_pool(rng, samples, folder / "pool.jsonl", report)
    return report


def _try_pool(rng: random.Random, samples: list[VideoSample], path: Path, report: Report) -> None:
    """A pool is refused by the line that is wrong, or read to the last."""
    for sample in samples[:20]:
        row = {"sample_id": sample.id, "index": 0, "text": response(rng, sample), "model": "m"}
        path.write_bytes(record(rng, {**row, "temperature": 1.0, "top_p": 0.9}))
        try:
            pools = PoolStore(path).load()
        except ValueError as error:
            if str(path) not in str(error):
                report.found.append(f"a pool's error without a place: {error}")
        else:
            json.dumps([r.text for pool in pools.values() for r in pool]).encode()


def _check_item(item: Item, report: Report) -> None:
    prompt = item.prompt
    seconds = prompt.second_per_grid
    is_sound = len(prompt.input_ids) == len(prompt.token_types) > 0
    is_sound &= seconds is None or math.isfinite(seconds)
    is_sound &= prompt.pixels is None or bool(prompt.tower_input().isfinite().all())
    if not is_sound:
        report.found.append(f"prompt of {item.sample!r:.300}")


def _try(sample: VideoSample, text: str, report: Report, processor: ProcessorMixin) -> None:
    report.responses += 1
    begun = time.process_time()
    try:
        for name, value in _numbers(sample, text, processor):
            if not 0.0 <= value <= 1.0:  # nor NaN
                report.found.append(f"{name} is {value}: {sample!r:.300} {text!r:.300}")
    except Exception:
        last = traceback.format_exc().splitlines()[-4:]
        report.found.append(f"{' '.join(last)}: {sample!r:.300} {text!r:.300}")
    report.seconds.append(time.process_time() - begun)


def _numbers(
    sample: VideoSample, text: str, processor: ProcessorMixin
) -> Iterator[tuple[str, float]]:
    """All that is said about a response in numbers; what is said in words is only made."""
    parts = reward_breakdown(REWARDS, text, sample)
    yield from parts.items()
    yield "rule_score", rule_score(REWARDS, parts, sample)
    yield "graded_quality", graded_quality(text, sample)
    if sample.task.is_closed_ended:
        yield "answer_quality", answer_quality(parse_response(text), sample)
    assert all(mark.start < mark.end <= len(text) for mark in marks(text, sample))
    case = JudgeCase.scored(sample, text, REWARDS, parts)
    (said,) = RuleJudge().diagnose([case])
    assert said
    json.dumps(judge_messages(case), allow_nan=False).encode()
    placeholders = {processor.image_token_id, processor.video_token_id}
    assert not placeholders & set(plain_ids(processor, text))
    with contextlib.suppress(ValueError):  # all that it may raise
        read_feedback(text)


def growth(build: Callable[[int], str], sample: VideoSample) -> float:
    """How many times longer a text of twice the length takes; 2 where the cost is linear."""
    processor, times = load_processor("tiny/qwen3-vl"), []
    for count in (2000, 4000):
        report = Report()
        for _ in range(5):
            _try(sample, build(count), report, processor)
        times.append(min(report.seconds))
    return times[1] / times[0]


def main() -> int:
    """Fuzz, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    transformers_logging.set_verbosity_error()  # texts longer than the tokenizer has heard of
    with tempfile.TemporaryDirectory() as folder:
        report = fuzz(options.cases, options.seed, Path(folder))
        (sample, *_), _ = read_records(Path(folder) / "world/train.jsonl")
    out = sys.stdout.write
    out(f"{report.records} records, {report.encoded} encoded, {report.responses} responses\n")
    for reason, count in report.refused.most_common(25):
        out(f"  left out {count:6d}: {reason}\n")
    for share in (0.5, 0.99, 0.999, 1.0):
        out(f"a text takes {1000 * report.percentile(share):7.2f} ms at the most, {share:.1%}\n")
    for unit in ("<think>", "<box>[1,2,3,4]</box>", "<t>1</t>s to ", "red circle, ", "["):
        ratio = growth(lambda count, unit=unit: unit * count, sample)
        out(f"twice as many {unit!r} take {ratio:.2f} times as long\n")
    out(f"{len(report.found)} findings\n")
    for text in report.found[:_SHOWN]:
        out(f"  {text}\n")
    return int(bool(report.found))


if __name__ == "__main__":
    sys.exit(main())
