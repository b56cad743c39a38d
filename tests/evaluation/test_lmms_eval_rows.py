import json

import pytest

DATE = "20260102_030405"


@pytest.fixture
def written(tmp_path):
    """Files as lmms-eval 0.7.3 writes them: one of results, one of samples for each task."""

    def build(samples, limit=128, scored=None, model="qwen3_vl", **changes):
        (tmp_path / f"{DATE}_results.json").write_text(
            json.dumps(
                {
                    "results": {task: {"exact_match,none": float("nan")} for task in samples},
                    "configs": {
                        task: {"task": task, "generation_kwargs": {"max_new_tokens": limit}}
                        for task in samples
                    },
                    "n-samples": {
                        task: {"original": 900, "effective": scored or len(rows)}
                        for task, rows in samples.items()
                    },
                    "config": {"model": model, "limit": None},
                }
                | changes
            )
        )
        for task, rows in samples.items():
            lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
            file = tmp_path / f"{DATE}_samples_{task}.jsonl"
            file.write_text("".join(f"{line}\n" for line in lines))
        return tmp_path / f"{DATE}_results.json"

    return build


def read(path):
    from lit_vdistill.evaluation.lmms_eval_rows import read_results, rows_of

    results = read_results(path)
    return rows_of(path, results), results


def sample(**changes):
    """A line of a task that is scored by exact match, as it was written."""
    return {
        "doc_id": 0, "target": "A", "resps": "<think>blue disc</think>\n<answer>A</answer>",
        "filtered_resps": "<answer>A</answer>", "token_counts": [{"output_tokens": 14}],
        "doc_hash": "74234e98", "exact_match": 0.0, "input": "Which colour?\nA. blue",
    } | changes  # fmt: skip


def test_a_row_has_what_lmms_eval_gives_and_null_elsewhere(written):
    [row], _ = read(written({"world_mcq": [sample()]}))
    assert row == {
        "id": "world_mcq/0", "task": "world_mcq",
        "meta": {"doc_id": 0, "scored_text": "<answer>A</answer>"},
        "media": None, "media_type": None, "frame_times_s": None, "question": None,
        "options": None, "facts": {"things": (), "words": {}, "asked": ()}, "envelope": None,
        "problem": None,
        "truth": {"answer": "A", "spans": (), "boxes": (), "key_times": ()},
        "response": "<think>blue disc</think>\n<answer>A</answer>", "is_truncated": False,
        "scores": {"exact_match": 0.0}, "sampled": [], "completion_ids": None,
        "logprobs": None, "prompt": "Which colour?\nA. blue",
    }  # fmt: skip


def test_a_row_has_the_keys_of_every_other_prediction(written, make_sample):
    from lit_vdistill.tracking.predictions import Prediction
    from lit_vdistill.types import Rollout

    ours = Prediction(make_sample(), Rollout("s1", 0, (1,), (0.0,), "B", False, 1.0), (0.5,), {})
    [row], _ = read(written({"world_mcq": [sample()]}))
    assert set(ours.row()) <= set(row)
    assert set(ours.row()["truth"]) == set(row["truth"])


@pytest.mark.parametrize(
    ("record", "score"),
    [
        # Video-MME, WorldSense, MLVU, LongVideoBench, MathVista: what each metric keeps.
        ({"pred_answer": "a", "answer": "A", "score": 1.0, "videoID": "v7"}, 1.0),
        ({"question_id": 3, "score": 0.0, "audio_class": ["Speech", "Event"]}, 0.0),
        ({"task_type": "count", "pred_answer": "B", "answer": "B"}, 1.0),
        ({"parsed_pred": "C", "answer": "B", "duration_group": 60}, 0.0),
        ({"prediction": "3", "answer": "3", "true_false": True}, 1.0),
        # Charades-STA and submissions: worth nothing by itself.
        ({"clip.mp4>>>a person sits>>>[1, 2]": "1 - 2"}, None),
        ({"score": float("nan")}, None),
        ({"score": 10**400}, None),
        ({"score": "1"}, None),
    ],
)
def test_the_score_of_a_record(written, record, score):
    [row], _ = read(written({"task": [sample(metric=record)]}))
    assert row["scores"].get("metric") == score
    assert row["scores"]["exact_match"] == 0.0
    assert set(record) <= set(row["meta"])
    assert row["meta"].get("video") == record.get("videoID")
    assert row["truth"]["answer"] == record.get("answer", "A")


