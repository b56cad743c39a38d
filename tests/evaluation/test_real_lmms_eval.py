"""A real lmms-eval on the stage-1 student and on clips of the embedded world: `make test-eval`."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import yaml

pytestmark = [pytest.mark.eval, pytest.mark.timeout(600)]
STUDENT = "experiments/stage1/student"
EVERY_FRAME = 1000
_PICK = """\
import json, sys
from qwen_vl_utils import fetch_video
for told in json.loads(sys.argv[1]):
    (frames, meta), _ = fetch_video(
        {"type": "video", **told}, image_patch_size=16, return_video_sample_fps=True,
        return_video_metadata=True,
    )
    indices = [int(i) for i in meta["frames_indices"]]
    times = [i / meta["fps"] for i in indices]
    print(json.dumps({"indices": indices, "times": times, "shape": list(frames.shape)}))
"""


@pytest.fixture(scope="module")
def python():
    from lit_vdistill.evaluation.lmms_eval_command import ENVIRONMENT

    found = Path(ENVIRONMENT).expanduser() / "bin/python"
    if not found.is_file():
        pytest.skip("no lmms-eval environment; make test-eval makes one")
    return found


@pytest.fixture(scope="module")
def tasks(world, tmp_path_factory):
    """A task file of our own: the world's multiple-choice questions, scored by exact match."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = []
    for split in ("train", "test"):
        for line in (world / f"{split}.jsonl").read_text().splitlines():
            row = json.loads(line)
            if row["task"] == "mcq":
                lines = [row["question"]]
                lines += [f"{'ABCD'[i]}. {text}" for i, text in enumerate(row["options"])]
                rows.append(
                    {
                        "video": str(world / row["media"]),
                        "question": "\n".join(lines),
                        "answer": f"<answer>{row['answer']}</answer>",
                    }
                )
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {
        "task": "world_mcq",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "questions.jsonl")}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_visual": "video",
        "doc_to_text": "question",
        "doc_to_target": "answer",
        "generation_kwargs": {"max_new_tokens": 4},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "world_mcq.yaml").write_text(yaml.safe_dump(task))
    return folder, rows


def told(own, /, **changes):
    """The settings that fit the stage-1 student: the world's own size, and no system text."""
    from lit_vdistill.evaluation.lmms_eval import LmmsEvalConfig

    settings = {
        "tasks": "world_mcq", "max_num_frames": 16, "min_pixels": 1024, "max_pixels": 9216,
        "max_new_tokens": 96, "system_prompt": "", "device": "cpu",
        "include_path": str(own[0]),
    }  # fmt: skip
    return LmmsEvalConfig(**(settings | changes))


def test_the_stage_1_student_is_run_and_its_predictions_come_back(python, tasks, tmp_path, capfd):
    from lit_vdistill import jsonl
    from lit_vdistill.evaluation.lmms_eval import run

    run(told(tasks), STUDENT, str(tmp_path))
    said = capfd.readouterr().out
    assert "world_mcq" in said
    assert said == (tmp_path / "lmms_eval.log").read_text()

    rows = [row for _, row in jsonl.read(tmp_path / "predictions.jsonl")]
    assert [row["prompt"] for row in rows] == [row["question"] for row in tasks[1]]
    assert [row["truth"]["answer"] for row in rows] == [row["answer"] for row in tasks[1]]
    # Reasoning is not cut off, is kept, and stands not in what is scored.
    whole = [row for row in rows if not row["is_truncated"]]
    assert whole
    for row in whole:
        assert row["response"].startswith("<think>")
        assert "<think>" not in row["meta"]["scored_text"]
        assert row["scores"] == {
            "exact_match": row["meta"]["scored_text"] == row["truth"]["answer"]
        }
    mean = np.mean([row["scores"]["exact_match"] for row in rows])
    report = json.loads((tmp_path / "lmms_eval.json").read_text())
    assert report["results"]["world_mcq"]["exact_match,none"] == pytest.approx(mean)
    assert report["versions"]["lmms_eval"].startswith("0.7.")
    assert report["command"][0] == str(python)


def test_a_second_run_into_the_same_folder_reads_its_own_files_and_limits_are_kept(
    python, tasks, tmp_path
):
    from lit_vdistill import jsonl
    from lit_vdistill.evaluation.lmms_eval import run

    for limit, new_tokens in ((2, 96), (1, 4)):
        run(told(tasks, limit=limit, max_new_tokens=new_tokens), STUDENT, str(tmp_path))
        rows = [row for _, row in jsonl.read(tmp_path / "predictions.jsonl")]
        assert len(rows) == limit
    assert rows[0]["is_truncated"] is True
    report = json.loads((tmp_path / "lmms_eval.json").read_text())
    assert any("1 of 1 responses reached max_new_tokens" in remark for remark in report["remarks"])


