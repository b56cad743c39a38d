import subprocess
import sys

import pytest

from lit_vdistill.evaluation.benchmark import Answered
from lit_vdistill.evaluation.benchmarks.world import World
from lit_vdistill.pool.quality import greedy_scores
from lit_vdistill.tasks import Task
from lit_vdistill.types import Facts

MODULES = (
    "vstar", "charades_sta", "tvgbench", "video_mme_v2", "video_mmmu", "longvideo_reason", "world",
)  # fmt: skip


def test_the_world_is_read_and_scored_as_validation_scores(world):
    benchmark = World()
    samples, bad = benchmark.read(world)
    assert (len(samples), bad) == (9, [])
    assert samples[0].meta["groups"] == ["task/mcq", "level/easy"]
    for sample in samples:
        text = f"<think>t</think><answer>{sample.task.true_answer(sample)}</answer>"
        (verdict,) = benchmark.verdicts([Answered(sample, text)])
        assert verdict.values["score"] == greedy_scores(text, sample)["score"]
        assert verdict.values["format_rate"] == 1.0
        assert ("tIoU" in verdict.values) == sample.task.answers_span
    assert [benchmark.num_options(one) for one in samples if one.task is Task.BINARY] == [2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<think>t</think><answer>From <t>4</t>s to <t>10</t>s</answer>", (0.5, 1.0, 0.5)),
        ("<answer>From <t>4</t>s to <t>10</t>s</answer>", (0.0, 0.0, 0.0)),
        ("<think>t</think><answer>4 to 10</answer>", (0.0, 1.0, 0.0)),
        ("", (0.0, 0.0, 0.0)),
    ],
)
def test_a_segment_by_hand(make_sample, text, expected):
    (verdict,) = World().verdicts([Answered(make_sample("temporal_grounding"), text)])
    assert tuple(verdict.values[name] for name in ("score", "format_rate", "tIoU")) == expected
    assert (verdict.problem is None) == (expected[1] == 1.0)


def test_no_text_is_worth_nothing_also_of_facts(make_sample):
    facts = Facts(({"colour": "red"},), {"colour": ("red", "blue")}, ("colour",))
    sample = make_sample("open_ended", "a red dog", facts=facts)
    (verdict,) = World().verdicts([Answered(sample, "")])
    assert verdict.values == {"score": 0.0, "format_rate": 0.0, "facts": 0.0}
    assert verdict.problem


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data_root: .*test\.jsonl does not exist"):
        World().read(tmp_path)


def test_no_benchmark_needs_torch():
    names = ", ".join(f"lit_vdistill.evaluation.benchmarks.{module}" for module in MODULES)
    program = f"import sys, {names}; print([m for m in ('torch', 'lightning') if m in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[]\n"