@pytest.mark.parametrize(
    ("changes", "response", "cut"),
    [
        ({"token_counts": [{"output_tokens": 128}]}, "<think>blue disc</think>", True),
        ({"token_counts": [{"output_tokens": 127}]}, "<think>blue disc</think>", False),
        ({"token_counts": [None]}, "<think>blue disc</think>", None),
        ({"token_counts": None}, "<think>blue disc</think>", None),
        ({"resps": [["<think>blue disc</think>"]]}, "<think>blue disc</think>", False),
        ({"resps": "", "filtered_resps": ["é\u2028😀"]}, "", False),
    ],
)
def test_responses_and_who_was_cut_off(written, changes, response, cut):
    changes = {"resps": "<think>blue disc</think>"} | changes
    [row], _ = read(written({"task": [sample(**changes)]}))
    assert (row["response"], row["is_truncated"]) == (response, cut)


def test_a_response_from_which_nothing_was_taken_is_written_once(written):
    line = sample()
    del line["resps"]
    [row], _ = read(written({"task": [line]}))
    assert row["response"] == "<answer>A</answer>"


def test_nan_becomes_null_and_surrogates_survive(written, tmp_path):
    from lit_vdistill import jsonl

    line = json.dumps(sample(filtered_resps="\ud800 A", exact_match=float("nan"), other=1e999))
    rows, results = read(written({"task": [line]}))
    assert rows[0]["scores"] == {}
    assert results["results"]["task"] == {"exact_match,none": None}
    jsonl.write(tmp_path / "predictions.jsonl", rows)
    [(_, again)] = jsonl.read(tmp_path / "predictions.jsonl")
    assert again["meta"]["scored_text"] == "\ud800 A"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 1: not JSON"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "line 1: not JSON"),
        ("[1]", "line 1: expected an object"),
        ('{"doc_id": 1}', "line 1: expected a sample with 'doc_id' and 'filtered_resps'"),
        (sample(resps=["a", "b"]), "line 1: expected one response"),
        (sample(filtered_resps=0.5), "line 1: expected one response, got 0.5"),
    ],
)
def test_a_line_that_is_no_sample(written, line, said):
    with pytest.raises(ValueError, match=said):
        read(written({"task": [line]}))


def test_samples_that_are_missing(written, tmp_path):
    with pytest.raises(ValueError, match=r"scored 3 samples, the file holds 1"):
        read(written({"task": [sample()]}, scored=3))
    (tmp_path / f"{DATE}_samples_task.jsonl").unlink()
    with pytest.raises(ValueError, match="is missing, though"):
        read(tmp_path / f"{DATE}_results.json")


@pytest.mark.parametrize("changes", [{"results": {}}, {"configs": None}, {"results": [1]}])
def test_a_file_that_holds_no_results(written, changes):
    with pytest.raises(ValueError, match="expected an object under"):
        read(written({"task": [sample()]}, **changes))


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("mlvu_dev", []),
        ("mlvu_test", ["six options"]),
        ("worldsense_w_subtitle", ["counts as an answer A"]),
        ("longvideobench_val_v", ["at random", "twice"]),
        ("temporal_grounding_charades", ["collapse"]),
        ("mathvista_testmini_cot", ["judge did not reply"]),
        ("mathverse_testmini_reasoning", ["judged by rules"]),
    ],
)
def test_doubtful_scores_are_told(written, task, told):
    from lit_vdistill.evaluation.lmms_eval_rows import remarks

    rows, results = read(written({task: [sample()]}))
    found = remarks(results, rows, {"transformers": "5.24.0"})
    assert len(found) == len(told)
    for said, expected in zip(found, told, strict=True):
        assert said.startswith(f"{task}: ")
        assert expected in said


def test_truncation_and_positions_are_told(written):
    from lit_vdistill.evaluation.lmms_eval_rows import remarks

    samples = [sample(token_counts=[{"output_tokens": n}]) for n in (128, 7)]
    samples.append(sample(token_counts=[None]))
    rows, results = read(written({"videomme": samples}, model="qwen2_5_vl"))
    cut, unknown, positions = remarks(results, rows, {"transformers": "5.24.0"})
    assert "1 of 3 responses reached max_new_tokens" in cut
    assert "not known" in unknown
    assert "other positions" in positions
    assert len(remarks(results, rows, {"transformers": "5.2.1"})) == 2
