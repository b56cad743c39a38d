"""VISD's release, row by row: where the paper, its code and we differ, and what we decided.

The rows are those on which the released code and our reading of the paper were found to differ.
Each has a check of what stands here now: a value of `configs/paper/visd_qwen25vl7b.yaml`, or what
the code does.
"""

import contextlib
import io
from copy import deepcopy

import numpy as np
import pytest
import torch
import yaml

from lit_vdistill.__main__ import main
from lit_vdistill.judge.judge import JudgeCase
from lit_vdistill.judge.prompt import judge_messages, read_feedback_leniently
from lit_vdistill.media.frame_images import as_images
from lit_vdistill.media.pictures import Limits, fit_size
from lit_vdistill.media.video import FrameConfig
from lit_vdistill.metrics.vstar import ChainAnswer, VStar, VStarItem
from lit_vdistill.models.ema import EMAWeights
from lit_vdistill.models.layout import Row
from lit_vdistill.models.logprobs import completion_logprobs
from lit_vdistill.models.vlm import VLMConfig
from lit_vdistill.readers.stgr import parse_stgr
from lit_vdistill.responses import grammar
from lit_vdistill.responses.prompts import (
    SHORT,
    TEMPLATES,
    Telling,
    privileged_text,
    render_messages,
)
from lit_vdistill.rewards import Answer, GroundedFormat, ThinkPoint, reward_breakdown
from lit_vdistill.stages.on_policy import PolicyLossConfig
from lit_vdistill.stages.optimizer import with_decay
from lit_vdistill.stages.visd import VISDModule
from lit_vdistill.tasks import Task
from lit_vdistill.types import Medium, VideoSample

FREE = {
    "id": "s", "task": "temporal-spatial free-form QA", "source": "STR_activitynet",
    "video_path": "v.mp4", "question": "What does he lift?", "answer": "A mug.",
    "key_frames": [{"idx": 1, "time": 12.5}, {"idx": 2, "time": 20.0}],
    "key_items": {"1": {"man": [[0.2, 0.25, 0.5, 1.0]]}},
}  # fmt: skip


@pytest.fixture(scope="module")
def paper():
    """The paper's configuration, resolved."""
    path, printed = "configs/paper/visd_qwen25vl7b.yaml", io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
        main(["fit", "--config", path, "--print_config"])
    return yaml.safe_load(printed.getvalue())


@pytest.fixture
def model_args(paper):
    return paper["model"]["init_args"]


@pytest.fixture
def prompt_args(paper):
    return paper["data"]["init_args"]["prompt"]


@pytest.fixture
def frames_args(paper):
    return paper["data"]["init_args"]["frames"]


def options_of(entries, name):
    """The options of the one entry of a class."""
    (found,) = (e for e in entries if e["class_path"].rpartition(".")[2] == name)
    return found["init_args"]


MOVIE = Medium("video", np.zeros((4, 2, 2, 3), np.uint8), (0.0, 2.7, 5.3, 8.0), 10.0)
"""Four frames from the first to the last of ten seconds."""


def test_row_1_frames_are_images_behind_a_line_each(prompt_args):
    assert prompt_args["frames_as"] == "images"
    _, lines = as_images(MOVIE, [], prompt_args["frame_times"])
    (turn,) = render_messages(parse_stgr(FREE), SHORT, lines)
    said = "".join(part.get("text", "<image>") for part in turn["content"])
    assert said.count("<image>\n") == 4
    assert said.endswith("The video lasts 10s.\nWhat does he lift?")


def test_row_2_key_frames_stand_among_them_at_whole_seconds(prompt_args):
    assert prompt_args["key_frames"]
    keys = [(time_s, MOVIE.frames[0]) for time_s in (2.6, 7.9)]
    _, lines = as_images(MOVIE, keys, prompt_args["frame_times"])
    # The last line says 7.5 s, so that 8 s is not reached.
    assert lines.labels == ("0.0s", "2.5s", "3s", "5.0s", "7.5s")


def test_row_3_the_judge_is_served_guided_by_task_and_read_leniently(model_args):
    served = model_args["judge"]["init_args"]["judge"]
    assert served["class_path"].endswith("OpenAIJudge")
    assert served["init_args"]["endpoint"]["model"] == "gpt-5.4"
    replies = served["init_args"]["replies"]
    assert (replies["temperature"], replies["reading"]) == (None, "lenient")
    assert replies["budget_s"] < model_args["credit"]["judge_timeout_s"]
    assert read_feedback_leniently("It looks too late.") == "It looks too late."
    sample = parse_stgr(FREE)
    _, user = judge_messages(JudgeCase(sample, "<think>t</think><answer>A cup.</answer>"))
    assert sample.task.judged_by in user["content"]
    assert "Reference answer: A mug." in user["content"]
    assert len({task.judged_by for task in Task}) > 5


