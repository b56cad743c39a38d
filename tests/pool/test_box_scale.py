import random
from dataclasses import replace

import pytest

from lit_vdistill.pool.box_scale import box_scale, check_box_scale
from lit_vdistill.responses.writing import tagged_box
from lit_vdistill.types import BoxAt, Evidence, TeacherResponse

NEAR, WILD, WHOLE = "near", "wild", "whole"


def boxes(rng):
    """A box somewhere, in shares."""
    x, y = rng.uniform(0.0, 0.6), rng.uniform(0.0, 0.6)
    return x, y, x + rng.uniform(0.1, 0.4), y + rng.uniform(0.1, 0.4)


@pytest.fixture
def pool_of(make_sample):
    """Samples and a pool in whose answers an edge counts `edges`; others may be wild, or whole."""

    def build(edges, *kinds, count=40, seed=0, task="spatial_grounding"):
        rng, samples, pools = random.Random(seed), [], {}
        for i in range(count):
            truth = boxes(rng)
            evidence = Evidence(spans=((2.0, 8.0),), boxes=(BoxAt(3.0, "dog", truth),))
            samples.append(make_sample(task, "dog", id=f"s{i}", evidence=evidence))
            texts = []
            for kind in kinds:
                noise = [rng.gauss(0.0, 0.02) for _ in range(4)]
                box = {
                    NEAR: [a + b for a, b in zip(truth, noise, strict=True)],
                    WILD: boxes(rng),
                    WHOLE: (0.0, 0.0, 1.0, 1.0),
                }[kind]
                corners = [value * edge for value, edge in zip(box, edges * 2, strict=True)]
                found = tagged_box(BoxAt(0.0, "dog", tuple(corners)))
                texts.append(f"<think>t</think><answer>{found}</answer>")
            pools[f"s{i}"] = [
                TeacherResponse(f"s{i}", k, text, "m", 1.0, 0.9) for k, text in enumerate(texts)
            ]
        return samples, pools

    return build


@pytest.mark.parametrize("edges", [(640, 360), (1920, 1080), (448, 448), (100, 100)])
def test_other_units_are_told_although_half_of_the_answers_are_wrong(pool_of, edges):
    samples, pools = pool_of(edges, NEAR, NEAR, NEAR, WILD, WHOLE, WILD)
    scale = box_scale(samples, pools)
    assert scale is not None
    assert scale.count == 240
    assert scale.edges == pytest.approx(edges, rel=0.15)
    assert scale.is_another
    with pytest.raises(ValueError, match="teacher pool p: expected boxes in thousandths .* Ask"):
        check_box_scale(samples, pools, "p")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "kinds", [[NEAR], [WILD], [WHOLE], [WILD, WHOLE], [NEAR, WILD, WILD, WILD, WHOLE]]
)
def test_thousandths_are_never_taken_for_others_however_wrong(pool_of, kinds, seed):
    samples, pools = pool_of((1000, 1000), *kinds, seed=seed)
    assert not box_scale(samples, pools).is_another
    check_box_scale(samples, pools, "p")


def test_shares_are_told(pool_of):
    """Written with their digits; whole numbers would be 0 and 1."""
    samples, pools = pool_of((1000, 1000), NEAR)
    for sample in samples:
        text = tagged_box(BoxAt(0.0, "dog", (0.0, 0.0, 1.0, 1.0)))
        box = ",".join(f"{value:.3f}" for value in sample.evidence.boxes[0].box)
        shares = f"<think>t</think><answer>{text.replace('0,0,1,1', box)}</answer>"
        pools[sample.id] = [replace(pools[sample.id][0], text=shares)]
    assert box_scale(samples, pools).edges == pytest.approx((1.0, 1.0), rel=0.01)
    assert box_scale(samples, pools).is_another


def test_too_few_boxes_say_nothing(pool_of):
    samples, pools = pool_of((640, 360), NEAR, count=9)
    assert box_scale(samples, pools) is None
    check_box_scale(samples, pools, "p")
    assert box_scale(samples, {}) is None
    assert box_scale([], pools) is None
    for told in ("no box", "<box>[1,2,3]</box>"):
        bad = {
            name: [replace(response, text=f"<think>t</think><answer>{told}</answer>")]
            for name, [response] in pools.items()
        }
        assert box_scale(samples, bad) is None


def test_boxes_without_a_size_or_an_end_break_nothing(pool_of):
    samples, pools = pool_of((640, 360), NEAR)
    for told in ("[0,0,0,0]", f"[1,1,{'9' * 400},{'9' * 400}]", "[900,900,100,100]"):
        text = f"<think>t</think><answer><obj>dog</obj><box>{told}</box></answer>"
        bad = {name: [replace(response, text=text)] for name, [response] in pools.items()}
        check_box_scale(samples, bad, "p")
