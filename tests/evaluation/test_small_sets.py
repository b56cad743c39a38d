"""Each benchmark reads its small set, and scores what is right and what is nothing."""

from statistics import mean

import pytest

from lit_vdistill.evaluation.benchmark import Answered
from lit_vdistill.evaluation.benchmarks.charades_sta import CharadesSTA
from lit_vdistill.evaluation.benchmarks.longvideo_reason import LongVideoReason
from lit_vdistill.evaluation.benchmarks.tvgbench import TVGBench
from lit_vdistill.evaluation.benchmarks.video_mme_v2 import VideoMMEv2
from lit_vdistill.evaluation.benchmarks.video_mmmu import VideoMMMU
from lit_vdistill.evaluation.benchmarks.vstar import VStar
from lit_vdistill.evaluation.benchmarks.world import World
from lit_vdistill.pool.text_units import sample_in_units
from lit_vdistill.responses.prompts import GROUNDED, render_messages
from tests.evaluation.small_sets import NAMES, small_set

BENCHMARKS = {
    **{
        f"charades_sta/{split}": CharadesSTA(split)
        for split in ("iid", "ood", "novel_composition", "novel_word")
    },
    "charades_sta": CharadesSTA(),
    "longvideo_reason": LongVideoReason(),
    "tvgbench": TVGBench(),
    "video_mme_v2": VideoMMEv2(),
    "video_mmmu": VideoMMMU(),
    "vstar": VStar(),
    "world": World(),
}


def headline(benchmark, answered):
    items = benchmark.items(answered, benchmark.verdicts(answered))
    keys = {key for item in items for key in item.values}
    means = {key: mean(i.values[key] for i in items if key in i.values) for key in keys}
    found = means | benchmark.derived(means)
    assert set(found) <= set(benchmark.scores)
    return found[benchmark.headline]


@pytest.mark.parametrize("name", NAMES)
def test_a_small_set(name, tmp_path):
    small_set(name, tmp_path)
    benchmark = BENCHMARKS[name]
    samples, bad = benchmark.read(tmp_path)
    assert bad == []
    assert len({one.id for one in samples}) == len(samples)
    for sample in samples:
        assert (tmp_path / sample.media).is_file()
        assert render_messages(sample, GROUNDED)
    told = [sample_in_units(one, 1000.0, 1000.0) for one in samples]
    right = [
        Answered(one, f"<think>t</think><answer>{one.task.true_answer(one)}</answer>")
        for one in told
    ]
    # Instants, and boxes in whole thousandths, cost a little.
    assert headline(benchmark, right) > 0.7
    assert headline(benchmark, [Answered(one, "", "undecodable") for one in told]) == 0.0


@pytest.mark.parametrize("name", BENCHMARKS)
def test_rows_of_the_papers_are_fractions_of_its_own_scores(name):
    benchmark = BENCHMARKS[name]
    assert benchmark.headline in benchmark.scores
    for row in benchmark.published:
        assert {key.rpartition("/")[2] for key in row.values} <= set(benchmark.scores)
        assert all(0 <= value <= 1 for value in row.values.values())
        assert row.source.startswith(("VISD Table", "R-MSD Table"))