def test_row_4_the_teacher_is_told_times_and_a_correction(model_args):
    credit = model_args["credit"]
    telling = Telling(credit["conditioning"], credit["evidence"], credit["feedback_as"])
    assert telling == Telling("feedback", "times", "correction") == Telling()
    told = privileged_text(parse_stgr(FREE), telling, "look later")
    assert told.endswith(
        "<answer>A mug.</answer>\nKey moments: <t>12.5</t>s, <t>20.0</t>s.\n"
        "Feedback by which an answer to it is to be corrected: look later"
    )
    assert "man" not in told


def test_row_5_the_spatial_reward_is_that_of_the_released_run(model_args):
    assert options_of(model_args["rewards"], "ThinkSpace")["preset"] == "vision_coach"


def test_row_6_rollouts_are_drawn_from_a_nucleus(model_args):
    sampling = model_args["sampling"]
    assert (sampling["temperature"], sampling["top_p"], sampling["top_k"]) == (1.0, 0.95, 50)


def test_row_7_the_rate_does_not_warm_up(model_args):
    assert model_args["optim"]["warmup_ratio"] == 0.0


def test_row_8_a_task_has_a_system_text_and_the_question_stands_as_written(prompt_args):
    template = TEMPLATES[prompt_args["template"]]
    choice = "Why does she stop? A. It rains\nB. A dog barks"
    row = {"id": "m", "task": "General video QA MCQ", "source": "videor1", "video_path": "y.mp4",
           "question": choice, "answer": "A"}  # fmt: skip
    system, user = render_messages(parse_stgr(row), template)
    assert system["content"].endswith("the letter of the option only.")
    assert user["content"][-1]["text"] == choice


def test_row_9_two_frames_a_second_between_four_and_sixteen(frames_args):
    plan = FrameConfig(**frames_args).plan
    seconds = {1.0: 4, 3.4: 6, 7.9: 14, 8.0: 16, 300.0: 16}
    for length_s, count in seconds.items():
        chosen, _ = plan.choose(range(round(30 * length_s)), lambda index: index / 30)
        assert len(chosen) == count


def test_row_10_small_videos_are_scaled_up_and_images_have_their_own_limit(frames_args):
    config = FrameConfig(**frames_args)
    assert fit_size(320, 180, config.limits("video", 28)) == (448, 252)
    assert fit_size(1280, 720, config.limits("video", 28)) == (420, 224)
    assert config.limits("image", 28) == Limits(28, 200_704, 3_136)


def test_row_11_a_line_says_its_share_of_the_length(prompt_args):
    _, lines = as_images(MOVIE, [], prompt_args["frame_times"])
    assert lines.labels == ("0.0s", "2.5s", "5.0s", "7.5s")


def test_row_12_a_time_that_cannot_be_read_is_ignored():
    """So is one without its s; digits and points that are no time void all."""
    assert grammar.mentioned_times("<t>noon</t>s <t>3</t> <t>4.5</t>s") == (4.5,)
    assert grammar.mentioned_times("<t>1.2.3</t>s <t>4.5</t>s") == ()


def test_row_13_the_envelope_is_lenient_in_the_papers_configuration(paper):
    assert paper["data"]["init_args"]["prompt"]["envelope"] == "lenient"
    text = "So <answer>A</answer><think>t</think><answer>B</answer>"
    lenient = grammar.parse_response(text, "lenient")
    assert (lenient.answer, lenient.problem) == ("A", None)
    assert grammar.parse_response(text).problem == "repeated_tags"
    assert VideoSample.__dataclass_fields__["envelope"].default == "strict"


def test_row_14_key_times_without_boxes_count():
    """20.0 s is a key frame without a box: a time there is no distance away."""
    sample = parse_stgr(FREE)
    assert sample.evidence.moments == (12.5, 20.0)
    parts = reward_breakdown([ThinkPoint()], "<think><t>20.0</t>s</think>", sample)
    assert parts["think_point"] == 1.0