def test_what_it_ends_with_is_told(python, tasks, tmp_path):
    """A task whose file of questions is missing: lmms-eval itself ends with code 0 then."""
    from lit_vdistill.evaluation.lmms_eval import run

    task = yaml.safe_load((tasks[0] / "world_mcq.yaml").read_text())
    task |= {"task": "world_lost", "dataset_kwargs": {"data_files": {"test": "lost.jsonl"}}}
    (tmp_path / "world_lost.yaml").write_text(yaml.safe_dump(task))
    config = told(tasks, tasks="world_lost", include_path=str(tmp_path))
    with pytest.raises(ValueError, match=r"wrote 0 files of results.*lmms_eval\.log"):
        run(config, STUDENT, str(tmp_path / "out"))
    assert "lost.jsonl" in (tmp_path / "out/lmms_eval.log").read_text()
    assert not (tmp_path / "out/predictions.jsonl").exists()


def test_unknown_tasks_are_named_with_the_nearest(python, tasks, tmp_path):
    from lit_vdistill.evaluation.lmms_eval import run

    with pytest.raises(ValueError, match=r"no 'videome'; near it are: .*videomme"):
        run(told(tasks, tasks="world_mcq,videome"), STUDENT, str(tmp_path))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Videos of even and odd length and of several rates, with a picture that moves."""
    from lit_vdistill.world.scenes import write_video

    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    made = {"short": (7, 2), "even": (40, 8), "odd": (97, 25), "ntsc": (61, Fraction(30000, 1001))}
    for name, (count, fps) in made.items():
        frames = rng.integers(0, 255, (count, 96, 128, 3), dtype=np.uint8)
        write_video(root / f"{name}.mp4", frames, fps)
    return root, list(made)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"max_frames": 16, "fps": EVERY_FRAME}, {"max_frames": 16, "fps": float(EVERY_FRAME)}),
        ({"max_frames": 64, "fps": EVERY_FRAME}, {"max_frames": 64, "fps": float(EVERY_FRAME)}),
        ({"max_frames": 64, "fps": 2.0}, {"max_frames": 64, "fps": 2.0}),
    ],
    ids=["16", "64", "by-rate"],
)
def test_our_frames_are_those_of_lmms_eval(python, clips, theirs, ours):
    """The same frames at the same times of the same size; what rounding may change is counted."""
    from lit_vdistill.media.video import FrameConfig, MediaReader

    root, names = clips
    size = {"min_pixels": 3136, "max_pixels": 200704}
    asked = [{"video": str(root / f"{name}.mp4"), **size, **theirs} for name in names]
    said = subprocess.run(
        [python, "-c", _PICK, json.dumps(asked)], capture_output=True, text=True, check=True
    ).stdout
    reader = MediaReader(root, FrameConfig(**ours, **size), factor=32, cache_dir=None)
    for name, line in zip(names, said.splitlines(), strict=True):
        found, medium = json.loads(line), reader.read(f"{name}.mp4", "video")
        assert medium.times_s == pytest.approx(found["times"], abs=1e-3), name
        count, _, height, width = found["shape"]
        assert medium.frames.shape == (count, height, width, 3), name


def test_our_plan_without_a_rate_differs_for_short_videos_of_odd_length(python, clips):
    """We read all 7 frames; Qwen's towers take pairs, so that lmms-eval reads 6 of them."""
    from lit_vdistill.media.video import FrameConfig, MediaReader

    root, _ = clips
    asked = [{"video": str(root / "short.mp4"), "max_frames": 16, "fps": EVERY_FRAME}]
    said = subprocess.run(
        [python, "-c", _PICK, json.dumps(asked)], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(said)["indices"] == [0, 1, 2, 4, 5, 6]
    reader = MediaReader(root, FrameConfig(max_frames=16), factor=32, cache_dir=None)
    assert len(reader.read("short.mp4", "video").times_s) == 7


def test_its_decord_is_not_ours(python):
    asked = "import decord; print(decord.__file__)"
    files = {
        subprocess.run([found, "-c", asked], capture_output=True, text=True, check=True).stdout
        for found in (python, sys.executable)
    }
    assert len(files) == 2