def test_row_15_ours_the_teacher_moves_in_float32(paper, families):
    """A hundredth of a small step is lost in bfloat16, in the copy; not in what is kept of it."""
    assert options_of(paper["trainer"]["callbacks"], "EMATeacherUpdate")["mode"] == "ema"
    student = deepcopy(families["qwen3-vl"][0]).bfloat16()
    teacher, moving = deepcopy(student).requires_grad_(False), EMAWeights()
    name = next(name for name in dict(teacher.named_parameters()) if "q_proj" in name)
    goal = student.get_parameter(name).requires_grad_(False).mul_(1.01).float()
    start = teacher.get_parameter(name).float()
    for _ in range(3):
        moving.update(teacher, student, 0.01)
    expected = start.lerp(goal, 1 - 0.99**3)
    torch.testing.assert_close(moving.master[name], expected, rtol=1e-6, atol=1e-9)
    is_moved = moving.master[name] != start
    is_seen = teacher.get_parameter(name).float() != start
    assert is_moved.float().mean() > 0.9
    assert is_seen.float().mean() < 0.1


def test_row_16_ours_log_probabilities_are_float32(families, make_prompt):
    """Also of a network in bfloat16: Δ is taken between float32 numbers."""
    model, processor = families["qwen3-vl"]
    ids = tuple(processor.tokenizer("a red dog").input_ids)
    prompt = make_prompt(processor, "p", "text")
    scores = completion_logprobs(deepcopy(model).bfloat16(), [prompt], [Row(0, ids)])
    assert scores.logprobs.dtype == torch.float32


def test_row_17_ours_a_name_may_have_several_words(make_sample):
    text = "<think>t</think><answer><obj>red car</obj><box>[0,0,1,1]</box></answer>"
    parsed = grammar.parse_response(text)
    assert GroundedFormat()(parsed, make_sample("spatial_grounding")) == 1.0


def test_row_18_norms_and_biases_do_not_decay(model_args):
    assert model_args["optim"]["weight_decay"] == 0.01
    layer = torch.nn.Linear(2, 2)
    decays, rests = with_decay({"name": "policy", "params": list(layer.parameters())}, 0.01)
    assert (decays["params"], rests["params"]) == ([layer.weight], [layer.bias])
    assert (decays["weight_decay"], rests["weight_decay"]) == (0.01, 0.0)


def test_row_19_official_v_star_divides_its_parts_by_what_was_answered():
    def item(has_answer):
        return VStarItem(
            3 if has_answer else None, (0.0, 1.0), (), (ChainAnswer((0.0, 1.0), {}),) * 2,
            has_answer=has_answer, duration_s=10.0,
        )  # fmt: skip

    for is_official, share in ((True, 1.0), (False, 0.5)):
        metric = VStar(is_official=is_official)
        metric.update([item(True), item(False)])
        assert float(metric.compute()["duration/short/acc"]) == share


def test_row_20_ours_sigma_has_a_clock_of_its_own(paper):
    """Three quarters of the epoch's 2 327 steps, whatever `max_steps` is."""
    annealing = options_of(paper["trainer"]["callbacks"], "ProximityAnnealing")
    assert annealing == {"start_s": 4.0, "end_s": 1.0, "num_steps": 1745}


def test_row_21_ours_who_moves_nothing_is_not_judged_nor_replayed(prepare, batch_of, sampled_of):
    """The factor of a rollout whose advantage is 0 does not enter the loss."""
    asked = []

    class Listener:
        identity = "listener"

        def diagnose(self, cases):
            asked.extend(case.text for case in cases)
            return ["look"] * len(cases)

    rewards = [Answer()]
    loss = PolicyLossConfig(group_size=2, kl_coef=0.0)
    stage = prepare(VISDModule(VLMConfig("tiny/qwen3-vl"), rewards, judge=Listener(), loss=loss))
    right, wrong = (f"<think>t</think><answer>{letter}</answer>" for letter in "BA")
    part = sampled_of(rewards, batch_of(["B"], ["B"]), [right, wrong], [right, right])
    method = stage.start_method(part, torch.tensor([1.0, -1.0, 0.0, 0.0]), None)
    method.asked.result()
    assert (method.active, asked) == ([0, 1], [right, wrong])


def test_every_row_is_checked_or_known_to_be_open():
    rows = {int(name.split("_")[2]) for name in globals() if name.startswith("test_row_")}
    assert sorted(rows) == list(range(1, 22))
